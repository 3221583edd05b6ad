"""What an attempt used, where the upstream's word for it is missing, wrong or cut short: the rule, in one place.

Theory of operation
-------------------
1. A report of the end that can be true is taken as it is, also where the stream broke or the client left after it.
2. An upstream that never began to answer, or that refused, has used nothing.
3. Once an upstream has begun to answer, or has been given up on while it was at work, its input was read: the attempt
   costs at least its input, which is never 0.
4. What no final report tells is estimated. Input: what was reported early (Anthropic does), else the request's own
   estimate. Output: the greater of what was reported and of what passed: for a stream the events that carried text,
   times the tokens that an event of this target has had on average; for a document a token for every four bytes, as far
   as so many were allowed, and for embeddings nothing. All of it is marked as estimated.
5. A report cannot be true, and is treated as in 4, when it has no input for a prompt that is there, fewer output tokens
   than half of the events of text that passed, none for a document of kilobytes, or more than twice the output that was
   allowed, reasoning apart. The greater count is charged in each case.

An event is one token at most engines, and several where a provider bundles them or keeps its reasoning to itself; so
that is learned from the replies that reported.
"""

from __future__ import annotations

import msgspec

from proxy.routing.cost import expected_tier
from proxy.routing.outcome import Failure, Usage

BYTES_PER_TOKEN = 4
"""Of a document; its JSON is counted as if it were text, which errs on the dear side."""
OUTPUT_SLACK_TOKENS = 64
"""Providers count a few tokens of their own templates; a limit of one token is not exceeded by two."""
EVENT_SLACK = 4
"""Events that were taken for text and may have been the frame around it."""
LONG_DOCUMENT_BYTES = 4096
"""One that cannot be the envelope of an empty answer."""

_MEMORY = 0.9
_FIRST_EVENTS = 64.0
_TIMED_OUT = (Failure.FIRST_TOKEN_TIMEOUT, Failure.IDLE_TIMEOUT, Failure.TOTAL_TIMEOUT)
_GIVEN_UP = frozenset((Failure.CLIENT_LEFT, Failure.STALLED_CLIENT, Failure.OUTRUN, Failure.SHUT_DOWN, *_TIMED_OUT))


class Seen(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What there is to go by besides the report.

    `target` says whose events these are. `input_tokens` is the request's estimate, `allowed_tokens` the most output
    that all its choices may have together. `events` are those of a stream that carried text, `size_bytes` is the length
    of a document. `began` is what `has_begun` says; `is_final` says that the report is the one of the end. `generates`
    is False for embeddings. `tier` is the service tier that the stream named, `asked_tier` the one that was asked for.
    """

    target: str
    input_tokens: int
    allowed_tokens: int | None = None
    events: int = 0
    size_bytes: int = 0
    began: bool = True
    is_final: bool = True
    generates: bool = True
    tier: str = ""
    asked_tier: str = ""


class TokensPerEvent:
    """The tokens that an event of text has, by target: the ratio of two sums that forget at the same rate.

    One for all attempts of a process; as many entries as policies have had targets.
    """

    __slots__ = ("_sums",)

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}

    def observe(self, target: str, events: int, output_tokens: int) -> None:
        """Learn from a stream that reported its output."""
        if events > 0:
            tokens, of = self._sums.get(target, (_FIRST_EVENTS, _FIRST_EVENTS))
            self._sums[target] = (tokens * _MEMORY + output_tokens, of * _MEMORY + events)

    def tokens(self, target: str, events: int) -> int:
        """How many tokens so many events are, rounded up: as learned, and never less than one each."""
        tokens, of = self._sums.get(target, (1.0, 1.0))
        return max(events, -int(-(events * tokens / of) // 1))


def has_begun(status: int | None, failure: Failure | None, *, error_came_first: bool) -> bool:
    """Whether an upstream is taken to have read its input.

    It has where it answered with success, unless it then said that it was full or began with an error; and where it had
    not answered yet, but was given up on: its provider bills what it had begun.
    """
    if status is None:
        return failure in _GIVEN_UP
    return status < 300 and failure is not Failure.FULL and not error_came_first


def reckon(reported: Usage | None, seen: Seen, per_event: TokensPerEvent) -> Usage:
    """What the attempt used, by the rule of this module's text."""
    if reported is not None and not (reported.input_tokens or reported.output_tokens):
        reported = None  # what a translated stream opens with
    if reported is not None and seen.is_final and is_credible(reported, seen):
        if seen.events:
            per_event.observe(seen.target, seen.events, reported.output_tokens)
        return reported
    if reported is None and not seen.began:
        return Usage()
    return _estimate(reported or Usage(), seen, per_event)


def is_credible(reported: Usage, seen: Seen) -> bool:
    """Whether a report can be true, after all that passed."""
    if not reported.input_tokens and seen.input_tokens:
        return False
    if seen.events and (not reported.output_tokens or 2 * reported.output_tokens + EVENT_SLACK < seen.events):
        return False
    if not reported.output_tokens and seen.generates and seen.size_bytes > LONG_DOCUMENT_BYTES:
        return seen.allowed_tokens == 0
    if seen.allowed_tokens is None:
        return True
    return reported.output_tokens - reported.reasoning_tokens <= 2 * seen.allowed_tokens + OUTPUT_SLACK_TOKENS


def _estimate(reported: Usage, seen: Seen, per_event: TokensPerEvent) -> Usage:
    passed = 0
    if seen.events:
        passed = per_event.tokens(seen.target, seen.events)
    elif seen.generates:
        passed = -(-seen.size_bytes // BYTES_PER_TOKEN)
        if seen.allowed_tokens is not None:
            passed = min(passed, seen.allowed_tokens)
    return msgspec.structs.replace(
        reported,
        input_tokens=reported.input_tokens or max(1, seen.input_tokens),
        output_tokens=max(reported.output_tokens, passed),
        service_tier=reported.service_tier or seen.tier or expected_tier(seen.asked_tier),
        estimated=True,
    )
