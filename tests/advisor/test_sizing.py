"""Bills by number of replicas: against brute force, the newsvendor's condition, schedules and clairvoyance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from proxy.advisor.breakeven import break_even
from proxy.advisor.demand import Demand, request_sums, work_rates
from proxy.advisor.sizing import Sizing, scheduled, size
from proxy.advisor.value import mean_request, value_of
from tests.advisor.weeks import DEAR, MONDAY_S, OFFER, PROFILE, days, demand

WEEK = (1.0, 1.0, 1.0, 1.0, 1.0, 0.3, 0.3)


def sized(of: Demand, most: int = 5, least: int = 0) -> Sizing:
    mean = mean_request(of, value_of(of, [[DEAR]]), PROFILE)
    return size(of, OFFER, mean.usd_per_work_s, most=most, least=least)


@pytest.fixture(scope="module")
def week() -> Sizing:
    return sized(demand(1.0, WEEK))


def test_bills_are_those_of_the_bins_themselves() -> None:
    trace = days(1.0, [1.0])
    found = sized(demand(1.0, [1.0]))
    work = request_sums(trace.input_tokens, trace.output_tokens) @ work_rates(PROFILE)
    bins = np.bincount((trace.arrival_s // 3).astype(int), weights=work, minlength=28_800) / 3
    v = (trace.input_tokens.sum() + trace.output_tokens.sum()) * 0.72e-6 / work.sum()
    for count in range(4):
        spilled = np.clip(bins - count * OFFER.capacity, 0, None).sum() * 3
        assert found.usd_per_hour[count] == pytest.approx(count * 5.98 + v * spilled / 24, rel=0.003)


def test_without_replicas_the_bill_is_the_shared_one(week: Sizing) -> None:
    trace = days(1.0, WEEK)
    tokens = float(trace.input_tokens.sum() + trace.output_tokens.sum())
    assert week.usd_per_hour[0] == pytest.approx(tokens * 0.72e-6 / (7 * 24))
    assert week.spill_share[0] == 1.0


def test_the_best_number_is_the_last_that_is_used_as_much_as_it_must_be(week: Sizing) -> None:
    of = demand(1.0, WEEK)
    need = break_even(OFFER, mean_request(of, value_of(of, [[DEAR]]), PROFILE)).utilisation
    assert week.best == int((week.use >= need).sum()) > 0
    assert (np.diff(week.use) <= 1e-9).all()
    assert week.use.max() < 1


def test_use_by_hour_adds_up_to_use(week: Sizing) -> None:
    assert week.use_by_hour.mean(axis=1) == pytest.approx(week.use)


def test_schedules_know_weekends_and_pay_for_booting(week: Sizing) -> None:
    plan = scheduled(week)
    assert plan.replicas.shape == (2, 24)
    assert plan.replicas[0].max() > plan.replicas[1].max()
    assert plan.boot_usd_per_hour > 0
    serving = plan.usd_per_hour - plan.boot_usd_per_hour
    assert week.clairvoyant_usd_per_hour - 1e-9 <= serving < week.usd_per_hour[week.best]
    assert plan.usd_per_hour > scheduled(replace(week, offer=replace(OFFER, boot_s=0.0))).usd_per_hour


def test_weekends_are_not_guessed() -> None:
    of = replace(demand(1.0, WEEK), began_at_s=None)
    assert scheduled(sized(of)).replicas.shape == (1, 24)


def test_a_trace_that_begins_at_another_hour_keeps_its_hours() -> None:
    noon = replace(demand(1.0, WEEK), began_at_s=MONDAY_S + 12 * 3600)
    assert sized(noon).hour_of_day[0] == 12


def test_captive_work_sets_the_least(week: Sizing) -> None:
    found = sized(demand(1.0, WEEK), least=4)
    assert found.best == 4 > week.best
    assert scheduled(found).replicas.min() == 4
