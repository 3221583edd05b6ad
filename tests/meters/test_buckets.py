"""Four processes share a bucket over the real script on a real server, under a clock that the tests turn.

The bound is checked for every span of time between two admissions, not for some.
"""

from __future__ import annotations

import pytest
from proxy.meters.buckets import Buckets
from proxy.meters.part import Ask, Heard, Moment
from proxy.meters.scope import MOVES_IN_S
from proxy.meters.standing import RateStanding
from proxy.policy.model import Limits, Mode, Route, Rules, Snapshot, Tenant
from tests.meters.bucket_world import TENANT, World, new_name, offered, policy, world

RPM = Limits(rpm=600)
EXACT = 1e-6


def burst(one: World, process: int, times: int) -> int:
    return sum(one.processes[process].ask() is not None for _ in range(times))


def test_a_process_by_itself_has_the_whole_bucket_as_soon_as_it_has_heard_the_store(store_url: str) -> None:
    one = World(store_url, new_name())
    one.add(Limits(rpm=3))
    assert burst(one, 0, 1) == 0
    one.go(0.3)
    assert burst(one, 0, 5) == 3
    one.go(22.0)
    assert burst(one, 0, 5) == 1
    one.go(300.0)
    assert burst(one, 0, 5) == 3
    one.clear()


def test_idle_processes_hold_equal_parts(store_url: str) -> None:
    with world(store_url, Limits(rpm=602)) as one:
        assert {burst(one, n, 602) for n in range(4)} <= {150, 151}


def test_less_than_one_request_each_is_held_by_some_and_moves_to_who_needs_it(store_url: str) -> None:
    with world(store_url, Limits(rpm=3)) as one:
        (poor,) = [n for n in range(4) if one.processes[n].buckets.rates(one.now)[TENANT].requests == 3]
        for _ in range(10):
            burst(one, poor, 1)
            one.go(0.2)
        assert one.processes[poor].admitted == 3
        assert one.excess(3) <= EXACT


@pytest.mark.parametrize("limit", [600, 60])
@pytest.mark.parametrize(
    "parts", [(2, 0, 0, 0), (1.8, 0.2, 0, 0), (0.5, 0.5, 0.5, 0.5), (0, 0, 20, 0), (1, 0.5, 0.1, 0)]
)
def test_the_limit_is_used_and_kept_however_demand_is_spread(
    parts: tuple[float, ...], limit: int, store_url: str
) -> None:
    with world(store_url, Limits(rpm=limit)) as one:
        admitted = sum(offered(one, [limit / 60.0 * part for part in parts], 120.0))
        assert one.excess(limit) <= EXACT
        assert admitted >= 0.95 * min(limit * 3, limit * 2 * sum(parts) * 0.95)


def test_the_limit_follows_demand_from_one_process_to_the_next(store_url: str) -> None:
    with world(store_url, RPM) as one:
        admitted = 0
        for turn in range(24):
            admitted += sum(offered(one, [20.0 * (turn % 4 == n) for n in range(4)], 5.0))
        assert one.excess(600) <= EXACT
        assert admitted >= 0.95 * (600 + 10 * 120)


def test_each_of_many_that_want_more_than_there_is_gets_the_same(store_url: str) -> None:
    with world(store_url, RPM) as one:
        list(offered(one, [20.0] * 4, 60.0))
        admitted = list(offered(one, [20.0, 40.0, 20.0, 80.0], 60.0))
        assert min(admitted) > 0.8 * max(admitted)


def test_while_the_store_is_away_each_has_its_share(store_url: str) -> None:
    with world(store_url, RPM) as one:
        list(offered(one, [20.0] * 4, 60.0))
        one.up = False
        admitted = list(offered(one, [20.0] * 4, 60.0))
        assert all(0.9 * 150 < count < 1.1 * 150 for count in admitted)
        one.up = True
        assert sum(offered(one, [40.0, 0, 0, 0], 60.0)) >= 0.95 * 600
        assert one.excess(600) <= EXACT


def test_two_that_are_cut_off_have_their_shares_and_the_others_theirs(store_url: str) -> None:
    with world(store_url, RPM) as one:
        list(offered(one, [20.0] * 4, 60.0))
        for process in one.processes[:2]:
            process.reachable = False
        admitted = list(offered(one, [20.0, 20.0, 40.0, 0.0], 40.0))
        assert 190 <= admitted[2] + admitted[3] <= 210
        assert all(0.85 * 100 < count < 1.1 * 100 for count in admitted[:2])
        for process in one.processes[:2]:
            process.reachable = True
        assert sum(offered(one, [40.0, 0, 0, 0], 60.0)) >= 0.95 * 600
        assert one.excess(600) <= EXACT


