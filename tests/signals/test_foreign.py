"""Requests of others are told from our own, late counts and requests on their way notwithstanding."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.routing.readings import Load
from proxy.signals.engine_metrics import EngineReading
from proxy.signals.foreign import BELIEVED_S, FROZEN_AFTER_S, Foreign, ForeignLoad, with_foreign

T0 = 1000.0


def reading(running: int, waiting: int = 0, at: float = T0, **more: object) -> EngineReading:
    """One that has moved, by default: it says how many tokens it has made."""
    told: dict[str, object] = {"output_tokens": round(at * 100), **more}
    return EngineReading(as_of=at, running=running, waiting=waiting, **told)  # type: ignore[arg-type]


def observed(*scrapes: tuple[EngineReading, int, int]) -> ForeignLoad:
    foreign = ForeignLoad()
    for one, own_running, own_waiting in scrapes:
        foreign.observe(one, own_running, own_waiting, one.as_of)
    return foreign


def alike(count: int, running: int, waiting: int, own_running: int, own_waiting: int) -> ForeignLoad:
    scrapes = [(reading(running, waiting, T0 + turn), own_running, own_waiting) for turn in range(count)]
    return observed(*scrapes)


def test_what_the_engine_has_and_we_did_not_send_is_foreign() -> None:
    assert alike(3, 10, 4, 3, 1).at(T0 + 2) == Foreign(3, 7)


def test_one_scrape_proves_nothing() -> None:
    assert alike(1, 10, 0, 0, 0).at(T0) is None
    spike = observed((reading(0, at=T0), 0, 0), (reading(9, at=T0 + 1), 0, 0), (reading(0, at=T0 + 2), 0, 0))
    assert spike.at(T0 + 2) == Foreign()


def test_a_second_scrape_does() -> None:
    came = observed((reading(0, at=T0), 0, 0), (reading(9, at=T0 + 1), 0, 0), (reading(8, at=T0 + 2), 0, 0))
    assert came.at(T0 + 2) == Foreign(0, 8)


def test_one_low_scrape_is_not_the_end_of_it_and_a_second_is() -> None:
    foreign = alike(3, 10, 0, 0, 0)
    foreign.observe(reading(0, at=T0 + 3), 0, 0, T0 + 3)
    assert foreign.at(T0 + 3) == Foreign(0, 10)
    foreign.observe(reading(0, at=T0 + 4), 0, 0, T0 + 4)
    assert foreign.at(T0 + 4) == Foreign()


def test_a_request_of_ours_that_has_just_ended_is_still_ours() -> None:
    foreign = alike(3, 6, 0, 6, 0)
    for turn in (3, 4):
        # The engine has not noticed yet, as it had not a second ago that three others ended.
        foreign.observe(reading(9 - turn, at=T0 + turn), 5 - (turn - 3) * 3, 0, T0 + turn)
        assert foreign.at(T0 + turn) == Foreign()


def test_ours_may_wait_in_the_batch_as_well_as_in_the_queue() -> None:
    assert alike(2, 4, 0, 2, 2).at(T0 + 1) == Foreign()
    assert alike(2, 8, 1, 2, 2).at(T0 + 1) == Foreign(0, 5)


def test_fewer_in_the_engine_than_ours_are_no_foreign_load() -> None:
    assert alike(3, 1, 0, 8, 4).at(T0 + 2) == Foreign()


def test_a_few_in_a_hundred_are_noise() -> None:
    assert alike(3, 104, 0, 100, 0).at(T0 + 2) == Foreign()
    assert alike(3, 106, 0, 100, 0).at(T0 + 2) == Foreign(0, 6)


def test_what_is_old_is_unknown_and_not_idle() -> None:
    foreign = alike(3, 10, 0, 0, 0)
    assert foreign.at(T0 + 2 + BELIEVED_S) == Foreign(0, 10)
    assert foreign.at(T0 + 2.1 + BELIEVED_S) is None


def test_after_a_silence_it_begins_anew() -> None:
    foreign = alike(3, 10, 0, 0, 0)
    back = T0 + 20
    foreign.observe(reading(0, at=back), 0, 0, back)
    assert foreign.at(back) is None
    foreign.observe(reading(0, at=back + 1), 0, 0, back + 1)
    assert foreign.at(back + 1) == Foreign()


def test_an_engine_that_stands_still_while_it_claims_to_work_is_not_believed() -> None:
    foreign, now = ForeignLoad(), T0
    while now <= T0 + FROZEN_AFTER_S:
        foreign.observe(reading(24, at=now, output_tokens=7), 0, 0, now)
        now += 1.0
    assert foreign.at(now - 1.0) == Foreign(0, 24)
    foreign.observe(reading(24, at=now, output_tokens=7), 0, 0, now)
    assert foreign.at(now) is None
    for turn in (1, 2):
        foreign.observe(reading(24, at=now + turn, output_tokens=7 + turn), 0, 0, now + turn)
    assert foreign.at(now + 2) == Foreign(0, 24)


def test_an_idle_engine_may_stand_still() -> None:
    foreign = ForeignLoad()
    for turn in range(20):
        foreign.observe(reading(0, at=T0 + turn, output_tokens=7), 0, 0, T0 + turn)
    assert foreign.at(T0 + 19) == Foreign()


def test_an_engine_that_publishes_late_never_turns_our_own_past_into_others() -> None:
    """SGLang's gauges stay where they were when its work ends, for up to half a minute."""
    foreign, seen = ForeignLoad(), []
    for turn in range(60):
        busy = turn < 20
        published = 24 if turn < 50 else 0
        late = reading(published, at=T0 + turn, lag_s=6.0, output_tokens=turn if busy else 20)
        foreign.observe(late, 24 if busy else 0, 0, T0 + turn)
        seen.append(foreign.at(T0 + turn))
    assert {one for one in seen if one is not None} == {Foreign()}


