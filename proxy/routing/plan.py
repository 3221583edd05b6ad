"""The answer of the router: an ordered plan, or a refusal; either one says why.

Theory of operation
-------------------
A `Decision` is a value that carries its reasons. `Plan.attempts` is everything the relay may try, best first; the relay
never looks beyond it, so a gate that left a target out of the plan has left it out of every retry too.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from proxy.policy.model import Budget, Target


class Cause(StrEnum):
    """Why an attempt stands where it does in the plan."""

    PREFERRED = "preferred"
    SPILLOVER = "spillover"
    FALLBACK = "fallback"
    HEDGE = "hedge"


class Exclusion(msgspec.Struct, frozen=True, gc=False):
    """One target left out, by which rule, and what was observed against which limit. `hard` is a gate.

    `target` is empty where the rule speaks of the request and not of a target: a tenant's rate, say.
    """

    target: str
    rule: str
    observed: str
    limit: str
    hard: bool

    def __str__(self) -> str:
        return f"{self.target}: {self.rule} {self.observed} against {self.limit}"


class Estimate(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was predicted of an attempt on a dedicated replica, in seconds, as its profile has it.

    What the decision reckoned with is that times the factors that the replica had; `saturated` says that it expected
    full steps. `ttft_aim_s` and `itl_aim_s` are what the route wants. `hit_tokens` of the prompt were taken to be
    cached, and the answer to have `output_tokens`.
    """

    ttft_s: float
    itl_s: float
    saturated: bool
    ttft_factor: float
    itl_factor: float
    ttft_aim_s: float
    itl_aim_s: float
    hit_tokens: int
    output_tokens: float


class Attempt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One try: which target and replica, under which upstream model name, and why here.

    `ordinal` is the place in the plan, counted from 0. `estimate` is None where nothing is predicted.
    """

    target: Target
    replica: int
    model: str
    ordinal: int
    cause: Cause
    reason: str
    estimate: Estimate | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The lawful and able targets in order. `relaxed` says that the first attempt misses one of the route's `want`s.

    `shadow` is what rules in shadow mode would have left out, had they been in force. `scopes` are the rate limits'
    under which the request is to be counted, and `budgets` those that its attempts are to be held against. `served_as`
    is the public model whose targets these are, when a spent budget has put another in the place of the one asked for.
    """

    route: str
    attempts: tuple[Attempt, ...]
    excluded: tuple[Exclusion, ...] = ()
    relaxed: bool = False
    max_failovers: int = 1
    shadow: tuple[Exclusion, ...] = ()
    scopes: tuple[str, ...] = ()
    budgets: tuple[Budget, ...] = ()
    served_as: str | None = None


class Refusal(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """No attempt is made, or none is left. Rendered by `api/errors.py` in the caller's own protocol.

    `rule` is the refusing rule (a gate's name, `capacity`, `auth`, `body` ...); `message` is lower case, without a full
    stop, and free of secrets. `retryable` becomes `x-should-retry`, which the OpenAI SDKs obey.
    `verbatim` is the upstream's own error body when that is in the caller's protocol already.
    `scopes` are the rate limits' that the request was held against when one of them refused it. `headers` go out with
    the refusal.
    """

    status: int
    code: str
    message: str
    rule: str
    type: str = "invalid_request_error"
    param: str | None = None
    route: str = ""
    retry_after_s: float | None = None
    retryable: bool | None = None
    excluded: tuple[Exclusion, ...] = ()
    verbatim: bytes | None = None
    shadow: tuple[Exclusion, ...] = ()
    scopes: tuple[str, ...] = ()
    headers: tuple[tuple[bytes, bytes], ...] = ()


Decision = Plan | Refusal
