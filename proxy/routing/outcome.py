"""How one attempt ended, and what it used.

Theory of operation
-------------------
An `Outcome` is the only thing that flows back from an upstream into signals, meters and telemetry. `Failure` fixes two
facts about every way of failing: whether another target may be tried, and whether it counts against this one's health.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from proxy.routing.plan import Attempt, Cause


class Failure(Enum):
    """(label, another target may be tried before commit, counts against the target's health)."""

    CONNECT = ("connect", True, True)
    CONNECT_TIMEOUT = ("connect_timeout", True, True)
    FIRST_TOKEN_TIMEOUT = ("first_token_timeout", True, True)
    IDLE_TIMEOUT = ("idle_timeout", True, True)
    TOTAL_TIMEOUT = ("total_timeout", False, True)
    FULL = ("full", True, False)
    CREDENTIALS = ("credentials", True, True)
    MISSING = ("missing", True, False)
    REJECTED = ("rejected", False, False)
    FAULTED = ("faulted", True, True)
    PROTOCOL = ("protocol", True, True)
    BROKEN = ("broken", True, True)
    STALLED_CLIENT = ("stalled_client", False, False)
    CLIENT_LEFT = ("client_left", False, False)
    OUTRUN = ("outrun", False, False)
    SHUT_DOWN = ("shut_down", False, False)
    BUDGET = ("budget_exceeded", False, False)

    def __init__(self, label: str, retryable: bool, unhealthy: bool) -> None:
        self.label = label
        self.retryable = retryable
        self.unhealthy = unhealthy


class Usage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Tokens of one attempt, all of them in `input_tokens` and `output_tokens`; every other count is a part of one.

    Parts of the input: `cached_input_tokens` were read from the provider's cache, `cache_write_tokens` were written to
    it, and of those `cache_write_1h_tokens` to be kept for an hour; `audio_input_tokens`. Parts of the output:
    `reasoning_tokens`, `audio_output_tokens`. `service_tier` is the one that the provider says it served (`priority`,
    `flex`, `batch`), empty where it says nothing or nothing special. `estimated` marks counts that no upstream
    confirmed: never a silent zero.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    service_tier: str = ""


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One attempt's end. Times are seconds: `ttft_s` to the first content event, `itl_s` the mean gap after it.

    `status` is the upstream's HTTP status, None when it never answered. `committed` says that content reached the
    client, after which nothing is retried. `retry_after_s` is the upstream's own wish. `started_at` is on the monotonic
    clock.
    """

    attempt: Attempt
    status: int | None
    failure: Failure | None
    committed: bool
    total_s: float
    ttft_s: float | None = None
    itl_s: float | None = None
    usage: Usage = Usage()
    retry_after_s: float | None = None
    detail: str = ""
    started_at: float = 0.0

    @property
    def awaited_in_vain(self) -> bool:
        """Whether the first token was still to come after `total_s`, which was long.

        So it is at a time-out, and when a copy answered first; the copy itself had less time than that.
        """
        failure = self.failure
        outrun = failure is Failure.OUTRUN and self.attempt.cause is not Cause.HEDGE
        return outrun or failure is Failure.FIRST_TOKEN_TIMEOUT
