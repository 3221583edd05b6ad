"""Readings and rates in plain words, as a policy test or a command line has them.

Theory of operation
-------------------
The words are those of a policy's rules (`ttft_p99`, `uptime`, `perceived_tps`), so that a case reads like the rule that
it is about; the work of a dedicated replica is told in those of its `Load`. All times are relative: `full: 5s` is full
for five more seconds after `NOW_S`. What is not said is not known, and a target of which nothing is said is one that
nobody has observed.
"""

# ruff: noqa: RUF009 - `key()` is `dataclasses.field()` with a reader in it

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from math import nan
from typing import Any

import msgspec

from proxy.cases.request import whole
from proxy.policy import units, words
from proxy.policy.document import Loc
from proxy.policy.findings import Findings
from proxy.policy.model import Lane, Snapshot, Target
from proxy.policy.problem import Mistake
from proxy.policy.shape import BROKEN, key, one, shaped
from proxy.policy.variables import shown
from proxy.policy.words import did_you_mean
from proxy.routing.readings import Breaker, Load, Quantiles, Rate, Rates, Reading, Readings
from proxy.routing.rules import FAILURES_THAT_CONDEMN

NOW_S = 1000.0
"""The time of every case, on the clock of its readings."""

USUAL_WAIT_S = 1.0
"""How long an engine stays full, or a quota used up, of which only that is said."""

USUAL_EJECTION_S = 5.0
"""How long a breaker stays open of which only that is said."""

MOST_FACTOR = 1000
"""An engine that is so many times slower than its profile has another."""


def span(value: object) -> float:
    """`true` -> a usual while, `5s` -> 5.0, `false` -> 0.0."""
    if isinstance(value, bool):
        return USUAL_WAIT_S if value else 0.0
    try:
        return units.duration_s(value)
    except Mistake:
        raise Mistake(f"expected `true` or a duration, got {shown(value)}", "write `true` or `5s`") from None


def factor(value: object) -> float:
    """`1.4` -> 1.4: how many times as long as its profile says."""
    try:
        number = float(str(value))
    except ValueError:
        number = nan
    if not MOST_FACTOR >= number > 0:
        raise Mistake(
            f"expected a factor, got {shown(value)}", f"write a number above 0, to {MOST_FACTOR}, such as `1.4`"
        )
    return number


def successes(value: object) -> float:
    """`98%` -> 0.98; unlike an objective it may be `0%`."""
    return 0.0 if re.fullmatch(r"0+(\.0+)?\s?%", str(value)) else units.share(value)


