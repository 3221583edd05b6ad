"""The rates of tenants, keys and routes: whether one more request fits into the minute.

Theory of operation
-------------------
A limit belongs to a *scope*, and a request is held against every scope that it falls under: all of them must have room.
Each limit is a bucket that holds a minute's worth and is refilled all the time; `meters/buckets.py` keeps it, all
proxies together, and says what this one may use of it. A request that is refused uses nothing. Tokens are estimated
while a request is on its way and settled by its reply, so a long answer is paid for by those that follow. A request
that is larger than a whole minute is served when the bucket is full.

Limits of tenants and keys, and of a route under `require`, refuse; those under `want` are recorded, like those in
shadow mode. These have buckets of their own, from which a request takes only what fits: what is beyond a limit that
refuses is not used either.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto

import msgspec

from proxy.policy.model import UNLIMITED, Limits, Mode, Route, Snapshot
from proxy.routing.facts import Facts
from proxy.routing.plan import Exclusion
from proxy.routing.readings import LeasedRates, Rate, Rates
from proxy.routing.rules import expected_output_tokens

UNUSED = Rate()
CONCURRENCY_RETRY_AFTER_S = 1.0


class Manner(Enum):
    """What becomes of a request that does not fit: refused, served and recorded, or only recorded as a shadow."""

    REQUIRE = auto()
    WANT = auto()
    SHADOW = auto()


class Held(msgspec.Struct, frozen=True, gc=False):
    """One scope that a request is held against; `rule` begins the name under which a miss is recorded.

    `bucket` is where it is counted: the scope, or, where nothing is refused, a name that no scope has.
    """

    scope: str
    rule: str
    limits: Limits
    manner: Manner
    bucket: str = ""


class Over(msgspec.Struct, frozen=True, gc=False):
    """A limit that one more request would exceed; there is room again after `retry_after_s`. Of what is `used`, so much
    is not, but held `elsewhere`. `among` are the buckets of all limits that the request was held against.
    """

    held: Held
    limit: str
    used: int
    allowed: int
    retry_after_s: float
    elsewhere: int = 0
    among: tuple[str, ...] = ()

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


NOTHING_OVER = Verdict(None, (), ())


def of_route(route: Route) -> tuple[Held, ...]:
    """The limits under a route's rules."""
    scope = f"route:{route.name}"
    manners = (
        ("require", route.require.limits, Manner.REQUIRE),
        ("want", route.want.limits, Manner.WANT),
        ("require", route.shadow_require.limits, Manner.SHADOW),
        ("want", route.shadow_want.limits, Manner.SHADOW),
    )
    return tuple(_held(scope, rule, limits, manner) for rule, limits, manner in manners if limits)


def of_caller(facts: Facts) -> tuple[Held, ...]:
    """The limits of the request's tenant and key."""
    held: tuple[Held, ...] = ()
    if facts.tenant.limits is not UNLIMITED:
        held += (_callers("tenant", facts.tenant.name, facts.tenant.limits),)
    if facts.key.limits is not UNLIMITED:
        held += (_callers("key", facts.key.name, facts.key.limits),)
    return held


def of_policy(snapshot: Snapshot) -> Iterator[Held]:
    """All limits of all tenants, keys and routes; one that several keys share comes once for each of them."""
    for tenant in snapshot.tenants.values():
        if tenant.limits:
            yield _callers("tenant", tenant.name, tenant.limits)
    for key in snapshot.keys.values():
        if key.limits:
            yield _callers("key", key.name, key.limits)
    for route in snapshot.routes:
        yield from of_route(route)


def judge(held: tuple[Held, ...], facts: Facts, rates: Rates, buckets: tuple[str, ...] | None = None) -> Verdict:
    """Ask every limit about one more request; `buckets` are theirs, where somebody has them at hand."""
    if buckets is None:
        buckets = scopes(held)
    if isinstance(rates, LeasedRates) and rates.fit(buckets, estimated_tokens(facts)):
        return NOTHING_OVER
    refused: Over | None = None
    wanted: tuple[Exclusion, ...] = ()
    shadow: tuple[Exclusion, ...] = ()
    for one in held:
        over = _over(one, facts, used(one, rates))
        if over is None:
            continue
        if one.manner is Manner.SHADOW:
            shadow += (over.exclusion,)
        elif one.manner is Manner.WANT:
            wanted += (over.exclusion,)
        elif refused is None:
            refused = msgspec.structs.replace(over, among=buckets)
    return Verdict(refused, wanted, shadow)


def used(held: Held, rates: Rates) -> Rate:
    """What is used of a limit: of its own bucket, where that is known."""
    rate = rates.get(held.bucket)
    return rates.get(held.scope, UNUSED) if rate is None else rate


def given(live: Rates, assumed: Rates) -> Rates:
    """What is known of rates, where something else is assumed of some scopes: of all their buckets, then."""
    others = tuple([f".{scope}" for scope in assumed])
    return {**{name: rate for name, rate in live.items() if not name.endswith(others)}, **assumed}


def scopes(held: tuple[Held, ...]) -> tuple[str, ...]:
    """The buckets: where the request is to be counted."""
    return tuple([one.bucket for one in held])


def estimated_tokens(facts: Facts) -> int:
    """What a request is taken to use until its reply tells: its input, and the output it allows itself."""
    return facts.input_tokens + expected_output_tokens(facts) * facts.choices


def _callers(kind: str, name: str, limits: Limits) -> Held:
    manner = Manner.SHADOW if limits.mode is Mode.SHADOW else Manner.REQUIRE
    return _held(f"{kind}:{name}", kind, limits, manner)


def _held(scope: str, rule: str, limits: Limits, manner: Manner) -> Held:
    prefix = {Manner.REQUIRE: "", Manner.WANT: "want.", Manner.SHADOW: f"shadow.{rule}."}[manner]
    return Held(scope, rule, limits, manner, prefix + scope)


def _over(held: Held, facts: Facts, rate: Rate) -> Over | None:
    limits = held.limits
    if limits.rpm is not None and rate.requests >= limits.rpm:
        return Over(held, "rpm", rate.requests, limits.rpm, rate.frees_in_s, rate.requests_elsewhere)
    if limits.tpm is not None and rate.tokens + estimated_tokens(facts) > limits.tpm and rate.tokens:
        waits_s = _refilled_in_s(rate, estimated_tokens(facts), limits.tpm)
        return Over(held, "tpm", rate.tokens, limits.tpm, waits_s, rate.tokens_elsewhere)
    if limits.concurrency is not None and rate.in_flight >= limits.concurrency:
        waits_s, elsewhere = CONCURRENCY_RETRY_AFTER_S, rate.in_flight_elsewhere
        return Over(held, "concurrency", rate.in_flight, limits.concurrency, waits_s, elsewhere)
    return None


def _refilled_in_s(rate: Rate, tokens: int, limit: int) -> float:
    """When so many tokens fit; a request larger than the limit waits for all of it."""
    if not rate.tokens_per_s:
        return rate.frees_in_s
    return max(rate.frees_in_s, (rate.tokens + min(tokens, limit) - limit) / rate.tokens_per_s)
