"""Targets: replicas without their secrets, breakers as they stand, and the sums over both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from proxy.discovery.discovery import Found
from proxy.engines import ReplicaReport
from proxy.live.recent import Recent
from proxy.live.targets import host_of, targets_of
from proxy.live.view import FoundView, TargetMoney, TargetView
from proxy.policy.model import Snapshot
from proxy.routing.readings import Breaker, Load, Quota, Reading
from tests.harness import dedicated, shared, snapshot_of
from tests.telemetry.requests import outcome, record

GPU = dedicated("gpu", "http://user:pass@one:8000/v1", "http://two:8000/v1", max_in_flight=8)
API = shared("api", "https://api.example.com/v1", provider="acme")


def view(
    *readings: Reading,
    snapshot: Snapshot | None = None,
    told: dict[tuple[str, str], ReplicaReport] | None = None,
    recent: Recent | None = None,
    now: float = 10.0,
    found: Mapping[str, Found | str] | None = None,
) -> dict[str, TargetView]:
    by_target: dict[str, tuple[Reading, ...]] = {}
    for one in readings:
        by_target[one.target] = (*by_target.get(one.target, ()), one)
    money = {"gpu": TargetMoney(nano_usd_per_mtok=5)}
    made = targets_of(
        snapshot or snapshot_of(GPU, API),
        by_target,
        told or {},
        money,
        recent or Recent(0.0),
        now,
        rate_ticks=11,
        share_ticks=61,
        found=found or {},
    )
    return {one.name: one for one in made}


def reading(replica: int = 0, target: str = "gpu", **more: object) -> Reading:
    load = Load(waiting=1, queued_tokens=100, decoding=2) if target == "gpu" else None
    return Reading(**{"target": target, "replica": replica, "as_of": 10.0, "load": load, **more})  # type: ignore[arg-type]


def test_credentials_in_a_url_are_not_shown() -> None:
    assert host_of("http://user:p%40ss@one:8000/v1?key=secret") == "one:8000"
    assert host_of("") == ""
    shown = view(reading(0), reading(1))["gpu"]
    assert [one.host for one in shown.replicas] == ["one:8000", "two:8000"]


def test_sums_over_replicas_and_the_room_of_the_emptiest() -> None:
    shown = view(reading(0, in_flight=8), reading(1, in_flight=2))["gpu"]
    assert (shown.in_flight, shown.waiting, shown.replicas_serving) == (10, 2, 2)
    assert shown.saturation == pytest.approx(0.25)
    assert [one.saturated_by for one in shown.replicas] == ["in_flight", "in_flight"]
    assert shown.money == TargetMoney(nano_usd_per_mtok=5)


@pytest.mark.parametrize(
    ("phases", "breaker", "serving"),
    [
        ((Breaker.CLOSED, Breaker.OPEN), Breaker.CLOSED, 1),
        ((Breaker.HALF_OPEN, Breaker.OPEN), Breaker.HALF_OPEN, 1),
        ((Breaker.OPEN, Breaker.OPEN), Breaker.OPEN, 0),
    ],
)
def test_the_breaker_of_a_target_is_the_best_of_its_replicas(
    phases: tuple[Breaker, ...], breaker: Breaker, serving: int
) -> None:
    shown = view(*[reading(at, breaker=phase, open_until=14.0) for at, phase in enumerate(phases)])["gpu"]
    assert (shown.breaker, shown.replicas_serving) == (breaker, serving)
    assert shown.replicas[1].open_for_s == pytest.approx(4.0)
    assert (shown.saturation is None) == (not serving)


def test_a_target_without_replicas_has_no_breaker() -> None:
    shown = view(snapshot=snapshot_of(GPU, API))["gpu"]
    assert (shown.breaker, shown.replicas, shown.in_flight) == (None, (), 0)


def test_what_its_engine_says_belongs_to_the_replica_at_that_url() -> None:
    told = {("gpu", GPU.urls[1]): ReplicaReport(replica=1, url="x", kv_use=0.9, running=7, age_s=0.5)}
    first, second = view(reading(0), reading(1), told=told)["gpu"].replicas
    assert (first.kv_use, first.engine_running) == (None, None)
    assert (second.kv_use, second.engine_running, second.saturation) == (0.9, 7, 0.9)


def test_full_and_quota_are_told_while_they_last() -> None:
    quota = Quota(unit="requests", limit=60, remaining=3, reset_at=20.0)
    shown = view(reading(0, full_until=10.5), reading(0, "api", quota=quota))
    assert shown["gpu"].replicas[0].full_for_s == pytest.approx(0.5)
    assert shown["api"].quota == "3 of 60 requests left for 10 s"
    assert view(reading(0, "api", quota=quota), now=30.0)["api"].quota == ""
    assert shown["api"].replicas[0].saturation is None


def test_rates_are_those_of_the_last_seconds() -> None:
    recent = Recent(0.0)
    for _ in range(20):
        recent.note(record(outcome(replace(GPU, name="gpu"))))
    shown = view(reading(0), recent=recent, now=4.0)["gpu"]
    assert shown.requests_per_s_here == pytest.approx(5.0)
    assert (shown.input_tokens_per_s_here, shown.output_tokens_per_s_here) == (pytest.approx(35.0), pytest.approx(15.0))


def test_how_it_stands_with_pods() -> None:
    known = Found(urls=(), terminating=1, unready=2, as_of=4.0, up=True, trouble="no port")
    assert view(found={"gpu": known})["gpu"].found == FoundView(
        up=True, age_s=6.0, unready=2, terminating=1, trouble="no port"
    )
    assert view(found={"gpu": "denied"})["gpu"].found == FoundView(up=False, age_s=None, trouble="denied")
    assert view(found={"gpu": known})["api"].found is None
