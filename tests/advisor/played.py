"""An experiment's runs as a simulated engine carries them out, in no time: what a calibration would have observed."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from proxy.advisor.experiment import APART_TOKENS, SETTLED_TOKENS, Run
from proxy.advisor.timings import Observed, Stream
from proxy.simulator.profile import Profile
from proxy.simulator.step_model import Admission, StepModel

ENDLESS = 5_000


@dataclass
class _Asked:
    sent_s: float
    prompt_tokens: int
    times_s: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)

    @property
    def stream(self) -> Stream:
        return Stream(
            sent_s=self.sent_s,
            prompt_tokens=self.prompt_tokens,
            times_s=tuple(self.times_s),
            tokens=tuple(self.tokens),
        )


class Played:
    """One run. Events come late by up to `late_s`, and a request reaches the engine `request_s` after it was sent."""

    def __init__(self, profile: Profile, *, request_s: float = 0.0, late_s: float = 0.0, seed: int = 1) -> None:
        self._model = StepModel(profile)
        self._request_s = request_s
        self._late_s = late_s
        self._random = Random(seed)
        self._now = 0.0
        self._asked: list[_Asked] = []

    def observed(self, run: Run) -> Observed:
        decoders = [self._ask(run.prompt_tokens, ENDLESS) for _ in range(run.decoders)]
        self._until(decoders, 1)
        joined = []
        for tokens in run.joining:
            self._until(decoders, APART_TOKENS)
            prompt = self._ask(tokens, 1)
            joined.append(prompt)
            self._until([prompt], 1)
        self._until(decoders, APART_TOKENS if joined else SETTLED_TOKENS)
        return Observed(
            decoders=tuple(one.stream for one in decoders),
            joined=tuple(one.stream for one in joined),
            held_out=run.held_out,
        )

    def _ask(self, prompt_tokens: int, answer_tokens: int) -> _Asked:
        assert self._model.submit(len(self._asked), prompt_tokens, answer_tokens) is Admission.ACCEPTED
        asked = _Asked(self._now - self._request_s, prompt_tokens)
        self._asked.append(asked)
        return asked

    def _until(self, asked: list[_Asked], more: int) -> None:
        wanted = [sum(one.tokens[-1:]) + more for one in asked]
        while any(sum(one.tokens[-1:]) < count for one, count in zip(asked, wanted, strict=True)):
            self._step()

    def _step(self) -> None:
        step = self._model.step()
        assert step is not None
        self._now += step.duration_s
        for request, one in enumerate(self._asked):
            count = self._emitted(request, one, step.finished)
            if count > sum(one.tokens[-1:]):
                seen_s = self._now + self._random.uniform(0.0, self._late_s)
                one.times_s.append(max([seen_s, *one.times_s[-1:]]))
                one.tokens.append(count)

    def _emitted(self, request: int, one: _Asked, finished: tuple[int, ...]) -> int:
        if request in finished:
            return sum(one.tokens[-1:]) + 1
        try:
            return self._model.emitted(request)
        except KeyError:
            return 0


def played(profile: Profile, runs: tuple[Run, ...], **how: float) -> list[Observed]:
    """What each of the runs shows of an engine that steps as `profile` says."""
    return [Played(profile, seed=seed, **how).observed(run) for seed, run in enumerate(runs)]  # type: ignore[arg-type]
