"""What counts as missing a want, and that unknown does not."""

from __future__ import annotations

import pytest
from proxy.policy.model import Lane, Price, Target, Want
from proxy.routing.wants import blended_nano_usd_per_mtok, missed_by_policy, missed_by_reading, needs_readings
from tests.routing.policies import dedicated, price, reading, shared


@pytest.mark.parametrize(
    ("target", "want", "missed"),
    [
        (shared(), Want(), []),
        (shared(region="us"), Want(regions=("us", "eu-*")), []),
        (shared(region="us"), Want(regions=("eu-*",)), ["together: want.region us against eu-*"]),
        (shared(region="unknown"), Want(regions=("*",)), ["together: want.region unknown against *"]),
        (shared(retention="zero"), Want(retention=("zero",)), []),
        (shared(), Want(retention=("zero",)), ["together: want.retention 30d against zero"]),
        (shared(retention="unknown"), Want(retention=("*",)), ["together: want.retention unknown against *"]),
        (shared(), Want(lane=Lane.SHARED), []),
        (shared(), Want(lane=Lane.DEDICATED), ["together: want.lane shared against dedicated"]),
        (shared(price=price(1.5)), Want(nano_usd_per_mtok=1_500_000_000), []),
        (
            shared(price=price(1.51)),
            Want(nano_usd_per_mtok=1_500_000_000),
            ["together: want.usd_per_mtok $1.51/M tokens against $1.50/M tokens"],
        ),
        (shared(price=None), Want(nano_usd_per_mtok=1), []),
        (dedicated(price=price(9)), Want(nano_usd_per_mtok=1), []),
    ],
)
def test_wants_that_the_policy_settles(target: Target, want: Want, missed: list[str]) -> None:
    found = missed_by_policy(target, want)
    assert [str(exclusion) for exclusion in found] == missed
    assert not any(exclusion.hard for exclusion in found)


@pytest.mark.parametrize(
    ("want", "observed", "missed"),
    [
        (Want(ttft_p99_s=0.8), {}, []),
        (Want(ttft_p99_s=0.8), {"ttft_p99_s": 0.8}, []),
        (Want(ttft_p99_s=0.8), {"ttft_p99_s": 0.9}, ["together: want.ttft_p99 900 ms against 800 ms"]),
        (Want(ttft_p99_s=0.8), {"itl_p99_s": 9.0, "uptime": 0.0}, []),
        (Want(itl_p99_s=0.06), {"itl_p99_s": 0.1}, ["together: want.itl_p99 100 ms against 60 ms"]),
        (Want(uptime=0.999), {"uptime": 0.999}, []),
        (Want(uptime=0.999), {"uptime": 0.95}, ["together: want.uptime 95.00% against 99.90%"]),
        (
            Want(ttft_p99_s=1.0, itl_p99_s=0.06, uptime=0.999),
            {"ttft_p99_s": 2.0, "itl_p99_s": 0.1, "uptime": 0.5},
            [
                "together: want.ttft_p99 2.00 s against 1.00 s",
                "together: want.itl_p99 100 ms against 60 ms",
                "together: want.uptime 50.00% against 99.90%",
            ],
        ),
    ],
)
def test_wants_that_are_measured(want: Want, observed: dict[str, object], missed: list[str]) -> None:
    found = missed_by_reading(shared(), want, reading("together", **observed))
    assert [str(exclusion) for exclusion in found] == missed


def test_only_measured_wants_need_readings() -> None:
    assert not needs_readings(Want(regions=("us",), lane=Lane.SHARED, nano_usd_per_mtok=1))
    for want in (Want(ttft_p99_s=1.0), Want(itl_p99_s=1.0), Want(uptime=0.9)):
        assert needs_readings(want)


def test_a_two_part_price_is_blended_three_to_one() -> None:
    assert blended_nano_usd_per_mtok(Price(input_nano_usd_per_mtok=100, output_nano_usd_per_mtok=500)) == 200
