"""One sum of money for tokens of every kind, in every tier, at every length."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.policy.price import LongRates, Price, Rates, Tariff
from proxy.routing.cost import (
    cost_nano_usd,
    cost_of_many_nano_usd,
    expected_tier,
    most_nano_usd,
    plain_nano_usd,
    tier_of,
)
from proxy.routing.outcome import Usage

USD = 10**9
TOKENS = st.integers(0, 10**7)
RATE = st.integers(0, 10**12)
OWN = st.none() | RATE
COUNTS = (
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "reasoning_tokens",
)
KINDS = ("cached_input", "cache_write", "cache_write_1h", "audio_input", "audio_output", "reasoning")


def rates(**usd: float) -> dict[str, int]:
    return {f"{kind}_nano_usd_per_mtok": round(per_mtok * USD) for kind, per_mtok in usd.items()}


def drawn(kind: type[Rates]) -> st.SearchStrategy[dict[str, int | None]]:
    whole = {"input_nano_usd_per_mtok": RATE, "output_nano_usd_per_mtok": RATE}
    return st.fixed_dictionaries({**whole, **{f"{part}_nano_usd_per_mtok": OWN for part in KINDS}})


@st.composite
def any_price(draw: st.DrawFn) -> Price:
    """Any figures at all, sane or not."""
    above = tuple(
        LongRates(**draw(drawn(LongRates)), above_tokens=tokens)
        for tokens in sorted(draw(st.sets(st.integers(1, 10**7), max_size=2)))
    )
    tier = Tariff(**draw(drawn(Tariff)), above=above[:1])
    return Price(**draw(drawn(Price)), above=above, tiers={"flex": tier})


def usages(**fixed: st.SearchStrategy[object]) -> st.SearchStrategy[Usage]:
    tier = st.sampled_from(["", "flex", "unheard_of"])
    return st.builds(Usage, **{**dict.fromkeys(COUNTS, TOKENS), "service_tier": tier, **fixed})


@st.composite
def sane_price(draw: st.DrawFn) -> Price:
    """Cached input is no dearer than input, what is written or spoken no cheaper, and an hour the dearest to keep."""
    plain, out = draw(RATE), draw(RATE)
    write = plain + draw(RATE)
    write_1h = write + draw(RATE)
    return Price(
        input_nano_usd_per_mtok=plain,
        output_nano_usd_per_mtok=out,
        cached_input_nano_usd_per_mtok=draw(st.integers(0, plain)),
        cache_write_nano_usd_per_mtok=write,
        cache_write_1h_nano_usd_per_mtok=write_1h,
        audio_input_nano_usd_per_mtok=write_1h + draw(RATE),
        audio_output_nano_usd_per_mtok=out + draw(RATE),
        reasoning_nano_usd_per_mtok=out,
    )


@given(TOKENS, TOKENS, RATE, RATE)
def test_kinds_of_token_are_summed_before_the_one_rounding(inputs: int, outputs: int, a: int, b: int) -> None:
    price = Price(input_nano_usd_per_mtok=a, output_nano_usd_per_mtok=b)
    usage = Usage(input_tokens=inputs, output_tokens=outputs)
    assert cost_nano_usd(price, usage) == round(Fraction(inputs * a + outputs * b, 10**6))
    assert plain_nano_usd(price, inputs, outputs) == cost_nano_usd(price, usage)


@given(any_price(), usages())
def test_whatever_is_listed_and_reported_nothing_is_ever_paid_back(price: Price, usage: Usage) -> None:
    assert cost_nano_usd(price, usage) >= 0
    assert cost_of_many_nano_usd(price, usage) >= 0


@given(any_price(), usages())
def test_parts_beyond_their_whole_change_nothing(price: Price, usage: Usage) -> None:
    """A whole of nothing but parts costs at least its cheapest kind, whatever else is claimed."""
    usage = msgspec.structs.replace(usage, output_tokens=0, service_tier="")
    price = replace(price, above=())
    named = [getattr(price, f"{kind}_nano_usd_per_mtok") for kind in ("input", *KINDS[:4])]
    listed = [rate for rate in named if rate is not None]
    total = Fraction(usage.input_tokens, 10**6)
    assert round(total * min(listed)) <= cost_nano_usd(price, usage) <= round(total * max(listed))


@given(sane_price(), usages(), st.sampled_from(COUNTS), st.integers(1, 10**6))
def test_more_of_anything_never_costs_less_but_for_what_came_from_the_cache(
    price: Price, usage: Usage, count: str, more: int
) -> None:
    fuller = msgspec.structs.replace(usage, **{count: getattr(usage, count) + more})
    before, after = cost_nano_usd(price, usage), cost_nano_usd(price, fuller)
    assert after <= before if count == "cached_input_tokens" else after >= before


@given(sane_price(), st.lists(usages(), min_size=1, max_size=5))
def test_a_request_costs_the_same_however_its_tokens_are_split_up(price: Price, split: list[Usage]) -> None:
    """To the half nano-USD by which each charge is rounded. The parts are made to fit, as `read_usage` makes them."""
    fitting = [_fitting(usage) for usage in split]
    whole = Usage(**{count: sum(getattr(one, count) for one in fitting) for count in COUNTS})
    apart = sum(cost_nano_usd(price, one) for one in fitting)
    assert abs(cost_nano_usd(price, whole) - apart) <= (len(fitting) + 1) / 2


@given(any_price(), usages())
def test_no_split_of_the_tokens_into_kinds_costs_more_than_the_most(price: Price, usage: Usage) -> None:
    tier = usage.service_tier
    most = most_nano_usd(price, tier, usage.input_tokens, usage.output_tokens, audio=True)
    assert cost_nano_usd(price, usage) <= most
    silent = msgspec.structs.replace(usage, audio_input_tokens=0)
    assert cost_nano_usd(price, silent) <= most_nano_usd(
        price, tier, usage.input_tokens, usage.output_tokens, audio=False
    )


def test_the_most_that_a_prompt_can_cost_is_that_of_writing_it_to_the_cache() -> None:
    assert most_nano_usd(SONNET, "", 1_000, 100, audio=False) == 6_000_000 + 1_500_000
    assert most_nano_usd(Price(**rates(input=1, output=2)), "", 1_000, 100, audio=True) == 1_200_000
    heard = Price(**rates(input=1, output=2, audio_input=30))
    assert most_nano_usd(heard, "", 1_000, 0, audio=True) == 30 * most_nano_usd(heard, "", 1_000, 0, audio=False)


def _fitting(usage: Usage) -> Usage:
    into = usage.cached_input_tokens + usage.cache_write_tokens + usage.audio_input_tokens
    return msgspec.structs.replace(
        usage,
        input_tokens=into + usage.input_tokens,
        output_tokens=usage.output_tokens + usage.reasoning_tokens + usage.audio_output_tokens,
        cache_write_1h_tokens=min(usage.cache_write_1h_tokens, usage.cache_write_tokens),
        service_tier="",
    )


SONNET = Price(
    **rates(input=3, output=15, cached_input=0.3, cache_write=3.75, cache_write_1h=6),
    tiers={"batch": Tariff(**rates(input=1.5, output=7.5, cached_input=0.15))},
    above=(LongRates(**rates(input=6, output=22.5, cached_input=0.6, cache_write=7.5), above_tokens=200_000),),
)


@pytest.mark.parametrize(
    ("usage", "usd"),
    [
        (Usage(input_tokens=10_000, output_tokens=1000), 0.045),
        (Usage(input_tokens=10_000, cached_input_tokens=8000), 0.006 + 0.0024),
        (Usage(input_tokens=10_000, cache_write_tokens=8000), 0.006 + 0.03),
        (Usage(input_tokens=10_000, cache_write_tokens=8000, cache_write_1h_tokens=2000), 0.006 + 0.0225 + 0.012),
        (Usage(input_tokens=10_000, cached_input_tokens=4000, cache_write_tokens=6000), 0.0012 + 0.0225),
        (Usage(input_tokens=10_000, cached_input_tokens=9000, cache_write_tokens=6000), 0.0012 + 0.0225),
        (Usage(input_tokens=200_000, output_tokens=1000), 0.6 + 0.015),
        (Usage(input_tokens=200_001, output_tokens=1000), 200_001 * 6e-6 + 0.0225),
        (Usage(input_tokens=10_000, output_tokens=1000, service_tier="batch"), 0.0225),
        (Usage(input_tokens=10_000, output_tokens=1000, service_tier="priority"), 0.045),
        (Usage(input_tokens=300_000, output_tokens=1000, service_tier="batch"), 1.8 + 0.0225),
        (Usage(input_tokens=1000, output_tokens=1000, reasoning_tokens=900, audio_output_tokens=50), 0.018),
    ],
)
def test_the_list_of_an_api(usage: Usage, usd: float) -> None:
    assert cost_nano_usd(SONNET, usage) == round(usd * USD)


def test_a_kind_without_a_rate_of_its_own_is_not_taken_to_be_cheap() -> None:
    plain = Price(**rates(input=1, output=2))
    parts = Usage(
        input_tokens=10**6,
        cached_input_tokens=300_000,
        cache_write_tokens=300_000,
        cache_write_1h_tokens=100_000,
        audio_input_tokens=300_000,
        output_tokens=10**6,
        reasoning_tokens=500_000,
        audio_output_tokens=500_000,
    )
    assert cost_nano_usd(plain, parts) == 3 * USD
    written = Usage(input_tokens=10**6, cache_write_tokens=10**6, cache_write_1h_tokens=10**6)
    assert cost_nano_usd(replace(plain, cache_write_nano_usd_per_mtok=2 * USD), written) == 2 * USD


def test_a_kind_that_a_tier_does_not_list_costs_the_dearer_of_what_is_known() -> None:
    batch = Tariff(**rates(input=1, output=4))
    price = Price(**rates(input=2, output=8, cached_input=0.2, audio_input=30), tiers={"batch": batch})
    heard = Usage(input_tokens=10**6, audio_input_tokens=10**6, service_tier="batch")
    hit = Usage(input_tokens=10**6, cached_input_tokens=10**6, service_tier="batch")
    assert cost_nano_usd(price, heard) == 30 * USD
    assert cost_nano_usd(price, hit) == 1 * USD


def test_the_longest_length_that_is_passed_decides() -> None:
    longer = [LongRates(**rates(input=rate, output=0), above_tokens=tokens) for rate, tokens in ((2, 10), (3, 20))]
    price = Price(**rates(input=1, output=0), above=tuple(longer))
    per_token = [cost_nano_usd(price, Usage(input_tokens=tokens)) // tokens for tokens in (10, 11, 20, 21)]
    assert per_token == [1000, 2000, 2000, 3000]


def test_the_tokens_of_many_requests_are_not_taken_for_one_long_one() -> None:
    assert cost_of_many_nano_usd(SONNET, Usage(input_tokens=10**9)) == 3000 * USD


@pytest.mark.parametrize("name", ["default", "auto", "standard", "standard_only", "on_demand", "", None, 7, "x" * 33])
def test_the_standard_tier_and_what_names_none(name: object) -> None:
    assert tier_of(name) == ""


@pytest.mark.parametrize("name", ["a b", 'x"', "a\nb", "{}", "-1"])
def test_a_tier_is_a_word(name: str) -> None:
    assert tier_of(name) == ""


def test_a_cheaper_tier_is_believed_once_the_provider_says_so() -> None:
    assert [tier_of(name) for name in ("flex", "PRIORITY", "batch")] == ["flex", "priority", "batch"]
    assert [expected_tier(asked) for asked in ("flex", "batch", "priority", "")] == ["", "", "priority", ""]