def test_foreign_requests_are_taken_to_be_like_ours() -> None:
    load = Load(waiting=1, queued_tokens=500, decoding=2, context_tokens=2000, samples=9)
    more = with_foreign(load, Foreign(2, 3), prompt_tokens=100.0, context_tokens=1000.0)
    assert more == msgspec.structs.replace(load, waiting=3, queued_tokens=700, decoding=5, context_tokens=5000)
    assert with_foreign(load, None) is load
    assert with_foreign(load, Foreign()) is load


class Traffic:
    """Requests at random, each `(from, to)`, and how many there are at a moment."""

    def __init__(self, draw: random.Random, per_s: float, mean_s: float, begin: float, end: float) -> None:
        self.begins: list[float] = []
        self.ends: list[float] = []
        at = begin
        while per_s and (at := at + draw.expovariate(per_s)) < end:
            self.begins.append(at)
            self.ends.append(at + draw.expovariate(1.0 / mean_s))
        self.ends.sort()

    def at(self, now: float) -> int:
        return bisect_right(self.begins, now) - bisect_right(self.ends, now)


def watched(
    engine: Callable[[float], int], own: Callable[[float], int], draw: random.Random, seconds: float
) -> list[tuple[float, Foreign | None]]:
    """What is seen at each scrape: of an engine up to 50 ms behind, and of other proxies' requests 250 ms late."""
    foreign, now, seen = ForeignLoad(), 0.0, []
    while now < seconds:
        now += draw.uniform(0.9, 1.1)
        behind = now - draw.uniform(0.005, 0.05)
        ours = own(now) if draw.random() < 0.5 else own(now - 0.25)
        foreign.observe(reading(engine(behind), at=now), ours, 0, now)
        seen.append((now, foreign.at(now)))
    return seen


LOADS = [(0.5, 4.0), (2.0, 6.0), (10.0, 6.0), (40.0, 3.0), (60.0, 0.4)]
"""Requests a second, and how long one lasts: 2 to 120 at a time."""


@given(st.integers(0, 10**6), st.sampled_from(LOADS))
def test_own_traffic_alone_gives_no_foreign_load_beyond_noise(seed: int, load: tuple[float, float]) -> None:
    draw = random.Random(seed)
    usual = load[0] * load[1]
    own = Traffic(draw, *load, begin=-30.0, end=60.0)
    found = [one.waiting + one.decoding for _, one in watched(own.at, own.at, draw, 60.0) if one is not None]
    assert sum(found) / len(found) <= 0.5 + usual / 50
    # What has come since the others were last heard of, 250 ms ago, nobody can tell from foreign traffic.
    assert max(found) <= 4 + max(usual / 4, 0.25 * load[0])
    assert sum(one == 0 for one in found) >= 0.7 * len(found)


@given(st.integers(0, 10**6), st.integers(0, 64), st.sampled_from([(0.0, 1.0), *LOADS[:3]]))
def test_foreign_streams_are_recognised_within_three_seconds(seed: int, more: int, load: tuple[float, float]) -> None:
    draw = random.Random(seed)
    usual = load[0] * load[1]
    error = 3 + usual / 2
    own = Traffic(draw, *load, begin=-30.0, end=60.0)
    n, came, went = round(2 * error) + more, 20.0 + draw.random(), 40.0 + draw.random()
    seen = watched(lambda now: own.at(now) + (n if came <= now < went else 0), own.at, draw, 60.0)
    for now, one in seen[2:]:
        assert one is not None
        found = one.waiting + one.decoding
        if came + 3.0 <= now < went:
            assert n - error <= found <= n + error, now
        elif now < came or now >= went + 3.0:
            assert found <= error, now


@pytest.mark.parametrize("total", [1, 7])
def test_without_any_traffic_of_ours_all_of_it_is_foreign(total: int) -> None:
    assert alike(2, total, 0, 0, 0).at(T0 + 1) == Foreign(0, total)
