"""What one replica's reading says after what happened to it."""

from __future__ import annotations

import pytest
from msgspec.structs import asdict
from proxy.policy.model import Target
from proxy.routing.outcome import Failure
from proxy.routing.readings import UNMEASURED, Breaker
from proxy.signals.replica import READING_S, Replica
from proxy.signals.warmth import LEAST, RAMP_S
from tests.routing.policies import dedicated, shared
from tests.signals.attempts import attempt, outcome

T0 = 1000.0
TARGET = dedicated()


def replica(target: Target = TARGET, draw: float = 0.0) -> Replica:
    return Replica(target, 0, lambda: draw)


def once(one: Replica, failure: Failure | None = None, *, at: float = T0, **given: object) -> None:
    one.end(outcome(attempt(TARGET), failure, **given), one.begin(at), at)


def ejected(draw: float = 0.0) -> Replica:
    one = replica(draw=draw)
    for _ in range(5):
        once(one, Failure.FAULTED)
    return one


def test_a_blank_replica_is_idle_closed_and_unmeasured() -> None:
    seen = replica().read(T0)
    assert (seen.target, seen.replica, seen.as_of, seen.in_flight) == ("llama-eu", 0, T0, 0)
    assert seen.breaker is Breaker.CLOSED
    assert (seen.latency, seen.uptime, seen.failures) == (UNMEASURED, None, 0)


def test_a_reading_is_kept_until_something_happens_or_it_ages() -> None:
    one = replica()
    first = one.read(T0)
    assert one.read(T0 + READING_S * 0.9) is first
    assert one.read(T0 + READING_S) is not first
    kept = one.read(T0 + READING_S)
    generation = one.begin(T0 + READING_S)
    assert one.read(T0 + READING_S).in_flight == 1
    one.end(outcome(attempt(TARGET)), generation, T0 + READING_S)
    assert one.read(T0 + READING_S) == kept


def test_successes_fill_the_quantiles_and_the_uptime() -> None:
    one = replica()
    for share in range(1, 101):
        once(one, ttft_s=0.5 * share, itl_s=0.02 * share, total_s=2.0 * share)
    seen = one.read(T0)
    for name, seconds in asdict(seen.latency).items():
        kind, rank, _ = name.split("_")
        unit_s = {"ttft": 0.5, "itl": 0.02, "e2e": 2.0}[kind]
        assert seconds == pytest.approx(unit_s * int(rank[1:]), rel=0.05), name
    assert (seen.uptime, seen.failures) == (1.0, 0)


def test_only_answers_have_a_duration_and_failures_are_counted() -> None:
    one = replica()
    for _ in range(20):
        once(one, total_s=1.0)
    for _ in range(3):
        once(one, Failure.BROKEN, total_s=9.0)
    seen = one.read(T0)
    assert seen.latency.e2e_p99_s == pytest.approx(1.0, rel=0.04)
    assert (seen.uptime, seen.failures) == (20 / 23, 3)
    later = one.read(T0 + 301)
    assert (later.latency, later.uptime, later.failures) == (UNMEASURED, None, 0)


def test_a_first_token_that_never_came_counts_as_at_least_that_late() -> None:
    one = replica()
    for _ in range(20):
        once(one, Failure.FIRST_TOKEN_TIMEOUT, total_s=60.0)
    assert one.read(T0).latency.ttft_p99_s == pytest.approx(60, rel=0.04)


def test_failures_in_a_row_eject_and_the_next_probe_is_announced() -> None:
    seen = ejected().read(T0)
    assert seen.breaker is Breaker.OPEN
    assert seen.open_until == T0 + 30


def test_the_draw_lengthens_the_ejection() -> None:
    assert ejected(draw=0.5).read(T0).open_until == pytest.approx(T0 + 33)


def test_half_of_twenty_results_failing_ejects_without_a_run() -> None:
    one = replica()
    for _ in range(10):
        once(one)
        once(one, Failure.BROKEN)
    assert one.read(T0).breaker is Breaker.OPEN


