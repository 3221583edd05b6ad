"""The rates of tenants, keys and routes: whether one more request fits into the minute.

Theory of operation
-------------------
A limit belongs to a *scope*, and a request is held against every scope that it falls under: all of them must have room.
Use is counted over a sliding minute by `signals/`, all proxies together; a request that is refused uses nothing. Tokens
are estimated while a request is on its way and settled by its reply, so a long answer is paid for by those that follow.
Limits of tenants and keys, and of a route under `require`, refuse; those under `want` are recorded, like those in
shadow mode.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto

import msgspec

from proxy.policy.model import UNLIMITED, Limits, Mode, Route
from proxy.routing.facts import Facts
from proxy.routing.plan import Exclusion
from proxy.routing.readings import Rate, Rates
from proxy.routing.rules import expected_output_tokens

UNUSED = Rate()
CONCURRENCY_RETRY_AFTER_S = 1.0


class Manner(Enum):
    """What becomes of a request that does not fit: refused, served and recorded, or only recorded as a shadow."""

    REQUIRE = auto()
    WANT = auto()
    SHADOW = auto()


class Held(msgspec.Struct, frozen=True, gc=False):
    """One scope that a request is held against; `rule` begins the name under which a miss is recorded."""

    scope: str
    rule: str
    limits: Limits
    manner: Manner


class Over(msgspec.Struct, frozen=True, gc=False):
    """A limit that one more request would exceed; there is room again after `retry_after_s`."""

    held: Held
    limit: str
    used: int
    allowed: int
    retry_after_s: float

    @property
    def exclusion(self) -> Exclusion:
        """For the record: it speaks of the request, so no target is named."""
        hard = self.held.manner is not Manner.WANT
        observed, limit = f"{self.used} used by {self.held.scope}", str(self.allowed)
        return Exclusion("", f"{self.held.rule}.{self.limit}", observed, limit, hard)


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What the limits say of one request: `refused` by the first that refuses, wishes not met, and shadows."""

    refused: Over | None
    wanted: tuple[Exclusion, ...]
    shadow: tuple[Exclusion, ...]


def of_route(route: Route) -> tuple[Held, ...]:
    """The limits under a route's rules."""
    scope = f"route:{route.name}"
    manners = (
        ("require", route.require.limits, Manner.REQUIRE),
        ("want", route.want.limits, Manner.WANT),
        ("require", route.shadow_require.limits, Manner.SHADOW),
        ("want", route.shadow_want.limits, Manner.SHADOW),
    )
    return tuple(Held(scope, rule, limits, manner) for rule, limits, manner in manners if limits)


def of_caller(facts: Facts) -> tuple[Held, ...]:
    """The limits of the request's tenant and key."""
    held: tuple[Held, ...] = ()
    if facts.tenant.limits is not UNLIMITED:
        held += (_callers("tenant", facts.tenant.name, facts.tenant.limits),)
    if facts.key.limits is not UNLIMITED:
        held += (_callers("key", facts.key.name, facts.key.limits),)
    return held


def judge(held: Iterable[Held], facts: Facts, rates: Rates) -> Verdict:
    """Ask every limit about one more request."""
    refused: Over | None = None
    wanted: tuple[Exclusion, ...] = ()
    shadow: tuple[Exclusion, ...] = ()
    for one in held:
        over = _over(one, facts, rates.get(one.scope, UNUSED))
        if over is None:
            continue
        if one.manner is Manner.SHADOW:
            shadow += (over.exclusion,)
        elif one.manner is Manner.WANT:
            wanted += (over.exclusion,)
        elif refused is None:
            refused = over
    return Verdict(refused, wanted, shadow)


def scopes(held: tuple[Held, ...]) -> tuple[str, ...]:
    """The scopes, each once: where the request is to be counted."""
    return tuple(dict.fromkeys([one.scope for one in held]))


def estimated_tokens(facts: Facts) -> int:
    """What a request is taken to use until its reply tells: its input, and the output it allows itself."""
    return facts.input_tokens + expected_output_tokens(facts)


def _callers(kind: str, name: str, limits: Limits) -> Held:
    manner = Manner.SHADOW if limits.mode is Mode.SHADOW else Manner.REQUIRE
    return Held(f"{kind}:{name}", kind, limits, manner)


def _over(held: Held, facts: Facts, rate: Rate) -> Over | None:
    limits = held.limits
    if limits.rpm is not None and rate.requests >= limits.rpm:
        return Over(held, "rpm", rate.requests, limits.rpm, rate.frees_in_s)
    if limits.tpm is not None and rate.tokens + estimated_tokens(facts) > limits.tpm and rate.tokens:
        return Over(held, "tpm", rate.tokens, limits.tpm, rate.frees_in_s)
    if limits.concurrency is not None and rate.in_flight >= limits.concurrency:
        return Over(held, "concurrency", rate.in_flight, limits.concurrency, CONCURRENCY_RETRY_AFTER_S)
    return None
