"""What a process did lately: exact counts, sampled latencies, the last decisions, and nothing that grows."""

from __future__ import annotations

from proxy.live.cell import MARKS
from proxy.live.recent import DECISIONS, NOTABLE, Recent, spilled_by
from proxy.routing.outcome import Failure
from proxy.routing.plan import Cause, Exclusion, Refusal
from proxy.telemetry.records import Record
from tests.telemetry.requests import API, GPU, outcome, record

FULL = (Exclusion("gpu", "region", "us", "eu", True), Exclusion("gpu", "ttft", "2.3 s", "1.8 s", False))
SPILLED = record(outcome(API, Cause.SPILLOVER, ttft_s=0.3), excluded=FULL)
TURNED_AWAY = record(outcome(GPU, failure=Failure.FULL), outcome(API, Cause.FALLBACK, ttft_s=0.4))
FAILED_OVER = record(outcome(GPU, failure=Failure.CONNECT), outcome(API, Cause.FALLBACK, ttft_s=0.4))
LEFT = record(outcome(GPU, failure=Failure.CLIENT_LEFT))
NOBODY_WAITED = Refusal(status=499, code="x", message="x", rule=Failure.CLIENT_LEFT.label, route="default")


def noted(*records: Record) -> Recent:
    recent = Recent(0.0)
    for one in records:
        recent.note(one)
    return recent


def test_requests_are_counted_by_route_and_target() -> None:
    recent = noted(record(outcome()), record(outcome()), SPILLED)
    counted = {(route, target): cell.since(10) for route, target, cell in recent.cells()}
    assert counted["default", "gpu"].requests == 2
    assert (counted["default", "gpu"].input_tokens, counted["default", "gpu"].output_tokens) == (14, 6)
    assert counted["default", "api"].requests == 1
    assert list(recent.tallies("spilled", 10)) == [("default", "ttft", 1)]


def test_a_spill_is_told_by_the_first_preference_that_left_dedicated_out() -> None:
    assert spilled_by(SPILLED) == "ttft"
    assert spilled_by(TURNED_AWAY) == "engine_full"
    assert spilled_by(record(outcome(API, Cause.SPILLOVER))) == "none"
    for other in (record(outcome()), FAILED_OVER, LEFT, record(), record(outcome(API))):
        assert spilled_by(other) is None


def test_failures_count_where_they_happened_and_clients_that_leave_are_none() -> None:
    recent = noted(FAILED_OVER, TURNED_AWAY, LEFT, record(outcome(GPU, failure=Failure.BROKEN)))
    failed = {target: cell.failed for _, target, cell in recent.cells()}
    assert failed == {"gpu": 2, "api": 0}


def test_refusals_are_counted_by_rule_but_not_who_left_while_waiting() -> None:
    recent = noted(record(), record(), record(decision=NOBODY_WAITED))
    assert list(recent.tallies("refused", 10)) == [("default", "capacity", 2)]


def test_what_is_out_of_the_ordinary_is_kept_longer() -> None:
    recent = noted(SPILLED, FAILED_OVER, LEFT, record(), *[record(outcome())] * 2 * DECISIONS)
    assert len(recent.decisions) == DECISIONS
    assert [len(one.outcomes) for one in recent.notable] == [1, 2, 0]
    for _ in range(2 * NOTABLE):
        recent.note(SPILLED)
    assert len(recent.notable) == NOTABLE


def test_latencies_are_sampled_at_each_tick_by_target_and_by_route() -> None:
    recent = noted(*[record(outcome(ttft_s=0.1, itl_s=0.02, total_s=1.0))] * 30)
    assert recent.target("gpu") is None
    sampled = recent.tick(1.0)
    assert len(sampled) == 30
    for seen in (recent.target("gpu"), recent.route("default")):
        assert seen is not None
        assert (seen.ttft.count, seen.itl.count, seen.e2e.count) == (30, 30, 30)
    assert recent.tick(2.0) == []


def test_what_failed_says_nothing_of_whole_replies() -> None:
    recent = noted(record(outcome(failure=Failure.BROKEN, committed=True, ttft_s=0.1)))
    recent.tick(1.0)
    seen = recent.target("gpu")
    assert seen is not None
    assert (seen.ttft.count, seen.e2e.count) == (1, 0)


def test_spans_begin_with_the_process() -> None:
    recent = Recent(10.0)
    assert recent.span_s(11, 10.5) == 0.5
    for second in range(11, 31):
        recent.tick(float(second))
    assert recent.span_s(11, 30.0) == 10.0
    assert recent.span_s(MARKS, 30.0) == 20.0


def test_what_rests_is_forgotten_and_so_is_what_another_policy_does_not_name() -> None:
    recent = noted(SPILLED, record())
    for second in range(1, MARKS + 2):
        recent.tick(float(second))
    assert list(recent.cells()) == []
    assert list(recent.tallies("spilled", MARKS)) == []
    recent.forget_but(frozenset({"gpu"}), frozenset({"default"}))
    assert recent.target("api") is None
    assert recent.route("default") is not None
