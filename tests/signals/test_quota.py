"""A provider's quota is used, and never used up: in simulated time, by proxies that do not know of each other."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from proxy.signals.quota import BURST_S, Allowance, Level, spread
from proxy.signals.quota_headers import REQUESTS, TOKENS, Told
from tests.signals.providers import T0, Bucket, Windows, play

LIMIT = 1000
LATENCIES: list[tuple[float, float]] = [(0.02, 0.2), (0.5, 2.0)]


@pytest.mark.parametrize("latency_s", LATENCIES)
@pytest.mark.parametrize("proxies", [1, 2, 5])
def test_a_fixed_window_is_spread_to_its_end(proxies: int, latency_s: tuple[float, float]) -> None:
    provider = Windows(LIMIT)
    result = play(provider, proxies=proxies, latency_s=latency_s)
    assert result.refused_share <= 0.01
    whole = sorted(provider.used)[1:-1]
    assert len(whole) >= 4
    assert min(provider.used[window] for window in whole) >= 0.9 * LIMIT


@pytest.mark.parametrize("latency_s", LATENCIES)
@pytest.mark.parametrize("proxies", [1, 2, 5, 16])
def test_a_bucket_gives_all_that_flows_into_it(proxies: int, latency_s: tuple[float, float]) -> None:
    provider = Bucket(LIMIT)
    result = play(provider, proxies=proxies, latency_s=latency_s)
    assert result.refused_share <= 0.01
    late = [at for at in result.sent_at if at >= T0 + 180]
    assert len(late) >= 0.97 * LIMIT * 2
    assert provider.level == pytest.approx(LIMIT / (proxies + 1), rel=0.35)


@pytest.mark.parametrize("provider", [Windows(LIMIT), Bucket(LIMIT)], ids=["window", "bucket"])
def test_replies_that_take_half_a_minute_do_not_lead_astray(provider: Windows | Bucket) -> None:
    result = play(provider, proxies=2, latency_s=(5.0, 30.0), lasting_s=600.0)
    assert result.refused_share <= 0.01
    assert result.sent >= 0.9 * LIMIT * 10


@pytest.mark.parametrize("make", [Windows, Bucket])
@pytest.mark.parametrize("proxies", [1, 2, 5])
def test_tokens_are_paced_like_requests(make: Any, proxies: int) -> None:
    provider = make(1_000_000)

    def tokens(random: Random) -> int:
        return max(1, int(random.lognormvariate(0.0, 1.0) * 1500))

    result = play(provider, proxies=proxies, unit=TOKENS, tokens=tokens, lasting_s=180.0)
    assert result.refused_share <= 0.01
    used = provider.used[sorted(provider.used)[1]] if isinstance(provider, Windows) else provider.passed / 3
    assert used >= 0.9 * provider.limit


def level(limit: int, remaining: int, reset_in_s: float, *, at: float = T0) -> Level:
    one = Level(REQUESTS)
    one.hear(Told(REQUESTS, limit, remaining, reset_in_s), 1, 1, at)
    return one


def test_above_half_everything_passes() -> None:
    one = level(100, 90, 60.0)
    assert [one.until(T0, 1 + sent, 1 + sent) for sent in range(40)] == [0.0] * 40
    one.until(T0, 1 + 40, 1 + 40)
    assert one.until(T0, 1 + 41, 1 + 41) > T0


def test_below_half_what_is_left_is_spread_over_the_time_that_is_left() -> None:
    """40 of 100 remain, of which 1 % and one request are kept: 38 in 60 s."""
    one = level(100, 40, 60.0)
    assert one.until(T0, 1, 1) == 0.0
    assert one.until(T0, 2, 2) == pytest.approx(T0 + 60 / 37)


def test_news_of_an_earlier_request_gives_nothing_back() -> None:
    one = Level(REQUESTS)
    assert one.hear(Told(REQUESTS, 100, 10, 60.0), 50, 50, T0)
    assert not one.hear(Told(REQUESTS, 100, 60, 60.0), 20, 20, T0)
    assert one.quota(50).remaining == 10
    assert one.hear(Told(REQUESTS, 100, 9, 60.0), 51, 51, T0)
    assert one.quota(51).remaining == 9


def test_a_limit_that_is_not_told_is_the_most_that_ever_remained() -> None:
    one = Level(REQUESTS)
    seen = []
    for order, remaining in enumerate((60, 90, 30, 0)):
        one.hear(Told(REQUESTS, None, remaining, 60.0), order, order, T0)
        seen.append((one.quota(order).limit, one.quota(order).remaining))
    assert seen == [(60, 60), (90, 90), (90, 30), (90, 0)]


def test_more_than_the_limit_is_the_limit() -> None:
    assert level(10, 12, 60.0).quota(1).remaining == 10


def test_what_was_sent_after_the_request_that_brought_the_news_is_subtracted() -> None:
    one = Level(REQUESTS)
    one.hear(Told(REQUESTS, 100, 60, 60.0), 20, 20, T0)
    assert one.quota(45).remaining == 35
    assert one.quota(500).remaining == 0


def test_when_nothing_is_left_one_request_in_a_period_asks() -> None:
    one = level(100, 0, 60.0)
    assert one.until(T0, 1, 1) == T0 + 60
    one = level(1000, 3, 30.0)
    assert one.until(T0, 1, 1) == 0.0
    assert one.until(T0, 2, 2) == T0 + 30


def test_without_news_it_is_whole_again_after_its_reset_and_counts_itself() -> None:
    one = level(100, 0, 60.0)
    assert one.until(T0 + 60, 7, 7) == 0.0
    assert one.quota(7).remaining == 100
    assert one.quota(47).remaining == 60
    assert not one.hear(Told(REQUESTS, 100, 1, 5.0), 6, 6, T0 + 61)
    assert [one.until(T0 + 61, sent, sent) for sent in range(8, 57)] == [0.0] * 49
    one.until(T0 + 61, 57, 57)
    assert one.until(T0 + 61, 58, 58) > T0 + 61
    assert one.hear(Told(REQUESTS, 100, 80, 59.0), 58, 58, T0 + 62)
    assert one.until(T0 + 62, 58, 58) == 0.0


def test_whatever_a_header_says_something_is_allowed_in_the_end() -> None:
    assert spread(0, 1000, 0.0, 60.0, 1.0) == pytest.approx(1 / 60)
    assert spread(-500, 1000, 60.0, 60.0, 1.0) == pytest.approx(1 / 60)
    assert spread(501, 1000, 60.0, 60.0, 1.0) is None


def test_an_allowance_saves_a_moment_and_pays_its_debts() -> None:
    one = Allowance()
    one.free(T0, 0)
    assert one.until(T0, 0, 10.0) == 0.0
    assert one.until(T0, 5, 10.0) == pytest.approx(T0 + 0.5)
    assert one.until(T0 + 0.5, 5, 10.0) == 0.0
    assert one.until(T0 + 100, 5, 10.0) == 0.0
    assert one.until(T0 + 100, 15, 10.0) == pytest.approx(T0 + 100 + 1 - BURST_S)