_DURATION = one(units.duration_s)
_SPEED = one(units.tokens_per_s)
_WHOLE = one(whole)
_SPAN = one(span)
_FACTOR = one(factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingSpec:
    """One replica as observed; `in_flight` is the replica's own.

    From any of the last six on, its work is known, and decides; without them its requests in flight do. A queue without
    a number of requests is one request's.
    """

    in_flight: int = key(_WHOLE, default=0)
    breaker: Breaker = key(one(words.one_of(Breaker)), default=Breaker.CLOSED)
    full: float = key(_SPAN, default=0.0)
    paced: float = key(_SPAN, default=0.0)
    uptime: float | None = key(one(successes), default=None)
    failures: int | None = key(_WHOLE, default=None)
    ttft_p50: float | None = key(_DURATION, default=None)
    ttft_p90: float | None = key(_DURATION, default=None)
    ttft_p95: float | None = key(_DURATION, default=None)
    ttft_p99: float | None = key(_DURATION, default=None)
    itl_p50: float | None = key(_DURATION, default=None)
    itl_p90: float | None = key(_DURATION, default=None)
    itl_p95: float | None = key(_DURATION, default=None)
    itl_p99: float | None = key(_DURATION, default=None)
    e2e_p50: float | None = key(_DURATION, default=None)
    e2e_p90: float | None = key(_DURATION, default=None)
    e2e_p95: float | None = key(_DURATION, default=None)
    e2e_p99: float | None = key(_DURATION, default=None)
    perceived_tps: float | None = key(_SPEED, default=None)
    perceived_tps_p50: float | None = key(_SPEED, default=None)
    perceived_tps_p90: float | None = key(_SPEED, default=None)
    perceived_tps_p95: float | None = key(_SPEED, default=None)
    waiting: int | None = key(_WHOLE, default=None)
    queued_tokens: int | None = key(_WHOLE, default=None)
    decoding: int | None = key(_WHOLE, default=None)
    context_tokens: int | None = key(_WHOLE, default=None)
    ttft_factor: float | None = key(_FACTOR, default=None)
    itl_factor: float | None = key(_FACTOR, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateSpec:
    """What a scope has used of its minute; there is room for another request in `frees_in`."""

    requests: int = key(_WHOLE, default=0)
    tokens: int = key(_WHOLE, default=0)
    in_flight: int = key(_WHOLE, default=0)
    frees_in: float = key(_DURATION, default=0.0)


_READING = shaped(ReadingSpec)
_RATE = shaped(RateSpec)


def read_readings(values: object, snapshot: Snapshot, loc: Loc, findings: Findings) -> Readings:
    """Readings by target name; a mapping stands for every replica, a list has one for each. Mistakes are noted."""
    found: dict[str, tuple[Reading, ...]] = {}
    for name, value in _items(values, loc, findings, "write `target: {in_flight: 64}`"):
        at = (*loc, name)
        target = snapshot.targets.get(name)
        if target is None:
            hint = did_you_mean(name, snapshot.targets) or "name a target of the policy"
            findings.problem(at, f"unknown target `{name}`", hint, key=True)
            continue
        specs = _per_replica(value, target, at, findings)
        if specs is not None and target.lane is not Lane.DEDICATED and any(map(_load, specs)):
            hint = "state `in_flight`, `full` or `paced`"
            findings.problem(at, f"nobody knows the work of shared target `{name}`", hint)
        elif specs is not None:
            found[name] = tuple(_reading(name, index, spec) for index, spec in enumerate(specs))
    return found


def read_rates(values: object, snapshot: Snapshot, loc: Loc, findings: Findings) -> Rates:
    """Rates by scope. Mistakes are noted."""
    known = scopes_of(snapshot)
    found: dict[str, Rate] = {}
    for scope, value in _items(values, loc, findings, "write `tenant:bank: {requests: 600}`"):
        if scope not in known:
            hint = did_you_mean(scope, known) or "write `tenant:`, `key:`, `route:` or `target:` and a name"
            findings.problem((*loc, scope), f"unknown scope `{scope}`", hint, key=True)
            continue
        spec = _RATE(value, (*loc, scope), findings)
        if spec is not BROKEN:
            found[scope] = Rate(
                requests=spec.requests, tokens=spec.tokens, in_flight=spec.in_flight, frees_in_s=spec.frees_in
            )
    return found


def scopes_of(snapshot: Snapshot) -> frozenset[str]:
    """Everything that may have a rate under the policy."""
    return frozenset(
        [
            *(f"tenant:{name}" for name in snapshot.tenants),
            *(f"key:{one.name}" for one in snapshot.keys.values() if one.name),
            *(f"route:{route.name}" for route in snapshot.routes),
            *(f"target:{name}" for name in snapshot.targets),
        ]
    )


def _items(values: object, loc: Loc, findings: Findings, hint: str) -> Iterable[tuple[str, Any]]:
    if isinstance(values, Mapping):
        return values.items()
    findings.problem(loc, f"expected a mapping, got {shown(values)}", hint)
    return ()


def _per_replica(value: object, target: Target, loc: Loc, findings: Findings) -> list[ReadingSpec] | None:
    if not isinstance(value, list):
        return _whole([_READING(value, loc, findings)] * target.replicas)
    if len(value) != target.replicas:
        message = f"target `{target.name}` has {target.replicas} replicas, the list {len(value)}"
        findings.problem(loc, message, "list one mapping for each, or give one mapping for all")
        return None
    return _whole([_READING(item, (*loc, index), findings) for index, item in enumerate(value)])


def _whole(specs: list[Any]) -> list[ReadingSpec] | None:
    return None if any(spec is BROKEN for spec in specs) else specs


def _reading(target: str, replica: int, spec: ReadingSpec) -> Reading:
    return Reading(
        target=target,
        replica=replica,
        as_of=NOW_S,
        in_flight=spec.in_flight,
        breaker=spec.breaker,
        open_until=NOW_S + USUAL_EJECTION_S if spec.breaker is Breaker.OPEN else 0.0,
        full_until=NOW_S + spec.full if spec.full else 0.0,
        full_at=NOW_S if spec.full else 0.0,
        paced_until=NOW_S + spec.paced if spec.paced else 0.0,
        latency=_quantiles(spec),
        uptime=spec.uptime,
        failures=_failures(spec),
        load=_load(spec),
    )


def _load(spec: ReadingSpec) -> Load | None:
    """The work as stated, by a replica that has just been sent a request, and so is not due to be tried again."""
    told = {name: value for name in _WORK if (value := getattr(spec, name)) is not None}
    if not told:
        return None
    waiting = told.pop("waiting", 1 if told.get("queued_tokens") else 0)
    return Load(waiting=waiting, step_factor=told.get("itl_factor", 1.0), begun_at=NOW_S, **told)


def _failures(spec: ReadingSpec) -> int:
    """As stated; an uptime below 100 % without a count stands for enough failures to mean it."""
    if spec.failures is not None:
        return spec.failures
    return FAILURES_THAT_CONDEMN if spec.uptime is not None and spec.uptime < 1 else 0


def _quantiles(spec: ReadingSpec) -> Quantiles:
    """The quantiles as stated; a speed that a user perceives is a gap between tokens (see `Objective`)."""
    told = {one: getattr(spec, one.removesuffix("_s")) for one in _QUANTILES}
    for name, quantile in _SPEEDS.items():
        speed: float | None = getattr(spec, name)
        if speed is not None:
            told[quantile] = max(told[quantile] or 0.0, 1 / speed)
    return Quantiles(**told)


_WORK = ("waiting", "queued_tokens", "decoding", "context_tokens", "ttft_factor", "itl_factor")
_QUANTILES = tuple(one.name for one in msgspec.structs.fields(Quantiles))
_SPEEDS = {
    one.name: f"itl_{one.name.removeprefix('perceived_tps').removeprefix('_') or 'p99'}_s"
    for one in fields(ReadingSpec)
    if one.name.startswith("perceived_tps")
}
