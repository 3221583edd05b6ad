"""Dollars per million tokens, on both sides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.meters.gpu_hours import GpuTotals
from proxy.meters.report import MeterReport, TargetReport, period, report
from proxy.meters.summary import Summary
from proxy.policy.model import Candidate, Lane, Price, Target
from tests.meters.examples import LLAMA, TOGETHER, USD

HOUR_MS = 3_600_000
TARGETS = {"llama-eu": LLAMA, "together": TOGETHER}
MODELS = {"llama-70b": (Candidate(target=LLAMA, model="a"), Candidate(target=TOGETHER, model="b"))}
ONE_HOUR = GpuTotals(
    replica_ms=2 * HOUR_MS,
    busy_replica_ms=HOUR_MS // 2,
    gpu_ms=8 * HOUR_MS,
    nano_usd=8 * 2_990_000_000,
    busy_nano_usd=2 * 2_990_000_000,
)


def summary(
    tallies: Mapping[tuple[str, str], Mapping[str, int]], gpus: Mapping[str, GpuTotals] | None = None, at: float = 0.0
) -> Summary:
    return Summary(as_of_s=at, tallies=tallies, gpus=gpus or {})


def rows(given: Summary, targets: Mapping[str, Target] = TARGETS) -> dict[str, TargetReport]:
    return {row.target: row for row in period(given, targets, MODELS, None).targets}


def test_a_shared_target_costs_what_it_charged_per_token_that_passed() -> None:
    tally = {"requests": 3, "attempts": 4, "input_tokens": 1_500_000, "output_tokens": 500_000, "nano_usd": 3 * USD}
    row = rows(summary({("llama-70b", "together"): tally}))["together"]
    assert (row.lane, row.nano_usd, row.nano_usd_per_mtok) == (Lane.SHARED, 3 * USD, 1_500_000_000)
    assert (row.gpu_hours, row.idle_share, row.shared_nano_usd) == (None, None, None)


def test_a_dedicated_target_costs_its_gpus_idle_or_not_beside_the_shared_price_of_the_same_tokens() -> None:
    tally = {"input_tokens": 10_000_000, "output_tokens": 2_000_000}
    row = rows(summary({("llama-70b", "llama-eu"): tally}, {"llama-eu": ONE_HOUR}))["llama-eu"]
    assert row.nano_usd == 23_920_000_000
    assert row.nano_usd_per_mtok == 1_993_333_333
    assert (row.gpu_hours, row.replica_hours, row.busy_share, row.idle_share) == (8.0, 2.0, 0.25, 0.75)
    assert (row.busy_gpu_hours, row.idle_gpu_hours, row.idle_nano_usd) == (2.0, 6.0, 6 * 2_990_000_000)
    assert (row.shared_target, row.shared_nano_usd) == ("together", 12 * 880_000_000)
    assert row.shared_nano_usd_per_mtok == 880_000_000


@pytest.mark.parametrize(("mtok", "saving_usd"), [(100, 88 - 23.92), (10, 8.8 - 23.92), (0, -23.92)])
def test_what_gpus_save_is_the_shared_price_of_the_same_tokens_less_their_own_and_may_be_a_loss(
    mtok: int, saving_usd: float
) -> None:
    tally = {"input_tokens": mtok * 10**6}
    found = period(summary({("llama-70b", "llama-eu"): tally}, {"llama-eu": ONE_HOUR}), TARGETS, MODELS, None)
    assert found.targets[0].saving_nano_usd == found.saving_nano_usd == round(saving_usd * USD)
    assert found.targets[1].saving_nano_usd is None


def test_what_is_saved_is_unknown_where_a_price_is() -> None:
    only_lora = summary({("lora", "llama-eu"): {"input_tokens": 5}}, {"llama-eu": ONE_HOUR})
    unpriced = summary({("llama-70b", "llama-eu"): {"input_tokens": 5}}, {"llama-eu": GpuTotals(replica_ms=HOUR_MS)})
    for counted in (only_lora, unpriced):
        found = period(counted, TARGETS, MODELS, None)
        assert (found.targets[0].saving_nano_usd, found.saving_nano_usd) == (None, None)


def test_reserved_gpus_that_do_not_run_cost_their_price() -> None:
    row = rows(summary({}, {"llama-eu": GpuTotals(nano_usd=USD)}))["llama-eu"]
    assert (row.nano_usd, row.idle_nano_usd, row.gpu_hours, row.idle_share) == (USD, USD, 0.0, None)


def test_an_idle_gpu_costs_money_and_has_no_price_per_token() -> None:
    row = rows(summary({}, {"llama-eu": ONE_HOUR}))["llama-eu"]
    assert (row.nano_usd, row.nano_usd_per_mtok, row.shared_nano_usd_per_mtok) == (23_920_000_000, None, None)


def test_gpus_without_a_price_cost_an_unknown_sum() -> None:
    unpriced = {**TARGETS, "llama-eu": replace(LLAMA, gpus=None)}
    tally = {"input_tokens": 1000}
    row = rows(summary({("llama-70b", "llama-eu"): tally}, {"llama-eu": GpuTotals(replica_ms=HOUR_MS)}), unpriced)
    assert (row["llama-eu"].nano_usd, row["llama-eu"].gpu_hours, row["llama-eu"].replica_hours) == (None, None, 1.0)
    assert row["llama-eu"].idle_share == 1.0


def test_unpriced_tokens_make_the_price_per_token_unknown_but_not_the_known_spend() -> None:
    tally = {"input_tokens": 1000, "nano_usd": 500, "unpriced_attempts": 1}
    row = rows(summary({("llama-70b", "together"): tally}))["together"]
    assert (row.nano_usd, row.nano_usd_per_mtok, row.unpriced_attempts) == (500, None, 1)


def test_tokens_of_a_model_that_no_shared_target_serves_have_no_shared_price() -> None:
    tallies = {("llama-70b", "llama-eu"): {"input_tokens": 1_000_000}, ("lora", "llama-eu"): {"input_tokens": 500_000}}
    row = rows(summary(tallies, {"llama-eu": ONE_HOUR}))["llama-eu"]
    assert (row.shared_nano_usd, row.shared_nano_usd_per_mtok) == (None, 880_000_000)
    only_lora = rows(summary({("lora", "llama-eu"): {"input_tokens": 5}}, {"llama-eu": ONE_HOUR}))["llama-eu"]
    assert (only_lora.shared_target, only_lora.shared_nano_usd_per_mtok) == (None, None)


def test_cached_tokens_are_compared_at_the_cached_price() -> None:
    price = Price(input_nano_usd_per_mtok=USD, output_nano_usd_per_mtok=USD, cached_input_nano_usd_per_mtok=USD // 10)
    models = {"llama-70b": (Candidate(target=replace(TOGETHER, price=price), model="b"),)}
    tally = {"input_tokens": 1_000_000, "cached_input_tokens": 500_000}
    (row, _) = period(
        summary({("llama-70b", "llama-eu"): tally}, {"llama-eu": ONE_HOUR}), TARGETS, models, None
    ).targets
    assert row.shared_nano_usd == 550_000_000


def test_targets_come_in_the_policy_s_order_and_those_it_dropped_come_last_with_their_lane() -> None:
    given = summary(
        {("old", "b-shared"): {"nano_usd": 5}, ("llama-70b", "together"): {"nano_usd": 7}}, {"a-dedicated": ONE_HOUR}
    )
    found = period(given, TARGETS, MODELS, None)
    assert [row.target for row in found.targets] == ["llama-eu", "together", "a-dedicated", "b-shared"]
    assert [row.lane for row in found.targets[2:]] == [Lane.DEDICATED, Lane.SHARED]
    assert (found.shared_nano_usd, found.dedicated_nano_usd) == (12, 23_920_000_000)


@pytest.mark.parametrize(("spilled", "requests", "share"), [(0, 0, None), (0, 4, 0.0), (1, 4, 0.25), (4, 4, 1.0)])
def test_spill_share_is_over_all_requests(spilled: int, requests: int, share: float | None) -> None:
    given = summary({("m", "llama-eu"): {"requests": requests}, ("m", "together"): {"spilled": spilled}})
    found = period(given, TARGETS, MODELS, None)
    assert (found.requests, found.spilled, found.spill_share) == (requests, spilled, share)


def test_the_last_minutes_stand_beside_the_whole() -> None:
    earlier = summary({("llama-70b", "together"): {"requests": 10}}, at=100.0)
    latest = summary({("llama-70b", "together"): {"requests": 15}}, at=160.0)
    found = report(latest, earlier, TARGETS, MODELS, connected=False, lag_s=2.5, processes=4)
    assert (found.total.requests, found.total.seconds) == (15, None)
    assert found.recent is not None
    assert (found.recent.requests, found.recent.seconds) == (5, 60.0)
    assert (found.connected, found.lag_s, found.processes, found.as_of_s) == (False, 2.5, 4, 160.0)
    assert report(latest, None, TARGETS, MODELS).recent is None
    assert report(latest, latest, TARGETS, MODELS).recent is None


counts = st.integers(min_value=0, max_value=10**12)


@given(st.dictionaries(st.sampled_from(["requests", "input_tokens", "output_tokens", "nano_usd"]), counts), counts)
def test_a_report_survives_json(tally: dict[str, int], gpu_ms: int) -> None:
    gpus = {"llama-eu": GpuTotals(replica_ms=gpu_ms, busy_replica_ms=gpu_ms // 3, gpu_ms=gpu_ms, nano_usd=gpu_ms)}
    given = report(summary({("llama-70b", "together"): tally}, gpus), None, TARGETS, MODELS)
    assert MeterReport.from_json(given.to_json()) == given
