"""What counts as missing a want, and that unknown does not."""

from __future__ import annotations

import pytest
from proxy.policy.model import Lane, Rules, Target
from proxy.routing.wants import missed_by_policy, missed_now, vary
from tests.routing.policies import dedicated, facts, itl_p99, price, reading, shared, ttft_p99


@pytest.mark.parametrize(
    ("target", "want", "missed"),
    [
        (shared(), Rules(), []),
        (shared(region="us"), Rules(regions=("us", "eu-*")), []),
        (shared(region="us"), Rules(regions=("eu-*",)), ["together: want.region us against eu-*"]),
        (shared(region="unknown"), Rules(regions=("*",)), ["together: want.region unknown against *"]),
        (shared(retention="zero"), Rules(retention=("zero",)), []),
        (shared(), Rules(retention=("zero",)), ["together: want.retention 30d against zero"]),
        (shared(retention="unknown"), Rules(retention=("*",)), ["together: want.retention unknown against *"]),
        (shared(), Rules(lane=Lane.SHARED), []),
        (shared(), Rules(lane=Lane.DEDICATED), ["together: want.lane shared against dedicated"]),
        (shared(price=price(1.5)), Rules(nano_usd_per_mtok=1_500_000_000), []),
        (
            shared(price=price(1.51)),
            Rules(nano_usd_per_mtok=1_500_000_000),
            ["together: want.usd_per_mtok $1.51/M tokens against $1.50/M tokens"],
        ),
        (shared(price=None), Rules(nano_usd_per_mtok=1), []),
        (dedicated(price=price(9)), Rules(nano_usd_per_mtok=1), []),
    ],
)
def test_wants_that_the_policy_settles(target: Target, want: Rules, missed: list[str]) -> None:
    found = missed_by_policy(target, want)
    assert [str(exclusion) for exclusion in found] == missed
    assert not any(exclusion.hard for exclusion in found)


@pytest.mark.parametrize(
    ("want", "observed", "missed"),
    [
        (Rules(objectives=ttft_p99(0.8)), {}, []),
        (Rules(objectives=ttft_p99(0.8)), {"ttft_p99_s": 0.8}, []),
        (Rules(objectives=ttft_p99(0.8)), {"ttft_p99_s": 0.9}, ["together: want.ttft_p99 900 ms against 800 ms"]),
        (Rules(objectives=ttft_p99(0.8)), {"itl_p99_s": 9.0, "uptime": 0.0}, []),
        (Rules(objectives=itl_p99(0.06)), {"itl_p99_s": 0.1}, ["together: want.itl_p99 100 ms against 60 ms"]),
        (Rules(max_nano_usd_per_request=5_000_000), {}, []),
        (
            Rules(max_nano_usd_per_request=2_000_000),
            {},
            ["together: want.max_usd_per_request about $0.002024 against $0.002"],
        ),
        (Rules(uptime=0.999), {"uptime": 0.999}, []),
        (Rules(uptime=0.999), {"uptime": 0.95, "failures": 1}, []),
        (Rules(uptime=0.999), {"uptime": 0.95}, ["together: want.uptime 95.00% against 99.90%"]),
        (
            Rules(objectives=ttft_p99(1.0) + itl_p99(0.06), uptime=0.999),
            {"ttft_p99_s": 2.0, "itl_p99_s": 0.1, "uptime": 0.5},
            [
                "together: want.ttft_p99 2.00 s against 1.00 s",
                "together: want.itl_p99 100 ms against 60 ms",
                "together: want.uptime 50.00% against 99.90%",
            ],
        ),
    ],
)
def test_wants_that_are_measured(want: Rules, observed: dict[str, object], missed: list[str]) -> None:
    found = missed_now(shared(price=price(1)), want, facts(input_tokens=1000), reading("together", **observed))
    assert [str(exclusion) for exclusion in found] == missed


def test_only_some_wants_depend_on_the_moment() -> None:
    assert not vary(Rules(regions=("us",), lane=Lane.SHARED, nano_usd_per_mtok=1))
    for want in (
        Rules(objectives=ttft_p99(1.0)),
        Rules(objectives=itl_p99(1.0)),
        Rules(uptime=0.9),
        Rules(max_nano_usd_per_request=1),
    ):
        assert vary(want)
