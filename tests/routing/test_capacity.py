"""When a replica is able, how full it is, and what is said when it is not."""

from __future__ import annotations

import pytest
from proxy.policy.model import Target
from proxy.routing.capacity import (
    DEFAULT_MAX_IN_FLIGHT,
    InFlightThreshold,
    able,
    least_loaded,
    max_in_flight,
    retry_after_s,
    shortage,
)
from proxy.routing.readings import Breaker, Reading
from tests.routing.policies import NOW, dedicated, facts, reading, shared

ROOM = InFlightThreshold()


@pytest.mark.parametrize(
    ("target", "in_flight", "has_room"),
    [
        (dedicated(max_in_flight=2), 1, True),
        (dedicated(max_in_flight=2), 2, False),
        (dedicated(max_in_flight=0), 0, False),
        (dedicated(max_in_flight=None), DEFAULT_MAX_IN_FLIGHT - 1, True),
        (dedicated(max_in_flight=None), DEFAULT_MAX_IN_FLIGHT, False),
        (shared(), 10**6, True),
        (shared(max_in_flight=2), 2, False),
    ],
)
def test_a_replica_has_room_below_its_threshold(target: Target, in_flight: int, has_room: bool) -> None:
    assert ROOM.has_room(target, reading(target.name, in_flight=in_flight), facts()) is has_room
    limit = max_in_flight(target)
    assert has_room is (limit is None or in_flight < limit)


@pytest.mark.parametrize(
    ("observed", "is_able"),
    [
        ({}, True),
        ({"breaker": Breaker.HALF_OPEN}, True),
        ({"breaker": Breaker.OPEN}, False),
        ({"full_until": NOW}, True),
        ({"full_until": NOW + 0.001}, False),
        ({"in_flight": 64}, False),
    ],
)
def test_a_replica_is_able_unless_ejected_full_or_out_of_room(observed: dict[str, object], is_able: bool) -> None:
    seen = [reading("llama-eu", **observed)]
    assert able(dedicated(), seen, facts(), NOW, ROOM) == (seen if is_able else [])


def test_least_loaded_draws_among_equals_only() -> None:
    seen = [reading("t", index, in_flight=load) for index, load in enumerate((2, 1, 1, 5))]
    assert {least_loaded(seen, draw / 100).replica for draw in range(100)} == {1, 2}


def shorts(*seen: Reading) -> str:
    return str(shortage(dedicated(), seen, facts(), NOW, ROOM))


def test_a_shortage_blames_the_breaker_only_when_every_replica_is_ejected() -> None:
    ejected = [reading("llama-eu", index, breaker=Breaker.OPEN, open_until=NOW + 9 + index) for index in range(2)]
    assert shorts(*ejected) == "llama-eu: breaker open, next probe in 9.0 s against closed"
    busy = reading("llama-eu", 2, in_flight=64)
    assert shorts(*ejected, busy) == "llama-eu: capacity 64 of 64 in flight against 64 in flight"


def test_a_shortage_quotes_the_engine_only_when_every_serving_replica_said_full() -> None:
    said = [reading("llama-eu", index, full_until=NOW + 1, full_at=NOW - 1 - index) for index in range(2)]
    assert shorts(*said) == "llama-eu: engine_full said so 1.0 s ago against not full"
    busy = reading("llama-eu", 2, in_flight=70)
    assert shorts(*said, busy) == "llama-eu: capacity 70 of 192 in flight against 192 in flight"


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        ([{"full_until": NOW + 3}], 3.0),
        ([{"full_until": NOW + 3}, {"breaker": Breaker.OPEN, "open_until": NOW + 2}], 2.0),
        ([{"full_until": NOW + 3, "breaker": Breaker.OPEN, "open_until": NOW + 9}], 9.0),
        ([{"in_flight": 64}], 1.0),
        ([{"breaker": Breaker.OPEN, "open_until": NOW + 200}], 60.0),
        ([{"full_until": NOW + 0.01}], 0.25),
    ],
)
def test_a_refused_caller_is_told_when_to_come_back(observed: list[dict[str, object]], expected: float) -> None:
    seen = [reading("llama-eu", index, **given) for index, given in enumerate(observed)]
    assert retry_after_s(seen, NOW) == pytest.approx(expected)
