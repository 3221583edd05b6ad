"""From attempts and outcomes to readings, across workers and policy reloads."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from proxy.policy.discovery import DnsService
from proxy.policy.model import Candidate, Limits, Target
from proxy.routing.outcome import Failure
from proxy.routing.plan import Attempt, Exclusion, Refusal
from proxy.routing.readings import Breaker, Load, Quota
from proxy.signals.tracker import Begun, Tracker
from proxy.signals.warmth import LEAST
from tests.routing.policies import dedicated, facts, replaced, shared
from tests.signals.attempts import attempt, outcome

T0 = 1000.0
EU = dedicated(replicas=2)
US = shared()
ASK = facts(input_tokens=10, max_output_tokens=90)
EMPTY = [
    (b"x-ratelimit-limit-requests", b"10"),
    (b"x-ratelimit-remaining-requests", b"0"),
    (b"x-ratelimit-reset-requests", b"60.5"),
]
REVERSED = replace(EU, urls=EU.urls[::-1])


def tracker(*targets: Target) -> Tracker:
    return Tracker(targets or (EU, US), lambda: 0.0)


def candidates(*targets: Target) -> tuple[Candidate, ...]:
    return tuple(Candidate(target=target, model=target.model) for target in targets)


def loads(signals: Tracker, *targets: Target, at: float = T0) -> dict[str, list[int]]:
    return {name: [one.in_flight for one in seen] for name, seen in signals.read(candidates(*targets), at).items()}


def eject(signals: Tracker, target: Target, at: float = T0) -> None:
    for _ in range(5):
        one = attempt(target)
        signals.feed(signals.begin(one, ASK, at), outcome(one, Failure.CONNECT), at)


def test_there_is_a_reading_for_each_replica_of_the_candidates_asked_for() -> None:
    seen = tracker().read(candidates(EU), T0)
    assert {name: [one.replica for one in ones] for name, ones in seen.items()} == {"llama-eu": [0, 1]}


def test_a_target_without_a_url_has_one_replica() -> None:
    bare = Target(name="claude", lane=US.lane, model="claude", region="us", provider="anthropic")
    signals = tracker(bare)
    one = attempt(bare)
    signals.begin(one, ASK, T0)
    assert loads(signals, bare) == {"claude": [1]}


def test_an_attempt_is_in_flight_on_its_replica_until_its_outcome() -> None:
    signals = tracker()
    one = attempt(EU, replica=1)
    begun = signals.begin(one, ASK, T0)
    assert loads(signals, EU, US) == {"llama-eu": [0, 1], "together": [0]}
    signals.feed(begun, outcome(one), T0 + 1)
    assert loads(signals, EU, US) == {"llama-eu": [0, 0], "together": [0]}


def test_a_request_that_nobody_could_serve_has_the_ejected_tried_again() -> None:
    signals = tracker(US)
    eject(signals, US)
    out = Exclusion("together", "breaker", "open", "closed", False)
    for because, later, phase in (
        ("capacity", 3, Breaker.OPEN),
        ("breaker", 1, Breaker.OPEN),
        ("breaker", 3, Breaker.HALF_OPEN),
    ):
        refusal = Refusal(status=503, code="c", message="m", rule="r", excluded=(replaced(out, rule=because),))
        signals.refused(refusal, T0 + later)
        (reading,) = signals.survey(T0 + later)["together"]
        assert reading.breaker is phase


def test_proxies_mean_the_same_replica_in_whatever_order_they_found_them() -> None:
    one, other = tracker(EU), tracker(REVERSED)
    one.begin(attempt(EU, replica=1), ASK, T0)
    other.absorb(one.gauges(T0), T0)
    assert loads(other, REVERSED) == {"llama-eu": [1, 0]}


def test_no_proxy_is_told_where_a_replica_is() -> None:
    assert not [key for key in tracker().gauges(T0) if any(part in key for part in ("http", "10.0", "llama-eu-"))]


def test_a_target_of_which_nothing_was_found_has_no_reading() -> None:
    asleep = replace(EU, urls=(), discovery=DnsService(host="llama.svc", port=8000))
    signals = tracker(asleep)
    assert signals.read(candidates(asleep), T0) == {"llama-eu": ()}
    signals.adopt([replace(asleep, urls=EU.urls)], T0 + 1)
    (reading, _) = signals.survey(T0 + 1)["llama-eu"]
    assert reading.load is not None
    assert reading.load.warmth < 1


def test_one_attempt_may_be_under_way_many_times() -> None:
    """A plan for the usual case is made once, and its attempts are everybody's."""
    signals = tracker()
    one = attempt(EU)
    begun = [signals.begin(one, ASK, T0) for _ in range(3)]
    assert loads(signals, EU) == {"llama-eu": [3, 0]}
    for each in begun:
        signals.feed(each, outcome(one), T0)
    assert loads(signals, EU) == {"llama-eu": [0, 0]}


