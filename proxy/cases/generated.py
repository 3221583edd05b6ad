"""Requests made up to tell two policies apart: whatever either of them distinguishes.

Theory of operation
-------------------
Each thing that a match or a gate of either policy looks at is a *dimension*; its values are those that occur in the
policies, on both sides of every bound, and the usual one. The requests are the product of the dimensions. Where that is
more than `MAX_REQUESTS`, as many are taken from all over it: the product is numbered, and every n-th number taken, with
a stride that shares no divisor with the whole and so meets every value of every dimension. One request made for each
route comes first, so that no route is missed by chance. Nothing is drawn at random.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from proxy.cases.request import DEFAULT_AT_S, DEFAULT_INPUT_TOKENS, Request
from proxy.policy.model import Endpoint, Key, Lane, Match, Modality, Route, Rules, Schedule, Snapshot, Target, Traffic
from proxy.routing.rules import ASSUMED_OUTPUT_TOKENS

MAX_REQUESTS = 20_000
GOLDEN = (math.sqrt(5) - 1) / 2

_MONDAY = datetime.fromtimestamp(DEFAULT_AT_S, UTC).replace(hour=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """Different requests, and how many combinations there are in all."""

    requests: tuple[Request, ...]
    possible: int


@dataclass(frozen=True, slots=True)
class _Caller:
    """A tenant, perhaps by one of its named keys, with its tags under either policy and those that it may add."""

    tenant: str | None
    key: str | None
    owns: tuple[frozenset[str], ...]
    adds: frozenset[str] | None

    def bring(self, tags: frozenset[str]) -> tuple[str, ...]:
        """Those of `tags` that such a request has to bring, and may, since its key does not under both policies."""
        always = frozenset.intersection(*self.owns) if self.owns else frozenset()
        return tuple(sorted((tags if self.adds is None else tags & self.adds) - always))


def generated(before: Snapshot, after: Snapshot) -> Generated:
    """Requests that see whatever `before` and `after` tell apart."""
    both = (before, after)
    dimensions = _dimensions(both)
    callers = dimensions["caller"]
    possible = math.prod(map(len, dimensions.values()))
    requests = dict.fromkeys(_witnesses(both, callers))
    for number in _numbers(possible):
        if len(requests) >= MAX_REQUESTS:
            break
        requests[_request(_chosen(dimensions, number))] = None
    return Generated(requests=tuple(requests), possible=possible)


def _numbers(count: int) -> Iterable[int]:
    """All numbers below `count`, or as many as are wanted, spread over them evenly."""
    if count <= MAX_REQUESTS:
        return range(count)
    stride = round(count * GOLDEN)
    while math.gcd(stride, count) > 1:
        stride += 1
    return (turn * stride % count for turn in range(MAX_REQUESTS))


def _chosen(dimensions: dict[str, Sequence[Any]], number: int) -> dict[str, Any]:
    chosen = {}
    for name, values in dimensions.items():
        number, index = divmod(number, len(values))
        chosen[name] = values[index]
    return chosen


def _request(chosen: dict[str, Any]) -> Request:
    caller: _Caller = chosen.pop("caller")
    tags = caller.bring(chosen.pop("tags"))
    return Request(tenant=caller.tenant, key=caller.key, tags=tags, **chosen)


def _dimensions(both: tuple[Snapshot, ...]) -> dict[str, Sequence[Any]]:
    routes = [route for snapshot in both for route in snapshot.routes]
    targets = [target for snapshot in both for target in _targets(snapshot)]
    matches = [route.match for route in routes]
    claims = any(target.supports is not None for target in targets)
    narrow = any(match.endpoints is not None for match in matches)
    narrow = narrow or len({target.native | target.translated for target in targets}) > 1
    return {
        "model": sorted({name for snapshot in both for name in snapshot.models}),
        "caller": _callers(both),
        "tags": list(dict.fromkeys([frozenset[str](), *(match.tags for match in matches)])),
        "endpoint": list(Endpoint) if narrow else [Endpoint.CHAT],
        "traffic": list(Traffic) if any(match.traffic is not None for match in matches) else [Traffic.ONLINE],
        "stream": [False, True] if any(match.stream is not None for match in matches) else [False],
        "modality": _modalities(matches, everything=claims),
        "tools": [False, True] if claims or any(match.tools is not None for match in matches) else [False],
        "input_tokens": sorted(_sizes(routes, targets)),
        "at": sorted({DEFAULT_AT_S, *(at for match in matches if match.schedule for at in moments(match.schedule))}),
        "lane": [None, *Lane] if any(not route.lane_override for route in routes) else [None],
        "target": _pins(routes, targets),
    }


def _targets(snapshot: Snapshot) -> Iterator[Target]:
    """With the price that each has under each model."""
    return (candidate.target for candidates in snapshot.models.values() for candidate in candidates)


def _modalities(matches: list[Match], *, everything: bool) -> list[tuple[Modality, ...]]:
    """Text alone, and each of those beside it that are told apart."""
    asked = frozenset(one for match in matches for one in match.modalities or ())
    others = frozenset(Modality) - {Modality.TEXT}
    found = others if everything or asked == {Modality.TEXT} else asked & others
    return [(), *((one,) for one in sorted(found))]


def _pins(routes: list[Route], targets: list[Target]) -> list[str | None]:
    if not any(route.target_override for route in routes):
        return [None]
    return [None, *sorted({target.name for target in targets})]


def _callers(both: tuple[Snapshot, ...]) -> list[_Caller]:
    keys: dict[tuple[str | None, str | None], list[Key]] = {}
    for snapshot in both:
        for name, tenant in snapshot.tenants.items():
            keys.setdefault((name, None), []).append(Key(tenant=tenant, tags=tenant.tags))
        for key in snapshot.keys.values():
            if key.name:
                keys.setdefault((key.tenant.name, key.name), []).append(key)
    if not all(snapshot.tenants for snapshot in both):
        keys[None, None] = []
    return [_caller(tenant, key, found) for (tenant, key), found in keys.items()]


def _caller(tenant: str | None, key: str | None, found: list[Key]) -> _Caller:
    adds = [one.tenant.request_tags for one in found]
    anything = not found or any(one is None for one in adds)
    union = frozenset(tag for tags in adds for tag in tags or ())
    return _Caller(tenant, key, tuple(one.tags for one in found), None if anything else union)


def _sizes(routes: list[Route], targets: list[Target]) -> Iterator[int]:
    """Input tokens on both sides of every bound."""
    yield DEFAULT_INPUT_TOKENS
    for route in routes:
        least, most = route.match.min_input_tokens, route.match.max_input_tokens
        if least is not None:
            yield from (max(0, least - 1), least)
        if most is not None:
            yield from (most, most + 1)
        for rules in (route.require, route.want, route.shadow_require, route.shadow_want):
            yield from _affordable(rules, targets)
    for target in targets:
        if target.context_window is not None:
            yield from (target.context_window, target.context_window + 1)


def _affordable(rules: Rules, targets: list[Target]) -> Iterator[int]:
    """The longest input that a limit to the price of a request allows, and one token more."""
    limit = rules.max_nano_usd_per_request
    for target in targets if limit is not None else ():
        price = target.price
        if price is None or target.lane is Lane.DEDICATED or not price.input_nano_usd_per_mtok:
            continue
        left = (limit or 0) * 1_000_000 - ASSUMED_OUTPUT_TOKENS * price.output_nano_usd_per_mtok
        if left >= 0:
            most = left // price.input_nano_usd_per_mtok
            yield from (most, most + 1)


def moments(schedule: Schedule) -> Iterator[float]:
    """The first and the last minute of the span and the minutes around it, on a day of it and on another."""
    days = [min(schedule.days), *sorted(frozenset(range(7)) - schedule.days)[:1]]
    for day in days:
        midnight = _MONDAY.replace(tzinfo=schedule.zone) + timedelta(days=day)
        for minute in (schedule.from_minute - 1, schedule.from_minute, schedule.to_minute - 1, schedule.to_minute):
            yield (midnight + timedelta(minutes=minute)).timestamp()


def _witnesses(both: tuple[Snapshot, ...], callers: Sequence[_Caller]) -> Iterator[Request]:
    """For each route a request that its match describes, from the first caller that can make it."""
    for snapshot in both:
        for route in snapshot.routes:
            match = route.match
            models = sorted(snapshot.models if match.models is None else match.models & snapshot.models.keys())
            caller = next((one for one in callers if _may_make(one, match)), None)
            if models and caller is not None:
                yield _witness(match, models[0], caller)


def _may_make(caller: _Caller, match: Match) -> bool:
    if match.tenants is not None and caller.tenant not in match.tenants:
        return False
    if match.keys is not None and caller.key not in match.keys:
        return False
    brought = frozenset(caller.bring(match.tags))
    return any(match.tags <= own | brought for own in caller.owns or (frozenset(),))


def _witness(match: Match, model: str, caller: _Caller) -> Request:
    least, most = match.min_input_tokens or 0, match.max_input_tokens or DEFAULT_INPUT_TOKENS
    schedule = match.schedule
    times = (at for at in moments(schedule) if schedule.covers(at)) if schedule else iter(())
    return Request(
        model=model,
        tenant=caller.tenant,
        key=caller.key,
        tags=caller.bring(match.tags),
        endpoint=min(match.endpoints) if match.endpoints else Endpoint.CHAT,
        traffic=match.traffic or Traffic.ONLINE,
        stream=bool(match.stream),
        modality=tuple(sorted(match.modalities or ())[:1]),
        tools=bool(match.tools),
        input_tokens=max(least, min(most, DEFAULT_INPUT_TOKENS)),
        at=next(times, DEFAULT_AT_S),
    )
