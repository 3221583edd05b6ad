"""What demand costs elsewhere: the cheapest lawful target of each app, cached input, and nobody at all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from proxy.advisor.demand import SUMS
from proxy.advisor.value import Shared, mean_request, price_rates, value_of
from proxy.policy.price import Price
from proxy.routing.cost import cost_of_many_nano_usd
from proxy.routing.outcome import Usage
from tests.advisor.weeks import CHEAP, DEAR, PROFILE, demand


def test_the_price_of_the_sums_is_the_price_that_is_charged() -> None:
    price = Price(
        input_nano_usd_per_mtok=500_000_000,
        output_nano_usd_per_mtok=1_500_000_000,
        cached_input_nano_usd_per_mtok=50_000_000,
    )
    sums = np.array([10, 90_000, 40_000, 7_000, 0, 0])
    usage = Usage(input_tokens=90_000, cached_input_tokens=40_000, output_tokens=7_000)
    assert SUMS[1:4] == ("input_tokens", "cached_tokens", "output_tokens")
    assert sums @ price_rates(price) == pytest.approx(cost_of_many_nano_usd(price, usage) / 1e9)


def test_each_app_has_the_cheapest_target_that_it_may_use() -> None:
    found = value_of(demand(0.2, [1.0], apps=2), [[DEAR, CHEAP], [DEAR]])
    assert [one.target for one in found.chosen if one] == ["deepinfra", "bedrock"]
    assert found.usd[:, 1].sum() > 2 * found.usd[:, 0].sum()


def test_cheapest_is_by_what_the_app_asks() -> None:
    """Long prompts with short answers make the other one cheap."""
    reads = Shared(
        target="reads", provider="x", price=Price(input_nano_usd_per_mtok=10**8, output_nano_usd_per_mtok=10**10)
    )
    writes = Shared(
        target="writes", provider="x", price=Price(input_nano_usd_per_mtok=10**9, output_nano_usd_per_mtok=10**9)
    )
    prompts = demand(0.2, [1.0])
    answers = replace(prompts, sums=prompts.sums * np.array([1, 1, 1, 20, 1, 20]))
    assert value_of(prompts, [[reads, writes]]).chosen == (writes,)
    assert value_of(
        replace(prompts, sums=prompts.sums * np.array([1, 1, 1, 0.01, 1, 1])), [[reads, writes]]
    ).chosen == (reads,)
    assert value_of(answers, [[reads, writes]]).chosen == (writes,)


def test_an_app_that_may_use_nobody_is_captive_and_has_no_price() -> None:
    of = demand(0.2, [1.0], apps=2)
    found = value_of(of, [[], [DEAR]])
    assert found.captive.tolist() == [True, False]
    assert found.usd[:, 0].sum() == 0
    mean = mean_request(of, found, PROFILE)
    assert mean.usd == pytest.approx((mean.input_tokens + mean.output_tokens) * 0.72e-6)
    assert mean.input_tokens == pytest.approx(6000, rel=0.02)


def test_value_scales_with_prices() -> None:
    found = value_of(demand(0.2, [1.0]), [[DEAR]])
    assert found.scaled(0.5).usd.sum() == pytest.approx(found.usd.sum() / 2)