def test_one_that_hears_no_answers_is_cut_off_as_well(store_url: str) -> None:
    with world(store_url, RPM) as one:
        list(offered(one, [20.0] * 4, 60.0))
        one.processes[0].trouble = lambda: "answer lost"
        admitted = list(offered(one, [20.0] * 4, 40.0))
        assert 80 < admitted[0] < 110
        assert one.excess(600) <= EXACT


@pytest.mark.parametrize("restarted", [True, False], ids=["restarted", "flushed"])
def test_a_wiped_store_grants_nothing_until_it_has_been_told(restarted: bool, store_url: str) -> None:
    with world(store_url, RPM) as one:
        list(offered(one, [20.0] * 4, 60.0))
        one.wipe(restart=restarted)
        assert sum(offered(one, [20.0] * 4, 60.0)) >= 0.95 * 570
        one.restart()
        assert sum(offered(one, [0.0, 40.0, 0.0, 0.0], 60.0)) >= 0.95 * 570
        assert one.excess(600) <= EXACT


def test_the_share_of_one_that_died_is_missing_until_it_is_forgotten_or_buried(store_url: str) -> None:
    with world(store_url, RPM) as one:
        list(offered(one, [20.0] * 4, 60.0))
        dead = one.processes.pop()
        dead.alive = False
        assert 0.7 * 300 < sum(offered(one, [20.0] * 3, 30.0)) < 0.82 * 300
        one.processes[0].buckets.bury([dead.slot])
        assert sum(offered(one, [20.0] * 3, 30.0)) > 0.95 * 300
        one.processes.pop().alive = False
        list(offered(one, [20.0] * 2, 65.0))
        assert sum(offered(one, [20.0] * 2, 30.0)) > 0.95 * 300
        assert one.excess(600) <= EXACT


def test_one_that_leaves_gives_back_what_it_has(store_url: str) -> None:
    with world(store_url, RPM) as one:
        one.processes.pop().leave()
        one.go(5.0)
        assert sum(burst(one, n, 600) for n in range(3)) >= 3 * 199


def test_one_that_never_hears_the_store_has_the_part_that_it_was_told_of(store_url: str) -> None:
    one = World(store_url, new_name())
    one.up = False
    process = one.add(Limits(rpm=600, concurrency=8), expected_members=4)
    one.go(1.0)
    assert process.ask(lasts_s=1.0) is None
    one.go(1.0)
    process.offer(20.0, one.now + 30.0)
    before = process.admitted
    one.go(30.0)
    assert process.admitted == before + 2
    one.clear()


def test_a_policy_that_changes_keeps_what_is_leased(store_url: str) -> None:
    with world(store_url, RPM) as one:
        list(offered(one, [20.0] * 4, 90.0))
        for process in one.processes:
            process.limits = Limits(rpm=60)
        assert sum(offered(one, [20.0] * 4, 120.0)) <= 60 * 3 + 5
        for process in one.processes:
            process.limits = Limits(tpm=1000)
        one.go(3.0)
        assert sum(offered(one, [20.0] * 4, 0.5, tokens=10)) > 0


def test_tokens_beyond_the_estimate_are_paid_back_first(store_url: str) -> None:
    with world(store_url, Limits(tpm=6000), processes=2) as one:
        first, second = one.processes
        assert first.ask(3000, lasts_s=0.1, used=15_000) is not None
        one.go(1.0)
        for _ in range(8):
            assert first.ask(100) is None
            one.go(10.0)
        for _ in range(4):
            second.ask(100)
            one.go(10.0)
        assert second.admitted >= 1
        assert one.excess(6000) <= 12_000


def test_what_was_not_used_comes_back(store_url: str) -> None:
    with world(store_url, Limits(tpm=6000), processes=1) as one:
        (process,) = one.processes
        for _ in range(60):
            process.ask(2000, lasts_s=0.3, used=50)
            one.go(1.0)
        assert process.refused == 0
        assert one.excess(6000) <= EXACT


def test_a_request_that_is_larger_than_one_process_holds_is_served_when_the_bucket_allows_it(store_url: str) -> None:
    with world(store_url, Limits(tpm=6000)) as one:
        process = one.processes[0]
        assert process.ask(5000) is None
        one.go(1.0)
        assert process.ask(5000) is not None
        one.go(70.0)
        # More than a whole minute's worth waits until nobody holds any of it.
        assert process.ask(9000) is None
        one.go(1.2)
        assert process.ask(9000) is not None
        one.go(20.0)
        assert process.ask(10) is None


def test_places_are_never_more_than_the_limit(store_url: str) -> None:
    with world(store_url, Limits(concurrency=8)) as one:
        open_now: list[int] = []
        most = 0
        for _ in range(60):
            for n, process in enumerate(one.processes):
                for _ in range(4 if n == 0 else 1):
                    if process.ask(lasts_s=one.random.uniform(0.1, 3.0)) is not None:
                        open_now.append(n)
            in_use = sum(process.in_use for process in one.processes)
            most = max(most, in_use)
            assert in_use <= 8
            one.up = one.random.random() > 0.1
            one.go(0.3)
        assert most == 8


