"""The breaker's transition table, pair by pair and over random histories."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.routing.readings import Breaker
from proxy.signals.breaker import (
    ABSENT_S,
    CONSECUTIVE_FAILURES,
    FORGIVEN_AFTER_S,
    MIN_RESULTS,
    PROBE_PATIENCE_S,
    TRANSITIONS,
    Event,
    Moment,
    State,
    ejection_s,
    is_failing,
    step,
)

T0 = 100.0


def run(state: State, *events: Event, at: float = T0) -> State:
    for event in events:
        state = step(state, event, Moment(at))
    return state


def opened(at: float = T0) -> State:
    return run(State(), *[Event.FAILURE] * CONSECUTIVE_FAILURES, at=at)


def half_open() -> State:
    state = opened()
    return run(state, Event.ELAPSED, at=state.until)


def test_five_failures_in_a_row_open_it_and_four_do_not() -> None:
    assert run(State(), *[Event.FAILURE] * 4).phase is Breaker.CLOSED
    state = opened()
    assert state.phase is Breaker.OPEN
    assert state.until == T0 + 30
    assert not state.admits(T0 + 29)


def test_a_success_ends_a_run_of_failures() -> None:
    state = run(State(), *[Event.FAILURE] * 4, Event.SUCCESS, *[Event.FAILURE] * 4)
    assert state.phase is Breaker.CLOSED


def test_a_replica_that_is_needed_is_tried_every_two_seconds() -> None:
    state = opened()
    assert run(state, Event.NEEDED, at=T0 + 1.9) is state
    offered = run(state, Event.NEEDED, at=T0 + 2)
    assert (offered.phase, offered.admits(T0 + 2)) == (Breaker.HALF_OPEN, True)
    again = run(offered, Event.PROBE, Event.FAILURE, at=T0 + 3)
    assert (again.phase, again.until) == (Breaker.OPEN, T0 + 3 + 30)
    assert run(again, Event.NEEDED, at=T0 + 4.9) is again
    assert run(again, Event.NEEDED, Event.PROBE, Event.SUCCESS, at=T0 + 5).phase is Breaker.CLOSED


def test_an_excluded_result_neither_ends_nor_lengthens_a_run() -> None:
    four = [Event.FAILURE] * 4
    assert run(State(), *four, Event.EXCLUDED).failures_in_a_row == 4
    assert run(State(), *four, Event.EXCLUDED, Event.FAILURE).phase is Breaker.OPEN


def test_a_bad_share_of_failures_opens_it_without_a_run() -> None:
    assert step(State(), Event.FAILURE, Moment(T0, failing=True)).phase is Breaker.OPEN


@pytest.mark.parametrize(
    ("successes", "failures", "failing"),
    [(10, 10, True), (9, 10, False), (11, 10, False), (0, MIN_RESULTS, True), (0, MIN_RESULTS - 1, False)],
)
def test_a_share_needs_twenty_results_and_half_of_them_bad(successes: int, failures: int, failing: bool) -> None:
    assert is_failing(successes, failures) is failing


def test_it_becomes_half_open_only_when_its_time_is_up() -> None:
    state = opened()
    assert run(state, Event.ELAPSED, at=state.until - 0.01) is state
    assert run(state, Event.ELAPSED, at=state.until).phase is Breaker.HALF_OPEN


def test_half_open_admits_one_probe_at_a_time() -> None:
    waiting = half_open()
    at = waiting.since
    assert waiting.admits(at)
    probing = run(waiting, Event.PROBE, at=at)
    assert not probing.admits(at + PROBE_PATIENCE_S - 0.01)
    assert probing.admits(at + PROBE_PATIENCE_S)
    assert run(probing, Event.EXCLUDED, at=at + 1).admits(at + 1)


def test_a_probe_that_succeeds_closes_it() -> None:
    assert run(half_open(), Event.PROBE, Event.SUCCESS, at=T0 + 30).phase is Breaker.CLOSED


def test_each_failed_probe_doubles_the_ejection_up_to_five_minutes() -> None:
    state, lengths = opened(), []
    for _ in range(6):
        lengths.append(state.until - state.since)
        state = run(state, Event.ELAPSED, Event.PROBE, Event.FAILURE, at=state.until)
    assert lengths == [30, 60, 120, 240, 300, 300]


def test_a_relapse_soon_after_closing_is_ejected_for_longer_and_a_late_one_is_not() -> None:
    closed = run(half_open(), Event.SUCCESS, at=T0 + 30)
    soon = run(closed, *[Event.FAILURE] * 5, at=closed.since + FORGIVEN_AFTER_S - 1)
    late = run(closed, *[Event.FAILURE] * 5, at=closed.since + FORGIVEN_AFTER_S)
    assert soon.until - soon.since == 60
    assert late.until - late.since == 30


@given(st.integers(0, 10**6), st.floats(0, 1, exclude_max=True))
def test_jitter_only_ever_lengthens_an_ejection(ejections: int, draw: float) -> None:
    assert ejection_s(ejections, 0.0) <= ejection_s(ejections, draw) <= 1.2 * ejection_s(ejections, 0.0) <= 360


@given(st.lists(st.tuples(st.sampled_from(Event), st.floats(0, 100), st.booleans()), max_size=60))
def test_over_any_history(history: list[tuple[Event, float, bool]]) -> None:
    """Every change of phase is a new generation, nothing else is, and a pair outside the table changes nothing."""
    state, now = State(), T0
    for event, later_s, failing in history:
        now += later_s
        after = step(state, event, Moment(now, failing, 0.5))
        assert after.generation - state.generation == (after.phase is not state.phase)
        assert (state.phase, event) in TRANSITIONS or after is state
        assert after.phase is not Breaker.OPEN or not after.admits(now)
        assert (state.phase, after.phase) != (Breaker.CLOSED, Breaker.HALF_OPEN)
        assert (state.phase, after.phase) != (Breaker.OPEN, Breaker.CLOSED) or event is Event.PRESENT
        state = after


def test_who_asks_after_a_sleeper_spares_requests_to_find_out() -> None:
    gone = step(State(), Event.ABSENT, Moment(T0))
    assert (gone.phase, gone.generation, gone.until) == (Breaker.OPEN, 1, T0 + 30)
    still = step(gone, Event.ABSENT, Moment(T0 + 29))
    assert (still.until, still.generation) == (T0 + 29 + ABSENT_S, 1)
    assert step(still, Event.ABSENT, Moment(T0 + 1)) == still
    back = step(still, Event.PRESENT, Moment(T0 + 31))
    assert (back.phase, back.generation, back.failures_in_a_row) == (Breaker.CLOSED, 2, 0)
    assert step(half_open(), Event.PRESENT, Moment(T0 + 31)).phase is Breaker.CLOSED
    assert step(half_open(), Event.ABSENT, Moment(T0 + 31)).until == T0 + 61
    assert step(State(), Event.PRESENT, Moment(T0)) == State()
