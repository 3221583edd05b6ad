"""The engine simulator's heart, and later the replay's: continuous batching by the linear step model.

Theory of operation
-------------------
An engine works in steps. In each, every decoding sequence emits one token, and what is left of the token budget goes
to prompts, first come first served, in chunks (Orca's iteration-level scheduling, Sarathi-Serve's chunked prefill).
With n sequences decoding over KV context tokens, a step costs

    a + b*n + c*KV + sum over chunks of (d*tokens + e*tokens*context)          (`Profile` names the coefficients)

where a chunk's context is the mean position of its tokens, so that a prompt costs d*in + e*in^2/2 however it is cut.
The step in which a prompt is completed emits its first token.

KV: a prompt reserves its whole length when it is admitted; each decode step adds one token per sequence. When that does
not fit, the sequence admitted last loses its KV and goes back to the head of the queue, to be prefilled again together
with what it had said (vLLM's recompute preemption); in such a step nobody is admitted.

Nothing here reads a clock: the caller owns time and adds up `Step.duration_s`. Work is O(1) per step plus O(log n) per
request, because a sequence's progress is the difference of two step numbers; steps that only decode are taken in
closed form when the caller allows (`within_s`), which is what makes a replay fast.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from heapq import heappop, heappush
from math import ceil, sqrt

import msgspec

from proxy.simulator.profile import Profile


class Admission(Enum):
    """The engine's answer to a new request."""

    ACCEPTED = "accepted"
    FULL = "full"
    TOO_LONG = "too long"


class Step(msgspec.Struct, frozen=True, gc=False):
    """One engine step, or `count` successive ones of which only the last let anybody begin, finish or lose its place.

    Tokens leave at the end of the step. `first` are the requests whose first token this is, `finished` those whose last
    one is, `preempted` those sent back to the queue. `input_tokens` were prefilled, `output_tokens` emitted.
    """

    duration_s: float
    count: int = 1
    decoding: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    first: tuple[int, ...] = ()
    finished: tuple[int, ...] = ()
    preempted: tuple[int, ...] = ()


class _Sequence:
    """One request inside the engine: when it last joined the decoders, at step `joined`, it had `spoken` tokens."""

    __slots__ = ("finish_step", "input_tokens", "joined", "output_tokens", "position", "request", "spoken", "target")

    def __init__(self, request: int, input_tokens: int, output_tokens: int, cached_tokens: int) -> None:
        self.request = request
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.position = cached_tokens
        self.target = input_tokens
        self.spoken = 0
        self.joined = 0
        self.finish_step = 0  # 0 while it does not decode


NOBODY: list[_Sequence] = []