def test_workers_learn_of_each_others_requests() -> None:
    signals = tracker()
    signals.begin(attempt(EU, replica=1), ASK, T0)
    told = signals.gauges(T0)
    assert sorted(told.values()) == [0, 0, 1, 1, ASK.input_tokens]
    other, busy = (key for key in told if key.startswith("llama-eu/") and ":" not in key)
    assert told == {other: 0, busy: 1, f"{busy}:waiting": 1, f"{busy}:queued": ASK.input_tokens} | dict.fromkeys(
        (key for key in told if key.startswith("together/")), 0
    )
    signals.read(candidates(EU), T0)
    signals.absorb({other: 7, busy: 2, "gone/0": 9}, T0)
    assert loads(signals, EU, US) == {"llama-eu": [7, 3], "together": [0]}
    signals.absorb({busy: 1}, T0)
    assert loads(signals, EU) == {"llama-eu": [0, 2]}
    assert loads(signals, EU, at=T0 + 60) == {"llama-eu": [0, 1]}


def test_the_work_of_dedicated_replicas_is_kept_from_their_streams_and_told_to_the_other_workers() -> None:
    signals, other = tracker(), tracker()
    begun = signals.begin(attempt(EU), msgspec.structs.replace(ASK, stream=True), T0)
    signals.begin(attempt(US), ASK, T0)
    (busy, idle), (shared_one,) = signals.survey(T0).values()
    assert (busy.load, idle.load, shared_one.load) == (
        Load(waiting=1, queued_tokens=10, begun_at=T0),
        Load(begun_at=-inf),
        None,
    )
    other.survey(T0)
    other.absorb(signals.gauges(T0), T0)
    heard = other.survey(T0)["llama-eu"][0].load
    assert heard is not None
    assert (heard.waiting, heard.queued_tokens) == (1, 10)
    signals.first(begun, T0 + 1)
    streaming = signals.survey(T0 + 1)["llama-eu"][0].load
    assert streaming is not None
    assert (streaming.waiting, streaming.decoding) == (0, 1)
    signals.feed(begun, outcome(attempt(EU)), T0 + 2)
    ended = signals.survey(T0 + 2)["llama-eu"][0].load
    assert ended is not None
    assert (ended.waiting, ended.decoding, ended.context_tokens) == (0, 0, 0)


def test_a_probe_already_on_its_way_stops_a_later_attempt_from_following() -> None:
    signals = tracker()
    eject(signals, US)
    planned = attempt(US)
    assert not signals.admits(planned, T0 + 29)
    assert signals.admits(planned, T0 + 30)
    signals.begin(attempt(US), ASK, T0 + 30)
    assert not signals.admits(planned, T0 + 30)


def test_the_head_of_a_reply_paces_its_target_before_the_reply_has_ended() -> None:
    signals = tracker()
    begun = signals.begin(attempt(US), ASK, T0)
    assert signals.listens(begun)
    assert not signals.listens(signals.begin(attempt(EU), ASK, T0))
    before = signals.read(candidates(US), T0)["together"][0]
    assert (before.paced_until, before.quota) == (0.0, None)
    signals.hear(begun, 200, EMPTY, T0, 0.0)
    after = signals.read(candidates(US), T0)["together"][0]
    assert after.paced_until > T0
    assert after.quota == Quota(unit="requests", limit=10, remaining=0, reset_at=T0 + 60.5)
    assert not signals.admits(attempt(US), T0)
    assert signals.admits(attempt(US), T0 + 61)


def test_a_targets_limits_hold_over_all_of_its_replicas_and_workers() -> None:
    limited = replace(EU, limits=Limits(rpm=4))
    signals, other = tracker(limited), tracker(limited)
    for index in range(2):
        signals.begin(attempt(limited, replica=index), ASK, T0)
        other.begin(attempt(limited, replica=index), ASK, T0)
    signals.absorb(other.gauges(T0), T0)
    seen = signals.read(candidates(limited), T0)["llama-eu"]
    assert all(one.paced_until > T0 for one in seen)
    assert signals.gauges(T0)["requests:target:llama-eu"] == 2
    assert signals.read(candidates(limited), T0 + 62)["llama-eu"][0].paced_until == 0.0


def test_a_survey_covers_the_whole_policy() -> None:
    assert {name: len(seen) for name, seen in tracker().survey(T0).items()} == {"llama-eu": 2, "together": 1}