def test_limits_that_do_not_refuse_are_counted_in_buckets_of_their_own() -> None:
    route = Route(name="r", require=Rules(limits=Limits(rpm=60)), want=Rules(limits=Limits(rpm=6)))
    tenant = Tenant(name="bank", limits=Limits(rpm=6, mode=Mode.SHADOW))
    snapshot = Snapshot(digest="", source="", targets={}, models={}, routes=(route,), tenants={"bank": tenant})
    buckets = Buckets(clock=lambda: 0.0)
    buckets.adopt(snapshot)
    assert set(buckets) == {"route:r", "want.route:r", "shadow.tenant.tenant:bank"}
    ask = buckets.ask(Moment("me", 0.0, None))
    assert ask is not None
    buckets.told(
        [b"run", 0, 1_000_000, 1, 0, [], [6, 0, 0, 60, 0, 0, 6, 0, 0]], Heard(0, 1, False), Moment("me", 0.0, None)
    )
    for n in range(10):
        buckets.admit(tuple(buckets), 0, 0.0)
        rates = buckets.rates(0.0)
        assert (rates["route:r"].requests, rates["want.route:r"].requests) == (n + 1, min(n + 1, 6))
    assert "x-ratelimit-limit-requests" in {name.decode() for name, _ in buckets.headers(tuple(buckets), 0.0)}
    assert dict(buckets.headers(tuple(buckets), 0.0))[b"x-ratelimit-limit-requests"] == b"60"
    assert buckets.headers(("want.route:r",), 0.0) == ()
    assert buckets.headers((), 0.0) == ()


def test_how_limits_stand() -> None:
    route = Route(name="r", want=Rules(limits=Limits(tpm=600)), shadow_require=Rules(limits=Limits(concurrency=4)))
    tenant = Tenant(name="bank", limits=Limits(rpm=60))
    snapshot = Snapshot(digest="", source="", targets={}, models={}, routes=(route,), tenants={"bank": tenant})
    buckets = Buckets(clock=lambda: 0.0)
    buckets.adopt(snapshot)
    assert not any(one.known for one in buckets.standings(0.0))
    assert buckets.ask(Moment("me", 0.0, None)) is not None
    reply = [b"run", 0, 500_000, 2, 0, [], [30, 5, 10, 300, 0, 300, 2, 0, 1]]
    buckets.told(reply, Heard(0, 1, False), Moment("me", 0.0, None))
    assert buckets.standings(0.0) == (
        RateStanding(scope="tenant bank", rate="rpm", limit=60, used=15, leased=30),
        RateStanding(scope="route r, wanted", rate="tpm", limit=600, used=0, leased=300),
        RateStanding(scope="route r", rate="concurrency", limit=4, used=1, leased=2, shadow=True),
    )
    found = buckets.rates(0.0)["tenant:bank"]
    assert (found.requests, found.requests_elsewhere, found.frees_in_s) == (30, 0, 0.0)
    buckets.admit(("tenant:bank",) * 30, 0, 0.0)
    found = buckets.rates(0.0)["tenant:bank"]
    assert (found.requests, found.requests_elsewhere, found.frees_in_s) == (60, 15, MOVES_IN_S)


def test_a_limit_that_comes_back_finds_what_it_had(store_url: str) -> None:
    with world(store_url, RPM, processes=2) as one:
        first = one.processes[0]
        first.limits = Limits(concurrency=1)
        first.limits = RPM
        one.go(1.0)
        assert burst(one, 0, 600) + burst(one, 1, 600) <= 600
        first.limits = Limits(concurrency=1)
        one.go(1.0)
        first.limits = RPM
        list(offered(one, [20.0, 20.0], 60.0))
        assert one.excess(600) <= EXACT


def test_a_process_without_limits_asks_nothing() -> None:
    buckets = Buckets(clock=lambda: 0.0)
    buckets.adopt(Snapshot(digest="", source="", targets={}, models={}, routes=()))
    assert buckets.ask(Moment("me", 0.0, None)) is None
    assert len(buckets) == 0


def test_thousands_of_limits_are_asked_for_some_at_a_time() -> None:
    names = tuple(f"t{n}" for n in range(1200))
    buckets = Buckets(clock=lambda: 0.0)
    buckets.adopt(policy(RPM, names))
    asked: list[Ask] = []
    while not buckets.ready:
        ask = buckets.ask(Moment("me", 0.0, None))
        assert ask is not None
        asked.append(ask)
        count = ask.argument.count(b"tenant:")
        assert count <= 500
        reply = [b"run", 0, 1_000_000, 1, 0, [], [600, 0, 0] * count]
        buckets.told(reply, Heard(0, 1, False), Moment("me", 0.0, None))
    assert len(asked) <= 5
    assert all(rate.requests == 0 for rate in buckets.rates(0.0).values())
