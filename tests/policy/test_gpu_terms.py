"""On what terms GPUs are had, as a policy writes them."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from proxy.policy.gpus import DnsReplicas, Gpus, KubernetesReplicas, ReplicaSource, TimedPrice, Tranche
from proxy.policy.schedule import Schedule
from tests.policy.policies import messages, one_target, target

OWN = 'lane: dedicated, url: "http://own:8000/v1", model: up'
H100 = "type: H100, count: 4, usd_per_hour: 2.99"


def gpus(tmp_path: Path, keys: str) -> Gpus:
    compiled = target(tmp_path, f"{OWN}, gpus: {{{H100}, {keys}}}").gpus
    assert compiled is not None
    return compiled


def test_reserved_and_spot_replicas_have_prices_of_their_own(tmp_path: Path) -> None:
    terms = "reserved: {replicas: 2, usd_per_hour: 1.80}, spot: {replicas: 1, usd_per_hour: $1.20}, replicas: 4"
    mixed = gpus(tmp_path, terms)
    assert mixed.reserved == Tranche(replicas=2, nano_usd_per_hour=1_800_000_000)
    assert mixed.spot == Tranche(replicas=1, nano_usd_per_hour=1_200_000_000)


def test_a_schedule_is_that_of_routes_with_a_price(tmp_path: Path) -> None:
    night = '{days: [sat, sun], hours: "22:00-06:00", zone: Europe/Berlin, usd_per_hour: 1.50}'
    schedule = Schedule(zone=ZoneInfo("Europe/Berlin"), days=frozenset({5, 6}), from_minute=22 * 60, to_minute=6 * 60)
    expected = (TimedPrice(schedule=schedule, nano_usd_per_hour=1_500_000_000),)
    assert gpus(tmp_path, f"schedule: [{night}]").schedule == expected
    assert gpus(tmp_path, f"schedule: {night}").schedule == expected


@pytest.mark.parametrize(
    ("written", "replicas"),
    [
        ("3", 3),
        ("{count: 3}", 3),
        ("{dns: vllm.inference.svc}", DnsReplicas(host="vllm.inference.svc")),
        ('{dns: "vllm.inference.svc:8000"}', DnsReplicas(host="vllm.inference.svc")),
        (
            "{kubernetes: {service: vllm, namespace: inference}}",
            KubernetesReplicas(service="vllm", namespace="inference"),
        ),
    ],
)
def test_how_many_replicas_there_are_is_said_or_asked(
    written: str, replicas: int | ReplicaSource, tmp_path: Path
) -> None:
    assert gpus(tmp_path, f"replicas: {written}").replicas == replicas


def test_what_is_not_said_has_one_price_and_the_urls_count(tmp_path: Path) -> None:
    plain = target(tmp_path, f"{OWN}, gpus: {{{H100}}}").gpus
    assert plain == Gpus(type="H100", count=4, nano_usd_per_hour=2_990_000_000)


def test_a_price_on_demand_is_always_needed(tmp_path: Path) -> None:
    text = one_target(f"{OWN}, gpus: {{type: H100, count: 4, spot: {{replicas: 1, usd_per_hour: 1.20}}}}")
    assert messages(tmp_path, text) == ["`usd_per_hour` is missing in `targets.it.gpus`"]