class StepModel:
    """One simulated engine replica. The caller names requests by integers, unique among the unfinished."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._sequences: dict[int, _Sequence] = {}
        self._waiting: deque[_Sequence] = deque()
        self._prefilling: _Sequence | None = None
        self._decoding: dict[int, _Sequence] = {}  # in order of admission
        self._finishing: list[tuple[int, int, _Sequence]] = []  # heap by step; stale where finish_step differs
        self._joins = 0
        self._steps = 0
        self._kv_tokens = 0
        self._kv_decoding = 0

    @property
    def unfinished(self) -> int:
        """Requests accepted and neither finished nor cancelled."""
        return len(self._sequences)

    @property
    def waiting(self) -> int:
        """Requests that hold no KV yet, preempted ones included."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Requests in the batch: decoding, or partly prefilled."""
        return len(self._decoding) + (self._prefilling is not None)

    @property
    def kv_tokens(self) -> int:
        """KV tokens held or reserved, at most `Profile.kv_tokens`."""
        return self._kv_tokens

    def emitted(self, request: int) -> int:
        """Tokens that an unfinished request has emitted. Raises `KeyError` for any other."""
        return self._spoken(self._sequences[request])

    def submit(self, request: int, input_tokens: int, output_tokens: int, *, cached_tokens: int = 0) -> Admission:
        """Offer a request that will answer with exactly `output_tokens`; it may join the next step.

        `cached_tokens` of the prompt come from the prefix cache: they hold KV, and cost no prefill. At least one prompt
        token is always computed. Raises `ValueError` for counts below one and for a request that is already inside.
        """
        if input_tokens < 1 or output_tokens < 1 or not 0 <= cached_tokens < input_tokens:
            raise ValueError("a request has prompt tokens, of which some are not cached, and answer tokens")
        if request in self._sequences:
            raise ValueError(f"request {request} is already in the engine")
        limit = self.profile.max_requests
        if limit is not None and len(self._sequences) >= limit:
            return Admission.FULL
        if input_tokens + output_tokens > self.profile.kv_tokens:
            return Admission.TOO_LONG
        sequence = _Sequence(request, input_tokens, output_tokens, cached_tokens)
        self._sequences[request] = sequence
        self._waiting.append(sequence)
        return Admission.ACCEPTED

    def cancel(self, request: int) -> bool:
        """Free the request's slot and KV now. False when it is not inside: finished, cancelled or never accepted."""
        sequence = self._sequences.pop(request, None)
        if sequence is None:
            return False
        if not self._release(sequence):
            self._waiting.remove(sequence)
        return True

    def step(self, within_s: float = 0.0) -> Step | None:
        """Take one step; None when there is nothing to do.

        Until `within_s` seconds are filled it is followed at once by more, up to one that lets somebody begin, finish
        or lose its place: a caller that knows the time of the next arrival passes the time until then.
        """
        if not self._sequences:
            return None
        elapsed_s, count, read_tokens, said_tokens = 0.0, 0, 0, 0
        while True:
            preempted = self._make_room() if self._is_tight else ()
            decoders = len(self._decoding)
            seconds, steps, tokens, joined = self._advance(decoders, within_s - elapsed_s, admit=not preempted)
            elapsed_s += seconds
            count += steps
            read_tokens += tokens
            said_tokens += decoders * steps + len(joined)
            finished = self._finish() if self._finishing and self._finishing[0][0] <= self._steps else ()
            if joined or finished or preempted or elapsed_s >= within_s:
                break
        first = tuple([sequence.request for sequence in joined if sequence.spoken == 1]) if joined else ()
        return Step(elapsed_s, count, decoders, read_tokens, said_tokens, first, finished, preempted)

    @property
    def _is_tight(self) -> bool:
        """Whether not every decoder can write one more token."""
        return self._kv_tokens + len(self._decoding) > self.profile.kv_tokens

    def _advance(self, decoders: int, within_s: float, *, admit: bool) -> tuple[float, int, int, list[_Sequence]]:
        """One step, or several that only decode: seconds, steps, prompt tokens, and whose prompts are now complete."""
        profile, count = self.profile, 1
        self._kv_tokens += decoders
        self._kv_decoding += decoders
        seconds = profile.step_s + profile.decode_s * decoders + profile.kv_s * self._kv_decoding
        if self._prefilling is not None or (admit and self._waiting):
            prefill_s, tokens, joined = self._prefill(profile.max_batched_tokens - decoders, admit)
        else:
            prefill_s, tokens, joined = 0.0, 0, NOBODY
        if tokens:
            seconds += prefill_s
        elif within_s > seconds and admit:
            count = self._decode_steps(decoders, seconds, within_s)
            seconds = _arithmetic_sum(seconds, profile.kv_s * decoders, count)
        self._steps += count
        self._kv_tokens += decoders * (count - 1)
        self._kv_decoding += decoders * (count - 1)
        for sequence in joined:
            self._kv_decoding += sequence.target
        return seconds, count, tokens, joined

    def _spoken(self, sequence: _Sequence) -> int:
        return sequence.spoken + (self._steps - sequence.joined if sequence.finish_step else 0)

    def _make_room(self) -> tuple[int, ...]:
        """Preempt the sequences admitted last until every decoder can write one more token."""
        preempted: list[int] = []
        while self._is_tight:
            sequence = self._prefilling or next(reversed(self._decoding.values()))
            spoken = self._spoken(sequence)
            self._release(sequence)
            sequence.spoken = spoken
            sequence.target = sequence.input_tokens + spoken
            sequence.position = 0
            self._waiting.appendleft(sequence)
            preempted.append(sequence.request)
        return tuple(preempted)

    def _release(self, sequence: _Sequence) -> bool:
        """Take the sequence out of the batch and give its KV back; False when it holds none."""
        if sequence is self._prefilling:
            self._prefilling = None
            self._kv_tokens -= sequence.target
            return True
        if not sequence.finish_step:
            return False
        held = sequence.input_tokens + self._spoken(sequence) - 1  # the last token's KV is not written yet
        self._kv_tokens -= held
        self._kv_decoding -= held
        sequence.finish_step = 0
        del self._decoding[sequence.request]
        return True

    def _prefill(self, budget: int, admit: bool) -> tuple[float, int, list[_Sequence]]:
        """Spend up to `budget` tokens on prompts. Returns seconds, tokens, and the sequences that are now complete."""
        seconds, left = 0.0, budget
        joined: list[_Sequence] = []
        while left > 0:
            sequence = self._prefilling or (self._admit() if admit else None)
            if sequence is None:
                break
            tokens = min(left, sequence.target - sequence.position)
            context = sequence.position + tokens / 2
            seconds += tokens * (self.profile.prefill_s + self.profile.attention_s * context)
            sequence.position += tokens
            left -= tokens
            if sequence.position < sequence.target:
                self._prefilling = sequence
                break
            self._prefilling = None
            self._join(sequence)
            joined.append(sequence)
        return seconds, budget - left, joined

    def _admit(self) -> _Sequence | None:
        """The head of the queue, when a slot and the KV for its whole prompt are free; nobody overtakes it."""
        if not self._waiting or len(self._decoding) >= self.profile.max_seqs:
            return None
        sequence = self._waiting[0]
        if self._kv_tokens + sequence.target > self.profile.kv_tokens:
            return None
        self._kv_tokens += sequence.target
        return self._waiting.popleft()

    def _join(self, sequence: _Sequence) -> None:
        """The prompt is complete at the end of this step: a token is emitted, and the next step decodes another."""
        sequence.spoken += 1
        sequence.joined = self._steps + 1
        sequence.finish_step = sequence.joined + sequence.output_tokens - sequence.spoken
        self._decoding[sequence.request] = sequence
        self._joins += 1
        heappush(self._finishing, (sequence.finish_step, self._joins, sequence))

    def _decode_steps(self, decoders: int, first_s: float, within_s: float) -> int:
        """How many steps that only decode fill `within_s`, end before anyone preempts, and at the first to finish."""
        growth = self.profile.kv_s * decoders / 2
        linear = first_s - growth
        fill = ceil(2 * within_s / (linear + sqrt(linear * linear + 4 * growth * within_s)))
        room = 1 + (self.profile.kv_tokens - self._kv_tokens) // decoders
        return min(fill, room, self._next_finish() - self._steps)

    def _next_finish(self) -> int:
        while (entry := self._finishing[0])[0] != entry[2].finish_step:
            heappop(self._finishing)
        return entry[0]

    def _finish(self) -> tuple[int, ...]:
        """Let go of every sequence that has emitted its last token."""
        finished: tuple[int, ...] = ()
        while self._finishing and self._finishing[0][0] <= self._steps:
            finish_step, _, sequence = heappop(self._finishing)
            if sequence.finish_step != finish_step:
                continue
            self._release(sequence)
            del self._sequences[sequence.request]
            finished += (sequence.request,)
        return finished


def _arithmetic_sum(first: float, difference: float, count: int) -> float:
    return count * first + difference * count * (count - 1) / 2
