"""What GPUs cost at one moment: reserved, spot, on demand, and by the time of day; and how many there are."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from proxy.policy.gpus import DnsReplicas, Gpus, KubernetesReplicas, ReplicaSource, TimedPrice, Tranche
from proxy.policy.schedule import Schedule

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC).timestamp()  # a Friday
SATURDAY_NIGHT = datetime(2026, 11, 21, 23, 0, tzinfo=BERLIN).timestamp()
NIGHT = TimedPrice(
    schedule=Schedule(zone=BERLIN, days=frozenset({5, 6}), from_minute=22 * 60, to_minute=6 * 60),
    nano_usd_per_hour=1_500_000_000,
)
H100 = Gpus(type="H100", count=4, nano_usd_per_hour=2_990_000_000)
MIXED = Gpus(
    type="H100",
    count=4,
    nano_usd_per_hour=2_990_000_000,
    reserved=Tranche(replicas=2, nano_usd_per_hour=1_800_000_000),
    spot=Tranche(replicas=1, nano_usd_per_hour=1_200_000_000),
    schedule=(NIGHT,),
)


def test_on_demand_every_replica_costs_the_same() -> None:
    assert [H100.rate(replicas, NOON) for replicas in (0, 1, 3)] == [0, 11_960_000_000, 35_880_000_000]


@pytest.mark.parametrize(
    ("replicas", "usd"),
    [(0, 2 * 1.8), (1, 2 * 1.8), (2, 2 * 1.8), (3, 2 * 1.8 + 1.2), (4, 2 * 1.8 + 1.2 + 2.99)],
)
def test_reserved_come_first_and_are_paid_anyway_then_spot_then_the_rest(replicas: int, usd: float) -> None:
    assert MIXED.rate(replicas, NOON) == round(4 * usd * 10**9)


def test_a_schedule_changes_the_price_of_the_rest_only() -> None:
    assert MIXED.rate(5, SATURDAY_NIGHT) == round(4 * (2 * 1.8 + 1.2 + 2 * 1.5) * 10**9)


def test_the_first_fitting_item_of_a_schedule_holds() -> None:
    always = Schedule(zone=UTC, from_minute=1)
    cheap, dear = (TimedPrice(schedule=always, nano_usd_per_hour=price) for price in (1, 9))
    gpus = Gpus(type="H100", count=1, nano_usd_per_hour=5, schedule=(cheap, dear))
    assert gpus.rate(1, NOON) == 1


@pytest.mark.parametrize(
    ("stated", "behind"),
    [
        (None, 2),
        (5, 5),
        (DnsReplicas(host="vllm.inference.svc"), None),
        (KubernetesReplicas(service="vllm", namespace="inference"), None),
    ],
)
def test_each_url_is_one_replica_unless_the_policy_says_otherwise(
    stated: int | ReplicaSource | None, behind: int | None
) -> None:
    assert Gpus(type="H100", count=4, nano_usd_per_hour=0, replicas=stated).behind(urls=2) == behind
