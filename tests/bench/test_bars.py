"""The bars judge figures as the issue that set them would, and never pass what was not measured."""

from __future__ import annotations

import pytest

from tests.bench.bars import BARS, SUBJECT, Verdict, verdicts
from tests.bench.results import Results


def good_run() -> Results:
    """Three repetitions that pass every bar."""
    results = Results()
    for _ in range(3):
        results.add("direct", transit_p99_us=20)
        results.add("nginx", req_s_1k=40_000, event_cpu_us=10)
        results.add("vllm-router", req_s_1k=10_000)
        results.add("litellm", req_s_1k=100)
        results.add(SUBJECT, req_s_1k=10_000, event_cpu_us=15, events_s=40_000, transit_p99_us=700)
        results.add(SUBJECT, half_p50_us=150, half_direct_p50_us=20, half_p99_us=400, half_direct_p99_us=30)
    results.add(SUBJECT, streams_pss_mb=20, start_s=0.6, idle_pss_mb=70)
    return results


def verdict_on(results: Results, part_of_name: str) -> Verdict:
    return next(verdict for verdict in verdicts(results) if part_of_name in verdict.bar)


def test_a_good_run_passes_every_bar() -> None:
    assert [verdict.word for verdict in verdicts(good_run())] == ["PASS"] * len(BARS)


@pytest.mark.parametrize(
    ("bar", "system", "measure", "value"),
    [
        ("against nginx", "nginx", "req_s_1k", 45_500),
        ("against vllm-router", "vllm-router", "req_s_1k", 11_200),
        ("against litellm", "litellm", "req_s_1k", 134),
        ("added p50 at half", SUBJECT, "half_p50_us", 221),
        ("added p99 at half", SUBJECT, "half_p99_us", 531),
        ("events/s of 40,000", SUBJECT, "events_s", 39_500),
        ("p99 added delay", SUBJECT, "transit_p99_us", 1_021),
        ("CPU per event", SUBJECT, "event_cpu_us", 17.1),
        ("1,000 open streams", SUBJECT, "streams_pss_mb", 31),
        ("start to first", SUBJECT, "start_s", 1.1),
        ("idle memory", SUBJECT, "idle_pss_mb", 81),
    ],
)
def test_a_figure_just_beyond_its_bar_fails_that_bar_only(bar: str, system: str, measure: str, value: float) -> None:
    results = good_run()
    samples = results.samples[system][measure]
    samples[:] = [value] * len(samples)
    failed = [verdict for verdict in verdicts(results) if not verdict.passed]
    assert [verdict.word for verdict in failed] == ["FAIL"]
    assert bar in failed[0].bar


def test_a_missing_peer_leaves_its_bar_unmeasured() -> None:
    results = good_run()
    del results.samples["litellm"]
    results.leave_out("litellm", "*", "could not make litellm[proxy]: no index")
    verdict = verdict_on(results, "against litellm")
    assert (verdict.word, verdict.passed) == ("not measured", False)
    assert verdict.reason == "there is no litellm here"


def test_a_measure_that_was_left_out_says_why() -> None:
    results = good_run()
    del results.samples[SUBJECT]["streams_pss_mb"]
    results.leave_out(SUBJECT, "streams_pss_mb", "only 19 events/s flowed")
    assert verdict_on(results, "1,000 open streams").reason == "spillway: only 19 events/s flowed"


def test_wrong_answers_fail_every_measured_bar() -> None:
    results = good_run()
    results.errors[SUBJECT] = ["closed 1024 B: 3 errors, first: bad answer: status 500, 40 bytes, 0 events"]
    assert {verdict.word for verdict in verdicts(results)} == {"FAIL"}


def test_added_latency_is_the_median_of_differences_within_repetitions() -> None:
    results = Results()
    for direct_us, system_us in ((10, 110), (500, 620), (20, 150)):
        results.add("direct", fixed_p50_us=direct_us)
        results.add("nginx", fixed_p50_us=system_us)
    assert results.added("nginx", "fixed_p50_us") == 120


def test_added_latency_is_unknown_when_a_repetition_has_no_counterpart() -> None:
    results = Results()
    results.add("nginx", fixed_p50_us=100)
    assert results.added("nginx", "fixed_p50_us") is None
