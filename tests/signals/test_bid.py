"""A bid is made out only where it can gain, and then is the density of the last work that engines have room for."""

from __future__ import annotations

import random
from math import inf

import pytest
from proxy.policy.engine_profile import ASSUMED
from proxy.routing.readings import Load
from proxy.signals.bid import FADE_S, LEAST_NANO_USD_PER_S, MIN_SAMPLES, PRICE_S, SLACK, BidPrice, capacity
from tests.routing.policies import dedicated

T0 = 5000.0
TARGET = dedicated(profile=ASSUMED)
NANO_USD_PER_S = 1e9 / 3600
"""One dollar for each hour of engine time."""


def wanted(
    *kinds: tuple[float, float], until_s: float = 120.0, spread: float = 0.0, bid: BidPrice | None = None
) -> BidPrice:
    """Work of each kind, by dollars an engine hour and seconds of work a second, wanted since `T0`."""
    bid, draw = bid or BidPrice(), random.Random(3)
    for tick in range(int(until_s * 20)):
        for usd_per_hour, work in kinds:
            density = usd_per_hour * NANO_USD_PER_S * draw.lognormvariate(0, spread)
            bid.want(density, work / 20, T0 + tick / 20)
    return bid


def price(bid: BidPrice, room: float, at_s: float = 120.0, samples: int = MIN_SAMPLES) -> float:
    """The bid in dollars an hour, for engines that can do `room` seconds of work a second."""
    if T0 + at_s >= bid.good_until:
        bid.make_out(T0 + at_s, room, samples)
    return bid.nano_usd_per_s / NANO_USD_PER_S


def test_with_one_price_there_is_no_bid_however_short_the_engines() -> None:
    assert price(wanted((35.0, 2.0)), 0.1) == 0.0
    assert price(wanted((35.0, 2.0), spread=0.1), 0.1) == 0.0


def test_two_groups_of_providers_the_dear_one_comes_first() -> None:
    """0.20 and 1.00 $/M, half of the work each: engines have room for the dear half and a bit."""
    bid = wanted((10.0, 1.0), (50.0, 1.0), spread=0.1)
    assert 10.0 < price(bid, 0.9 / SLACK) < 50.0
    bid = wanted((10.0, 1.0), (50.0, 1.0), spread=0.1)
    assert price(bid, 0.5 / SLACK) == pytest.approx(50.0, rel=0.1)
    bid = wanted((10.0, 1.0), (50.0, 1.0), spread=0.1)
    assert 8.0 < price(bid, 1.5 / SLACK) < 11.0


def test_where_there_is_room_for_all_there_is_no_bid() -> None:
    bid = wanted((10.0, 1.0), (50.0, 1.0))
    assert price(bid, 2.1 / SLACK) == 0.0
    assert price(bid, 1.9 / SLACK, 120.0 + PRICE_S) > 0.0


def test_engines_have_to_be_known_first() -> None:
    bid = wanted((10.0, 1.0), (50.0, 1.0))
    assert price(bid, 0.5, samples=MIN_SAMPLES - 1) == 0.0
    assert price(bid, 0.5, 120.0 + PRICE_S) > 0.0


def test_so_has_what_is_wanted() -> None:
    assert price(BidPrice(), 0.5) == 0.0
    assert price(wanted((10.0, 1.0), (50.0, 1.0), until_s=20), 0.1, at_s=20) == 0.0
    assert price(wanted((10.0, 1.0), (50.0, 1.0), until_s=32), 0.1, at_s=32) > 0.0


def test_a_price_is_good_for_a_moment() -> None:
    bid = wanted((10.0, 1.0), (50.0, 1.0))
    first = price(bid, 0.8)
    assert price(bid, 0.1, 120.0 + PRICE_S / 2) == first
    assert price(bid, 0.1, 120.0 + PRICE_S) > first


def test_what_was_wanted_fades() -> None:
    bid = wanted((10.0, 1.0), (50.0, 1.0))
    assert price(bid, 0.5) > 0.0
    assert price(bid, 0.5, 120.0 + 3 * FADE_S) == 0.0


def test_years_do_not_wear_it_out() -> None:
    bid = wanted((10.0, 1.0), (50.0, 1.0))
    for day in range(1, 3000):
        bid.want(20.0 * NANO_USD_PER_S, 1.0, T0 + day * 86_400.0)
    later = 3000 * 86_400.0
    for tick in range(2400):
        for usd_per_hour in (10.0, 50.0):
            bid.want(usd_per_hour * NANO_USD_PER_S, 0.05, T0 + later + tick / 20)
    assert price(bid, 0.5 / SLACK, later + 120) == pytest.approx(50.0, rel=0.1)


@pytest.mark.parametrize(("usd_per_hour", "lowest"), [(0.0, True), (1e-6, True), (1e9, False)])
def test_densities_off_the_scale_count_as_its_ends(usd_per_hour: float, lowest: bool) -> None:
    bid = wanted((usd_per_hour, 1.0), (20.0, 1.0))
    least = LEAST_NANO_USD_PER_S / NANO_USD_PER_S
    found = price(bid, 1.5 / SLACK if lowest else 0.5 / SLACK)
    assert least <= found <= 1.1 * least if lowest else 2_000 < found < 4_000


class TestCapacity:
    """What replicas can do, corrected by what was observed of them."""

    def test_is_what_the_fixed_part_of_a_step_leaves(self) -> None:
        assert capacity(TARGET, [Load()], 0.05) == pytest.approx(1 - 0.016 / 0.05)
        assert capacity(TARGET, [Load(), Load()], 0.05) == pytest.approx(2 * 0.68)
        assert capacity(dedicated(), [Load()], 0.05) == pytest.approx(0.68)
        assert capacity(TARGET, [Load()], inf) == 1.0

    def test_of_a_replica_that_is_slower_is_less_and_never_below_none(self) -> None:
        slow = Load(ttft_factor=2.0, itl_factor=2.0)
        assert capacity(TARGET, [Load(), slow], 0.05) == pytest.approx(0.68 + 0.5 - 0.32)
        assert capacity(TARGET, [Load(ttft_factor=9.0, itl_factor=9.0)], 0.05) == 0.0

    def test_goes_by_the_factor_that_is_kinder(self) -> None:
        for factors in ({"ttft_factor": 0.5}, {"itl_factor": 0.5}):
            assert capacity(TARGET, [Load(**factors)], 0.05) == pytest.approx(2 - 0.32)
