"""The table of regrets: what is tuned is the best of its kind, and what is judged is what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from proxy.advisor.baselines import Baseline, in_flight
from proxy.advisor.scenario import Span
from proxy.advisor.simulate import simulate

from tests.bench import regret, regret_report, regret_runs
from tests.bench.regret_report import Bar, Traffic, bars, geometric_mean
from tests.bench.regret_robust import TROUBLES, met_within, recovered_s, troubled
from tests.bench.regret_runs import Least, Row, Setting


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    """A few minutes of traffic, too much for one replica in the middle."""
    draws = np.random.default_rng(1)
    gaps = draws.exponential(1 / 4, 1200)
    gaps[300:900] /= 3
    lengths = zip(np.cumsum(gaps), draws.integers(50, 2500, 1200), draws.geometric(1 / 180, 1200), strict=True)
    path = tmp_path / "made-up.csv"
    rows = [f"{arrival_s},{into},{min(out, 900)}" for arrival_s, into, out in lengths]
    path.write_text("\n".join(["arrival_s,input_tokens,output_tokens", *rows]), encoding="utf-8")
    return Setting(path=path, policy=regret.POLICY)


def row(rule: str = "ours", usd: float = 10.0, met: float = 1.0, **more: float) -> Row:
    return Row(
        rule=rule,
        replicas=1,
        usd_per_hour=usd,
        met=met,
        worst=met,
        spilled=0.1,
        spilled_value=0.1,
        refused=0.0,
        oscillations_per_hour=0.0,
        requests_per_s=1.0,
        more=more,
    )


def bound(beside: Sequence[float]) -> Least:
    return Least(
        usd_per_hour=min(beside),
        replicas=1,
        beside=tuple(beside),
        all_shared=beside[0],
        method="by hand",
        spilled_value=0.0,
    )


def traffic(costs: Sequence[float], *, advised: int = 1, counts: bool = True, met: float = 1.0) -> Traffic:
    return Traffic(
        name="made-up",
        counts=counts,
        least=bound([20.0, 10.0, 18.0]),
        advised=advised,
        bills=[20.0, 10.5, 18.0],
        ours={count: row(usd=cost, met=met) for count, cost in enumerate(costs)},
        peak=row("all dedicated", 30.0),
        others={"queue": row("queue 6", 12.0), "AIMD": None},
    )


def test_ours_is_beside_its_bound_and_what_the_advisor_expected(setting: Setting) -> None:
    least, (advised, bills) = regret_runs.least(setting), regret_runs.advised(setting)
    ours = [regret_runs.ours(setting, count) for count in range(3)]
    assert all(least.beside[count] <= one.usd_per_hour for count, one in enumerate(ours))
    assert least.usd_per_hour == pytest.approx(min(least.beside), rel=1e-6)
    assert bills[advised] == min(bills) and bills[0] == pytest.approx(ours[0].usd_per_hour, rel=0.02)
    assert ours[1].met > 0.99 and ours[0].spilled_value == 1.0 and ours[1].spilled_value < 0.6


def test_the_last_feasible_rung_is_taken(monkeypatch: pytest.MonkeyPatch, setting: Setting) -> None:
    ladder = [in_flight(limit) for limit in range(1, 12)]
    tried: list[str] = []

    def played(_: Setting, rule: Baseline, replicas: int) -> Row:
        limit = int(rule.name.rpartition(" ")[2])
        tried.append(rule.name)
        return row(rule.name, usd=20.0 - limit * replicas / 2, met=1.0 if limit <= 7 else 0.9)

    monkeypatch.setattr(regret_runs, "_played", played)
    found = regret_runs._tuned(setting, ladder, bound([30.0, 5.0, 10.0, 18.0]))
    assert found is not None and found.rule == "in flight 7" and found.usd_per_hour == 13.0
    assert len(tried) <= 8  # four for each number of replicas that the bound leaves room for


def test_a_rule_that_is_never_in_time_is_none_of_the_table(monkeypatch: pytest.MonkeyPatch, setting: Setting) -> None:
    monkeypatch.setattr(regret_runs, "_played", lambda *_: row(met=0.5))
    assert regret_runs._tuned(setting, [in_flight(1)], bound([30.0, 5.0])) is None


def test_others_are_tuned_within_their_objectives_and_the_peak_is_the_fewest(setting: Setting) -> None:
    best = regret_runs._tuned(setting, [in_flight(4), in_flight(8), in_flight(200)], regret_runs.least(setting))
    assert best is not None and best.met >= regret_runs.FEASIBLE
    peak = regret_runs.peak(setting)
    assert peak.met >= regret_runs.FEASIBLE and peak.spilled == 0
    fewer = regret_runs._played(setting, regret_runs.baselines.DEDICATED, peak.replicas - 1)
    assert fewer.met < regret_runs.FEASIBLE


def test_a_trace_can_be_faster_and_engines_have_other_chunks(setting: Setting) -> None:
    trace, snapshot = regret_runs.loaded(replace(setting, rate=2.0, chunk=2048))
    assert trace.span_s == pytest.approx(regret_runs.loaded(setting)[0].span_s / 2)
    assert regret_runs.engine(snapshot).max_batched_tokens == 2048
    assert snapshot.models["llama"][0].target is snapshot.targets["gpu"]


def test_longer_prompts_may_take_longer(setting: Setting) -> None:
    trace, snapshot = regret_runs.loaded(replace(setting, tokens_per_s=1000.0))
    run = simulate(trace, snapshot, replicas={"gpu": 0})
    assert set(run.ttft_objective_s.tolist()) == {6.0}
    assert {route.name for route in snapshot.routes} == {"to 4000"}


def test_bars_are_of_what_counts() -> None:
    judged = bars(
        [traffic([20.0, 11.0, 20.0]), traffic([20.0, 12.5, 12.0], met=0.99), traffic([9e9, 9e9], counts=False)], []
    )
    assert [bar.met for bar in judged] == [False, False, False, True, False]
    assert judged[0].value == pytest.approx(geometric_mean([1.1, 1.25]))
    assert str(judged[1]) == "FAIL  regret, worst: 1.25 (bar <= 1.2)"
    assert bars([], []) == []


def test_what_is_not_feasible_counts_as_all_shared() -> None:
    one = traffic([20.0, 11.0])
    assert (one.regret_of("queue"), one.regret_of("AIMD")) == (1.2, 2.0)


def test_the_table_tells_everything() -> None:
    text = regret_report.table([traffic([20.0, 11.0, 20.0]), traffic([20.0, 11.0], counts=False)])
    for words in ("queue: queue 6", "(advised)", "all dedicated, for the peak", "apart", "nothing keeps 99 %", "1.100"):
        assert words in text
    document = regret_report.document([traffic([20.0, 11.0])], [row("nothing wrong")], [])
    assert document["traffic"][0]["regret"] == pytest.approx(1.1)
    troubles = regret_report.robust_table("made-up", [row(name, recovered_s=12.0) for name in TROUBLES])
    assert "recovered s 12" in troubles and "23.16" in troubles


def test_troubles_have_bars_of_their_own() -> None:
    fast, slow = "profile 2x too fast", "one replica 2.5x slow, 5 min"
    rows = [row("nothing wrong", 10.0), row(fast, 10.6), row(slow, 99.0, met=0.96, recovered_s=31.0)]
    judged = {bar.name: bar.met for bar in bars([], rows)}
    assert judged == {
        "swings an hour": True,
        "nothing wrong: attainment": True,
        f"{fast}: cost, of that without": False,
        f"{fast}: attainment": True,
        f"{slow}: attainment": True,
        f"{slow}: seconds to recover": False,
    }
    assert not Bar(name="x", value=float("inf"), limit=1.0).met


def test_trouble_is_played(setting: Setting) -> None:
    well, away = (troubled(setting, 1, name) for name in ("nothing wrong", "shared down, 25 % of the time"))
    assert away.refused > well.refused == 0 and away.more["met_meanwhile"] < 1.0
    assert troubled(setting, 1, "profile 2x too slow").usd_per_hour > well.usd_per_hour


def test_recovery_is_when_the_last_ten_seconds_are_well_again(setting: Setting) -> None:
    trace, snapshot = regret_runs.loaded(setting)
    run = simulate(trace, snapshot, replicas={"gpu": 0})
    came, good = trace.arrival_s, np.full(len(trace), 0.1, np.float32)
    missed = np.where((came >= 100) & (came < 120), 9.0, good).astype(np.float32)
    assert recovered_s(replace(run, ttft_s=good), 100.0) == 0.0
    assert recovered_s(replace(run, ttft_s=missed), 100.0) == pytest.approx(30.0, abs=1.0)
    assert met_within(replace(run, ttft_s=missed), Span(from_s=100.0, to_s=120.0)) == 0.0