class TestReload:
    def test_replicas_keep_their_state_and_take_their_new_places(self) -> None:
        signals = tracker()
        eject(signals, EU)
        signals.adopt([REVERSED])
        seen = signals.read(candidates(REVERSED), T0)["llama-eu"]
        assert [(one.replica, one.breaker) for one in seen] == [(0, Breaker.CLOSED), (1, Breaker.OPEN)]

    def test_requests_of_the_old_policy_still_read_and_report_by_its_places(self) -> None:
        signals = tracker()
        running = attempt(EU, replica=0)
        begun = signals.begin(running, ASK, T0)
        signals.adopt([REVERSED])
        assert loads(signals, EU) == {"llama-eu": [1, 0]}
        assert loads(signals, REVERSED) == {"llama-eu": [0, 1]}
        assert [one.replica for one in signals.read(candidates(EU), T0)["llama-eu"]] == [0, 1]
        late = attempt(EU, replica=1)
        begun_late = signals.begin(late, ASK, T0)
        assert loads(signals, REVERSED) == {"llama-eu": [1, 1]}
        signals.feed(begun, outcome(running), T0)
        signals.feed(begun_late, outcome(late), T0)
        assert loads(signals, REVERSED) == {"llama-eu": [0, 0]}

    def test_a_target_that_left_and_came_back_idle_starts_blank(self) -> None:
        signals = tracker()
        eject(signals, US)
        signals.adopt([EU])
        signals.adopt([EU, US])
        assert signals.read(candidates(US), T0)["together"][0].breaker is Breaker.CLOSED

    def test_what_was_learned_of_a_provider_stays_while_its_target_does(self) -> None:
        signals = tracker()
        signals.hear(signals.begin(attempt(US), ASK, T0), 200, EMPTY, T0, 0.0)
        limited = replace(US, limits=Limits(rpm=1000))
        signals.adopt([limited])
        assert signals.read(candidates(limited), T0)["together"][0].quota is not None
        signals.adopt([EU])
        signals.adopt([EU, US])

    def test_a_target_that_left_while_busy_is_remembered(self) -> None:
        signals = tracker()
        running = attempt(US)
        begun = signals.begin(running, ASK, T0)
        signals.adopt([EU])
        signals.adopt([EU, US])
        assert loads(signals, US) == {"together": [1]}
        signals.feed(begun, outcome(running), T0)
        assert loads(signals, US) == {"together": [0]}


class Traffic(RuleBasedStateMachine):
    """Whatever begins, ends and reloads, the counts are those of the attempts that are running."""

    def __init__(self) -> None:
        super().__init__()
        self.now = T0
        self.signals = tracker()
        self.running: list[tuple[Attempt, Begun]] = []

    @rule(place=st.sampled_from(((EU, 0), (EU, 1), (US, 0))))
    def begin(self, place: tuple[Target, int]) -> None:
        one = attempt(*place)
        self.running.append((one, self.signals.begin(one, ASK, self.now)))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), failure=st.none() | st.sampled_from(Failure))
    def end(self, data: st.DataObject, failure: Failure | None) -> None:
        one, begun = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.signals.feed(begun, outcome(one, failure, ttft_s=0.3), self.now)

    @rule(later_s=st.floats(0, 100))
    def wait(self, later_s: float) -> None:
        self.now += later_s

    @rule(listed=st.sampled_from([(EU, US), (US, EU), (EU,), (US,), ()]))
    def reload(self, listed: tuple[Target, ...]) -> None:
        self.signals.adopt(listed)

    @invariant()
    def counts_are_exact(self) -> None:
        counted = loads(self.signals, EU, US, at=self.now)
        for target in (EU, US):
            for index in range(target.replicas):
                mine = [one for one, _ in self.running if one.target is target and one.replica == index]
                assert counted[target.name][index] == len(mine)


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_a_replica_that_a_policy_adds_has_just_appeared_and_those_of_the_first_were_there() -> None:
    signals = tracker()
    more = replace(EU, urls=(*EU.urls, "http://new/v1"))
    signals.adopt([more, US], T0)
    warmths = [seen.load.warmth for seen in signals.survey(T0)["llama-eu"] if seen.load is not None]
    assert warmths == [1.0, 1.0, LEAST]


def test_a_sleeper_is_found_or_is_not() -> None:
    signals = tracker()
    signals.found("llama-eu", EU.urls[1], T0, present=False)
    signals.found("llama-eu", "http://unheard-of/v1", T0, present=False)
    assert [seen.breaker for seen in signals.survey(T0)["llama-eu"]] == [Breaker.CLOSED, Breaker.OPEN]
    signals.found("llama-eu", EU.urls[1], T0 + 1.0, present=True)
    assert [seen.breaker for seen in signals.survey(T0 + 1.0)["llama-eu"]] == [Breaker.CLOSED, Breaker.CLOSED]
