"""How sure savings are: by days, by hours where there are too few, and on the same days for every number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from proxy.advisor.bootstrap import Block, Certainty, probability_less, resampled
from proxy.advisor.sizing import Sizing, size
from proxy.advisor.value import mean_request, value_of
from tests.advisor.weeks import DEAR, OFFER, PROFILE, demand


def sized(levels: tuple[float, ...], per_s: float = 0.6) -> Sizing:
    of = demand(per_s, levels)
    return size(of, OFFER, mean_request(of, value_of(of, [[DEAR]]), PROFILE).usd_per_work_s, most=3)


def certain(of: Sizing, seed: int = 1) -> Certainty:
    return resampled(of, np.random.default_rng(seed))


def test_days_that_are_alike_leave_no_doubt() -> None:
    found = certain(sized((1.0,) * 7))
    assert (found.block, found.blocks) == (Block.DAY, 7)
    assert found.positive[1] == found.adds[1] == 1.0
    low, middle, high = found.saving[1]
    assert low < middle < high
    assert (high - low) / middle < 0.05
    assert found.best.sum() == pytest.approx(1.0)


def test_a_few_hot_days_are_no_need() -> None:
    """Three days in seven pay for a replica that idles on the others."""
    found = certain(sized((8.0, 8.0, 8.0, *(0.02,) * 4)))
    assert 0 < found.positive[1] < 0.95
    assert found.trend[1] == 0


def test_the_interval_holds_what_the_days_say() -> None:
    of = sized((1.0, 0.5, 1.5, 1.0, 0.2, 0.8, 1.2))
    found = certain(of)
    low, middle, high = found.saving[1]
    saving = float(of.usd_per_hour[0] - of.usd_per_hour[1])
    assert low < saving < high
    assert middle == pytest.approx(saving, rel=0.1)
    assert found.bill[0][1] - found.bill[1][1] == pytest.approx(middle, rel=0.1)


def test_the_same_draws_give_the_same_answer() -> None:
    of = sized((1.0, 0.5, 1.5, 0.8, 1.2, 0.2, 2.0))
    assert (certain(of).saving == certain(of).saving).all()
    assert (certain(of).saving != certain(of, seed=2).saving).any()


def test_a_single_day_can_only_resample_its_hours() -> None:
    found = certain(sized((1.0,)))
    assert (found.block, found.blocks) == (Block.HOUR, 24)


def test_of_less_than_a_few_hours_nothing_is_said() -> None:
    of = sized((1.0,))
    short = replace(
        of,
        spilled=of.spilled[:, :2],
        hours=of.hours[:2],
        day=of.day[:2],
        hour_of_day=of.hour_of_day[:2],
        weekend=None,
    )
    assert certain(short).block is Block.NOTHING


def test_two_kinds_of_replica_are_compared_on_the_same_days() -> None:
    of = sized((1.0, 0.5, 1.5, 1.0))
    cheaper = replace(of, offer=replace(OFFER, usd_per_hour=5.8))
    draws = np.random.default_rng(1)
    assert probability_less(cheaper, 1, of, 1, draws) == 1.0
    assert probability_less(of, 1, of, 1, draws) == 0.0
