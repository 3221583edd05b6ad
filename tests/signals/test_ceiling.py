"""The policy's own limits of a target: kept by all proxies together, and not by standing still."""

from __future__ import annotations

from typing import Any

import pytest
from proxy.policy.model import Limits
from proxy.routing.readings import Quota, Rate
from proxy.signals.ceiling import LOOK_AGAIN_S, Ceiling, Hold, Use
from proxy.signals.quota_headers import TOKENS
from tests.signals.providers import T0, Bucket, Windows, play


@pytest.mark.parametrize("headers", [True, False])
@pytest.mark.parametrize("proxies", [1, 2, 5])
@pytest.mark.parametrize("make", [Windows, Bucket])
def test_limits_of_the_policy_hold_from_the_start_over_all_proxies(make: Any, proxies: int, headers: bool) -> None:
    provider = make(1000)
    result = play(provider, proxies=proxies, limits=Limits(rpm=1000), sharing=True, headers=headers)
    assert result.refused == 0
    for start in range(240):
        window = [at for at in result.sent_at if T0 + start <= at < T0 + start + 60]
        assert len(window) <= 1000, start
    assert result.sent >= 0.95 * 1000 * 5


def test_limits_far_below_the_providers_are_kept_in_tokens_too() -> None:
    provider = Bucket(10_000_000)
    result = play(
        provider, proxies=2, limits=Limits(tpm=100_000), sharing=True, tokens=lambda random: 1000, unit=TOKENS
    )
    assert 0.9 * 500 <= result.sent <= 500


def test_proxies_that_know_of_each_other_spread_the_rest_evenly() -> None:
    """Half at once, at three times the rate; the other half in the 50 s that are left of the minute."""
    result = play(Bucket(10**6), proxies=5, limits=Limits(rpm=1000), sharing=True, lasting_s=60.0)
    for start in range(15, 55, 10):
        sent = sum(1 for at in result.sent_at if T0 + start <= at < T0 + start + 10)
        assert sent == pytest.approx(100, rel=0.25), start


def holds(limits: Limits, rate: Rate) -> list[Hold]:
    return list(Ceiling(limits).holds(Use(rate, 1.0, T0), 0, 0, 100.0))


@pytest.mark.parametrize(
    ("rate", "unit", "limit", "reset_at"),
    [
        (Rate(requests=10, frees_in_s=7.0), "requests", 10, T0 + 7),
        (Rate(tokens=1200, frees_in_s=7.0), "tokens", 1000, T0 + 7),
        (Rate(in_flight=4), "requests at a time", 4, T0),
    ],
)
def test_what_is_used_up_lets_nothing_pass(rate: Rate, unit: str, limit: int, reset_at: float) -> None:
    found = holds(Limits(rpm=10, tpm=1000, concurrency=4), rate)
    assert [until for until, quota in found if quota.unit != unit] == [0.0, 0.0]
    assert [one for one in found if one[1].unit == unit] == [
        (T0 + LOOK_AGAIN_S, Quota(unit=unit, limit=limit, remaining=0, reset_at=reset_at))
    ]


def test_only_what_is_limited_is_looked_at() -> None:
    assert [quota.unit for _, quota in holds(Limits(tpm=7), Rate())] == ["tokens"]
    assert holds(Limits(), Rate(requests=10**9)) == []


def test_a_newcomer_need_not_wait_until_the_others_are_forgotten() -> None:
    """A quarter of the 5 a second at which the 249 that may be used until the minute ends would last."""
    one, nearly = Ceiling(Limits(rpm=1000)), Rate(requests=740, frees_in_s=50.0)
    ((until, _),) = one.holds(Use(nearly, 0.0, T0), 0, 0, 1.0)
    assert until == 0.0
    ((until, _),) = one.holds(Use(nearly, 0.0, T0), 1, 0, 1.0)
    assert T0 < until <= T0 + 1
