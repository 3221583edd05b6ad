"""Each of the others' rules does what it is known for."""

from __future__ import annotations

import numpy as np
from proxy.advisor.baselines import DEDICATED, Adaptive, AtMost, Baseline, aimd, in_flight, queue, weight
from proxy.advisor.replayed import REFUSED, Replayed
from proxy.advisor.simulate import simulate
from proxy.advisor.trace import Trace
from proxy.policy.model import Endpoint, Key, Tenant
from proxy.routing.facts import Facts
from proxy.routing.plan import Attempt, Cause
from proxy.routing.readings import Reading
from tests.advisor.policies import pool
from tests.advisor.traffic import crowd, steady

CROWD = crowd(800, 9.0)
TENANT = Tenant(name="t")
FACTS = Facts(request_id="r", tenant=TENANT, key=Key(tenant=TENANT), model="llama", endpoint=Endpoint.CHAT)
GPU, API = pool().targets["gpu"], pool().targets["api"]


def kept(run: Replayed) -> float:
    return float(np.isin(run.target, [i for i, name in enumerate(run.targets) if name == "gpu"]).mean())


def replay(rule: Baseline, trace: Trace = CROWD, replicas: int = 1) -> Replayed:
    return rule.replay(trace, pool(), replicas={"gpu": replicas})


def most_at_once(run: Replayed) -> int:
    on_gpu = run.target == 0
    begun = run.trace.arrival_s[on_gpu]
    ended = begun + run.e2e_s[on_gpu]
    return max(int(((begun <= at_s) & (ended > at_s + 1e-5)).sum()) for at_s in begun)


def test_all_dedicated_refuses_nothing_and_spills_nothing() -> None:
    run = replay(DEDICATED)
    assert run.policy == "all dedicated" and kept(run) == 1.0 and not run.nano_usd.any()
    assert run.met.mean() < 0.9  # it waits


def test_a_threshold_is_never_exceeded_and_always_used() -> None:
    assert most_at_once(replay(in_flight(5))) == 5
    assert replay(in_flight(5), replicas=3).policy == "in flight 5"
    assert kept(replay(in_flight(5))) < kept(replay(in_flight(20))) < kept(replay(in_flight(500))) == 1.0


def test_an_engine_with_a_full_queue_passes_requests_on() -> None:
    short, long = replay(queue(1)), replay(queue(30))
    assert 0 < kept(short) < kept(long) <= 1
    assert (short.target != REFUSED).all()
    assert "fallback" in short.reasons


def test_engines_are_asked_again_at_once_after_they_were_full() -> None:
    """Two a second, each of which takes an engine with one place in its queue a fraction of that."""
    run = replay(queue(1), steady(100, 0.5, input_tokens=200, output_tokens=10))
    assert kept(run) == 1.0


def test_a_weight_is_a_share() -> None:
    for share in (0.0, 0.25, 1.0):
        assert abs(kept(replay(weight(share))) - share) < 0.05
    assert abs(kept(replay(weight(0.5), replicas=3)) - 0.5) < 0.05


def test_a_limit_grows_while_it_is_used_and_answers_are_in_time() -> None:
    room = Adaptive(2.0, 0.5)
    attempt = Attempt(target=GPU, replica=0, model="m", ordinal=0, cause=Cause.PREFERRED, reason="")

    def limit() -> int:
        return next(
            n
            for n in range(100)
            if not room.has_room(GPU, Reading(target="gpu", replica=0, as_of=0, in_flight=n), FACTS)
        )

    assert limit() == 8
    for _ in range(20):
        limit()
        room.heard(attempt, 0.1)
    assert limit() == 11  # 10.2, rounded up
    room.heard(attempt, 2.1)
    assert limit() == 6
    room.has_room(GPU, Reading(target="gpu", replica=0, as_of=0, in_flight=1), FACTS)
    for _ in range(50):
        room.heard(attempt, 0.1)  # nobody is near the limit
    assert limit() == 6
    assert room.has_room(API, Reading(target="api", replica=0, as_of=0, in_flight=10_000), FACTS)
    assert "in flight" in room.shortage(GPU, [], FACTS).observed


def test_an_adaptive_limit_keeps_its_traffic_in_time() -> None:
    run = replay(aimd(0.5, 2.0))
    assert 0.1 < kept(run) < 1.0
    assert run.met.mean() > 0.95


def test_a_threshold_holds_gpus_alone() -> None:
    full = Reading(target="api", replica=0, as_of=0.0, in_flight=9)
    assert AtMost(3).has_room(API, full, FACTS) and not AtMost(3).has_room(GPU, full, FACTS)
    assert AtMost(None).has_room(GPU, full, FACTS)
    assert AtMost(3).shortage(GPU, [full, full], FACTS).observed == "18 in flight"


def test_without_gpus_every_rule_costs_the_same() -> None:
    bare = simulate(CROWD, pool(), replicas={"gpu": 0}).nano_usd_in_all
    assert replay(in_flight(5), replicas=0).nano_usd_in_all == bare
    assert replay(weight(0.5), replicas=0).nano_usd_in_all == bare