@pytest.mark.parametrize("failure", [failure for failure in Failure if not failure.unhealthy])
def test_what_says_nothing_about_health_never_ejects_nor_lowers_the_uptime(failure: Failure) -> None:
    one = replica()
    for _ in range(100):
        once(one, failure)
    for _ in range(20):
        once(one)
    seen = one.read(T0)
    assert seen.breaker is Breaker.CLOSED
    assert seen.uptime == 1.0
    assert seen.in_flight == 0


@pytest.mark.parametrize(
    ("target", "retry_after_s", "believed_s"),
    [
        (dedicated(), None, 0.25),
        (dedicated(), 0.0, 0.25),
        (dedicated(), 2.0, 2.0),
        (dedicated(), 600.0, 5.0),
        (shared(), 30.0, 30.0),
        (shared(), 86400.0, 60.0),
    ],
)
def test_full_is_believed_for_as_long_as_it_asks_within_bounds(
    target: Target, retry_after_s: float | None, believed_s: float
) -> None:
    one = replica(target)
    once(one, Failure.FULL, retry_after_s=retry_after_s)
    seen = one.read(T0)
    assert seen.full_at == T0
    assert seen.full_until == T0 + believed_s
    assert seen.breaker is Breaker.CLOSED


def test_an_ejected_replica_offers_one_probe_and_recovers_with_it() -> None:
    one = ejected()
    assert one.read(T0 + 29.99).breaker is Breaker.OPEN
    assert one.read(T0 + 30).breaker is Breaker.HALF_OPEN
    generation = one.begin(T0 + 30)
    assert one.read(T0 + 30).breaker is Breaker.OPEN
    assert not one.admits(T0 + 31)
    one.end(outcome(attempt(TARGET)), generation, T0 + 31)
    assert one.read(T0 + 31).breaker is Breaker.CLOSED
    assert one.admits(T0 + 31)


def test_a_probe_cut_short_by_its_client_makes_way_for_another() -> None:
    one = ejected()
    one.end(outcome(attempt(TARGET), Failure.CLIENT_LEFT), one.begin(T0 + 30), T0 + 31)
    assert one.read(T0 + 31).breaker is Breaker.HALF_OPEN


def test_results_of_requests_sent_before_the_ejection_are_ignored() -> None:
    one = replica()
    before = [one.begin(T0) for _ in range(10)]
    for generation in before[:5]:
        one.end(outcome(attempt(TARGET), Failure.FAULTED), generation, T0)
    assert one.read(T0 + 30).breaker is Breaker.HALF_OPEN
    one.end(outcome(attempt(TARGET)), before[5], T0 + 30)
    assert one.read(T0 + 30).breaker is Breaker.HALF_OPEN
    one.end(outcome(attempt(TARGET), Failure.FAULTED), before[6], T0 + 30)
    assert one.read(T0 + 30).breaker is Breaker.HALF_OPEN
    assert one.read(T0 + 30).in_flight == 3


def test_failures_from_before_an_ejection_do_not_count_after_it() -> None:
    one = replica()
    for _ in range(19):
        once(one)
        once(one, Failure.FAULTED)
    assert one.read(T0 + 29).breaker is Breaker.OPEN
    once(one, at=T0 + 30)
    once(one, Failure.FAULTED, at=T0 + 30)
    assert one.read(T0 + 30).breaker is Breaker.CLOSED


def test_a_new_place_in_a_policy_keeps_what_was_observed() -> None:
    one = ejected()
    one.place(TARGET, 1)
    seen = one.read(T0)
    assert seen.replica == 1
    assert seen.breaker is Breaker.OPEN


def test_a_replica_that_comes_back_after_long_is_given_little_at_first() -> None:
    one = ejected()
    assert one.read(T0).load is not None
    once(one, at=T0 + 31.0)
    seen = one.read(T0 + 31.0)
    assert (seen.breaker, seen.load and seen.load.warmth) == (Breaker.CLOSED, LEAST)
    later = one.read(T0 + 31.0 + RAMP_S)
    assert later.load is not None
    assert later.load.warmth == 1.0


def test_who_asks_after_it_tells_whether_it_is_there() -> None:
    one = replica()
    one.absent(T0)
    assert one.read(T0).breaker is Breaker.OPEN
    one.appeared(T0 + 3.0)
    seen = one.read(T0 + 3.0)
    assert (seen.breaker, seen.load and seen.load.warmth) == (Breaker.CLOSED, LEAST)
