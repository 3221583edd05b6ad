"""The policies that decisions are measured with are what they are said to be."""

from __future__ import annotations

from proxy.policy.model import Endpoint
from proxy.routing.decide import Router
from proxy.routing.facts import Facts
from proxy.routing.plan import Plan

from tests.bench.decide import (
    Figure,
    Pool,
    Size,
    compiled,
    load,
    measure,
    measure_pool,
    middle,
    middle_pool,
    missed,
    missed_pools,
    pool_text,
)

SMALL = Size(4, 3, 5)


def asked(router: Router, tenant: str) -> Plan:
    facts = Facts(request_id="r", tenant=router.snapshot.tenants[tenant], model="m", endpoint=Endpoint.CHAT)
    decision = router.decide(facts, {}, 0.0, 0.0)
    assert isinstance(decision, Plan)
    return decision


def test_a_policy_has_its_size_and_each_tenant_its_route() -> None:
    router, took_s = load(SMALL)
    snapshot = router.snapshot
    assert (len(snapshot.targets), len(snapshot.routes), len(snapshot.tenants)) == (4, 3, 5)
    assert [asked(router, f"t{n}").route for n in range(5)] == ["r0", "r1", "r0", "r1", "r0"]
    assert len(asked(router, "t0").attempts) == 4
    assert took_s > 0


def test_a_figure_is_ordered() -> None:
    figure = measure(SMALL, decisions=500)
    assert 0 < figure.p50_us <= figure.p99_us


def figure(size: Size, p99_us: float, load_s: float = 1.0) -> Figure:
    return Figure(size=size, load_s=load_s, able_p50_us=1.0, p50_us=1.0, p99_us=p99_us)


def test_the_median_of_each_figure_counts() -> None:
    assert middle([figure(SMALL, 9.0, 1.0), figure(SMALL, 1.0, 3.0), figure(SMALL, 2.0, 2.0)]) == figure(
        SMALL, 2.0, 2.0
    )


def test_each_bar_can_be_missed() -> None:
    large = Size(40, 30, 50)
    assert missed([figure(SMALL, 50.0), figure(large, 500.0, 2.0)]) == []
    (slow,) = missed([figure(SMALL, 50.1), figure(large, 500.0)])
    (steep,) = missed([figure(SMALL, 10.0), figure(large, 100.1)])
    (heavy,) = missed([figure(SMALL, 50.0), figure(large, 500.0, 2.01)])
    assert "over 50" in slow
    assert "grows 10.0x" in steep
    assert "over 2" in heavy


def test_a_pool_has_its_replicas_whose_work_is_predicted() -> None:
    router, _ = compiled(pool_text(8))
    own, shared = (one.target for one in router.snapshot.models["m"])
    assert (own.replicas, shared.replicas) == (8, 1)
    assert own.profile is not None
    assert own.max_batched_tokens == 384
    assert {one.field: one.limit_s for one in router.snapshot.routes[0].want.objectives} == {
        "ttft_p99_s": 2.0,
        "itl_p99_s": 0.05,
    }


def test_a_pools_figure_is_ordered() -> None:
    pool = measure_pool(2, decisions=100)
    assert pool.replicas == 2
    assert 0 < pool.p50_us <= pool.p99_us


def pool(replicas: int, p99_us: float, p50_us: float = 1.0) -> Pool:
    return Pool(replicas=replicas, p50_us=p50_us, p99_us=p99_us)


def test_each_bar_of_pools_can_be_missed() -> None:
    assert middle_pool([pool(8, 9.0, 1.0), pool(8, 1.0, 3.0), pool(8, 2.0, 2.0)]) == pool(8, 2.0, 2.0)
    assert missed_pools([pool(8, 50.0), pool(1, 50.0), pool(256, 1600.0)]) == []
    (slow,) = missed_pools([pool(8, 50.1), pool(256, 1600.0)])
    (steep,) = missed_pools([pool(8, 10.0), pool(256, 321.0)])
    assert "8 replicas is 50.1 us" in slow
    assert "grows 32.1x to 256 replicas" in steep
