"""Which requests a route leaves to the ones after it, and so which routes are never reached.

Theory of operation
-------------------
Routes are first-match: one is dead when an earlier one takes everything it would match (`covers`), or when several
earlier ones do so together: `stream: true` and `stream: false`, say. For the second, everything about a request that
has few values (endpoint, traffic class, stream, tools, modalities) is written out: each combination is one bit, and a
match is the set of its bits. Of the routes before that are as wide in all other respects, the union must hold the whole
set, for each model by itself. That is exact for what is written out, and otherwise never claims too much. A route that
matches everything is asked for at the end, so it is not called dead when several others together leave it nothing.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations, product
from typing import Any

from proxy.policy.model import Endpoint, Match, Modality, Route, Traffic

_BEYOND_TEXT = [one for one in Modality if one is not Modality.TEXT]
_CONTENTS = [frozenset({Modality.TEXT})]
_CONTENTS += [frozenset(some) for size in range(1, 5) for some in combinations(_BEYOND_TEXT, size)]
_CASES = list(product(Endpoint, Traffic, (False, True), (False, True), _CONTENTS))


def covers(wide: Match, narrow: Match) -> bool:
    """Whether every request that `narrow` matches is matched by `wide` too, as far as can be told without cases."""
    sets: tuple[tuple[frozenset[Any] | None, frozenset[Any] | None], ...] = (
        (wide.models, narrow.models),
        (wide.endpoints, narrow.endpoints),
        (wide.tenants, narrow.tenants),
        (wide.keys, narrow.keys),
        (wide.modalities, narrow.modalities),
    )
    return (
        all(outer is None or (inner is not None and inner <= outer) for outer, inner in sets)
        and wide.tags <= narrow.tags
        and wide.traffic in (None, narrow.traffic)
        and wide.stream in (None, narrow.stream)
        and wide.tools in (None, narrow.tools)
        and wide.schedule in (None, narrow.schedule)
        and (wide.min_input_tokens or 0) <= (narrow.min_input_tokens or 0)
        and (wide.max_input_tokens or math.inf) >= (narrow.max_input_tokens or math.inf)
    )


def unreachable(routes: Sequence[Route], models: Collection[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The index of each route that is never reached, and the names of those before it that take all its requests.

    `models` are those that the policy offers: a request for any other is answered before it gets to a route.
    """
    earlier: list[_Reach] = []
    for index, route in enumerate(routes):
        reach = _Reach(route.name, route.match, _without_cases(route.match), _bits(route.match))
        taken = _takers(earlier, reach, models)
        if taken:
            yield index, taken
        earlier.append(reach)


@dataclass(frozen=True, slots=True)
class _Reach:
    """A route's match, what it asks beside the cases, and the bits of its cases."""

    name: str
    match: Match
    rest: Match
    cases: int


def _takers(earlier: Iterable[_Reach], route: _Reach, models: Collection[str]) -> tuple[str, ...]:
    wide = [one for one in earlier if one.cases & route.cases and covers(one.rest, route.rest)]
    whole = next((one for one in wide if covers(one.match, route.match)), None)
    if whole is not None or route.match.catches_all:
        return (whole.name,) if whole else ()
    used: dict[str, None] = {}
    for model in sorted(route.match.models or models):
        left = route.cases
        for one in wide:
            if left & one.cases and (one.match.models is None or model in one.match.models):
                used[one.name] = None
                left &= ~one.cases
        if left:
            return ()
    return tuple(one.name for one in wide if one.name in used)


def _without_cases(match: Match) -> Match:
    return replace(match, models=None, endpoints=None, traffic=None, stream=None, tools=None, modalities=None)


def _bits(match: Match) -> int:
    return _cases(match.endpoints, match.traffic, match.stream, match.tools, match.modalities)


@lru_cache(maxsize=4096)
def _cases(
    endpoints: frozenset[Endpoint] | None,
    traffic: Traffic | None,
    stream: bool | None,
    tools: bool | None,
    modalities: frozenset[Modality] | None,
) -> int:
    found = 0
    for bit, (endpoint, kind, is_stream, has_tools, content) in enumerate(_CASES):
        if (
            (endpoints is None or endpoint in endpoints)
            and traffic in (None, kind)
            and stream in (None, is_stream)
            and tools in (None, has_tools)
            and (modalities is None or not modalities.isdisjoint(content))
        ):
            found |= 1 << bit
    return found
