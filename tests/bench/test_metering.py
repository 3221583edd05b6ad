"""Each way of metering is what it is said to be, all of them serve, and the bar can be missed."""

from __future__ import annotations

import pytest

from tests.bench.metering import (
    BUCKETS,
    EVERYTHING,
    METERED,
    METERING,
    NOTHING,
    WAYS,
    Figure,
    measure,
    missed,
    policy,
    reckoning_us,
)


def test_a_policy_limits_what_its_way_of_metering_says() -> None:
    nothing, everything = policy(frozenset()), policy(EVERYTHING)
    assert not nothing.budgets
    assert not nothing.tenants["t"].limits
    assert [budget.enforce for budget in everything.budgets] == ["hard", "soft"]
    assert everything.tenants["t"].limits
    assert everything.routes[0].require.limits
    assert all(key.limits for key in everything.keys.values())
    assert [budget.name for budget in policy(METERING).budgets] == ["hard"]
    assert not policy(frozenset({BUCKETS})).budgets


async def test_every_way_serves_both_kinds_of_replies() -> None:
    figures = await measure(rounds=1)
    assert [one.name for one in figures] == list(WAYS)
    assert all(0 < one.whole_us < one.stream_us for one in figures)
    assert reckoning_us(calls=100) > 0


@pytest.mark.parametrize(("added_us", "met"), [(14.4, True), (14.6, False)])
def test_the_bar_counts_what_was_added_and_the_reckoning(added_us: float, met: bool) -> None:
    figures = [
        Figure(name=NOTHING, whole_us=20.0, stream_us=200.0),
        Figure(name=METERED, whole_us=20.0 + added_us, stream_us=200.0),
    ]
    assert (missed(figures, 0.5) == []) is met
