"""LiteLLM's price list is read as data."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import time
from dataclasses import fields

import msgspec
import pytest
from proxy.meters import prices
from proxy.meters.prices import PriceList, PriceListUnreadable
from proxy.policy.price import Rates
from proxy.routing.cost import cost_nano_usd
from proxy.routing.outcome import Usage


@pytest.fixture(scope="module")
def packaged() -> PriceList:
    return PriceList.load()


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o"),
        ("openai", "openai/gpt-4o"),
        ("anthropic", "claude-sonnet-4-5"),
        ("together_ai", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
        ("together_ai", "together_ai/meta-llama/Llama-3.3-70B-Instruct-Turbo"),
        ("azure", "gpt-4o"),
        ("gemini", "gemini-2.5-pro"),
        ("vertex_ai", "gemini-2.5-pro"),
        ("bedrock", "anthropic.claude-3-5-sonnet-20240620-v1:0"),
    ],
)
def test_the_packaged_list_knows_the_usual_models(packaged: PriceList, provider: str, model: str) -> None:
    price = packaged.price_of(provider, model)
    assert price is not None
    assert 0 < price.input_nano_usd_per_mtok <= price.output_nano_usd_per_mtok < 10**12
    assert price.source == f"litellm {importlib.metadata.version('litellm')}"


def test_a_cached_input_price_comes_along(packaged: PriceList) -> None:
    price = packaged.price_of("openai", "gpt-4o")
    assert price is not None
    assert price.cached_input_nano_usd_per_mtok is not None
    assert price.cached_input_nano_usd_per_mtok < price.input_nano_usd_per_mtok


@pytest.mark.parametrize(
    ("provider", "model"), [("openai", "no-such-model"), ("groq", "gpt-4o"), ("openai", "claude-sonnet-4-5"), ("", "x")]
)
def test_a_model_is_not_priced_for_a_provider_it_does_not_belong_to(
    packaged: PriceList, provider: str, model: str
) -> None:
    assert packaged.price_of(provider, model) is None


def test_entries_are_exact_and_those_without_a_token_price_are_none() -> None:
    text = msgspec.json.encode(
        {
            "acme/one": {"litellm_provider": "acme", "input_cost_per_token": 1.04e-06, "output_cost_per_token": 2e-06},
            "acme/embed": {"litellm_provider": "acme", "input_cost_per_token": 2e-08, "output_vector_size": 3},
            "acme/image": {"litellm_provider": "acme", "output_cost_per_image": 0.04},
            "two": {"litellm_provider": "acme-language-models", "input_cost_per_token": "3e-06"},
        }
    )
    prices = PriceList.decode(text, "test")
    one, embed, two = (prices.price_of("acme", name) for name in ("one", "embed", "two"))
    assert one is not None and embed is not None and two is not None
    assert (one.input_nano_usd_per_mtok, one.output_nano_usd_per_mtok) == (1_040_000_000, 2_000_000_000)
    assert (embed.input_nano_usd_per_mtok, embed.output_nano_usd_per_mtok) == (20_000_000, 0)
    assert two.input_nano_usd_per_mtok == 3_000_000_000
    assert one.cached_input_nano_usd_per_mtok is None
    assert prices.price_of("acme", "image") is None


def per_mtok(rates: Rates) -> dict[str, float]:
    """The figures that are listed, in dollars."""
    kinds = {one.name.removesuffix("_nano_usd_per_mtok"): getattr(rates, one.name) for one in fields(Rates)}
    return {kind: nano_usd / 10**9 for kind, nano_usd in kinds.items() if nano_usd is not None}


def test_kinds_tiers_and_lengths_are_read() -> None:
    costs = {
        "input_cost_per_token": 3e-6,
        "output_cost_per_token": 1.5e-5,
        "cache_read_input_token_cost": 3e-7,
        "cache_creation_input_token_cost": 3.75e-6,
        "cache_creation_input_token_cost_above_1hr": 6e-6,
        "input_cost_per_audio_token": 4e-5,
        "output_cost_per_audio_token": 8e-5,
        "output_cost_per_reasoning_token": 1.4e-5,
        "input_cost_per_token_above_200k_tokens": 6e-6,
        "output_cost_per_token_above_200k_tokens": 2.25e-5,
        "cache_creation_input_token_cost_above_200k_tokens": 7.5e-6,
        "cache_creation_input_token_cost_above_1hr_above_200k_tokens": 1.2e-5,
        "input_cost_per_token_above_1000k_tokens": 9e-6,
        "input_cost_per_token_batches": 1.5e-6,
        "output_cost_per_token_batches": 7.5e-6,
        "input_cost_per_token_priority": 6e-6,
        "output_cost_per_token_priority": 3e-5,
        "input_cost_per_token_above_200k_tokens_priority": 1.2e-5,
        "input_cost_per_token_cache_hit": 1e-9,
        "search_context_cost_per_query": {"search_context_size_high": 0.01},
    }
    price = PriceList.decode(msgspec.json.encode({"m": {"litellm_provider": "acme", **costs}}), "t").price_of(
        "acme", "m"
    )
    assert price is not None
    assert per_mtok(price) == {
        "input": 3,
        "output": 15,
        "cached_input": 0.3,
        "cache_write": 3.75,
        "cache_write_1h": 6,
        "audio_input": 40,
        "audio_output": 80,
        "reasoning": 14,
    }
    assert [(one.above_tokens, per_mtok(one)) for one in price.above] == [
        (200_000, {"input": 6, "output": 22.5, "cache_write": 7.5, "cache_write_1h": 12}),
        (1_000_000, {"input": 9, "output": 15}),
    ]
    assert {name: per_mtok(tier) for name, tier in price.tiers.items()} == {
        "batch": {"input": 1.5, "output": 7.5},
        "priority": {"input": 6, "output": 30},
    }
    (longer,) = price.tiers["priority"].above
    assert (longer.above_tokens, per_mtok(longer)) == (200_000, {"input": 12, "output": 15})


@pytest.mark.parametrize("cost", [-1e-6, "inf", "nan", "no", [1], None, {"a": 1}])
def test_what_cannot_be_a_price_is_none(cost: object) -> None:
    entry = {"litellm_provider": "acme", "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}
    listed = {
        "cached": {**entry, "cache_read_input_token_cost": cost},
        "tier": {**entry, "input_cost_per_token_flex": cost},
        "input": {**entry, "input_cost_per_token": cost},
        "odd": [cost],
    }
    prices = PriceList.decode(json.dumps(listed).encode(), "t")
    cached, tier = prices.price_of("acme", "cached"), prices.price_of("acme", "tier")
    assert cached is not None and tier is not None
    assert cached.cached_input_nano_usd_per_mtok is None
    assert tier.tiers == {}
    assert prices.price_of("acme", "input") is prices.price_of("acme", "odd") is None


def test_every_entry_of_the_packaged_list_can_be_read_and_makes_no_charge_negative(packaged: PriceList) -> None:
    """What providers list is not always sane; whatever it is, it must not stop a policy or pay anybody."""
    usage = Usage(
        input_tokens=300_000,
        output_tokens=1000,
        cached_input_tokens=1000,
        cache_write_tokens=2000,
        cache_write_1h_tokens=500,
        audio_input_tokens=100,
        audio_output_tokens=100,
        reasoning_tokens=500,
    )
    entries = json.loads(prices._find_list().read_text("utf-8"))
    found = [packaged.price_of(str(entry.get("litellm_provider")), name) for name, entry in entries.items()]
    known = [price for price in found if price is not None]
    assert len(known) > 3000
    assert sum(bool(price.tiers) for price in known) > 300
    assert sum(bool(price.above) for price in known) > 200
    for price in known:
        for tier in ("", *price.tiers):
            assert cost_nano_usd(price, msgspec.structs.replace(usage, service_tier=tier)) >= 0


def test_the_usual_models_have_their_tiers_and_lengths(packaged: PriceList) -> None:
    openai, anthropic = packaged.price_of("openai", "gpt-5"), packaged.price_of("anthropic", "claude-sonnet-4-5")
    gemini = packaged.price_of("gemini", "gemini-2.5-pro")
    assert openai is not None and anthropic is not None and gemini is not None
    assert {"batch", "flex", "priority"} <= openai.tiers.keys()
    assert openai.tiers["flex"].input_nano_usd_per_mtok < openai.input_nano_usd_per_mtok
    assert openai.tiers["priority"].input_nano_usd_per_mtok > openai.input_nano_usd_per_mtok
    assert anthropic.cache_write_1h_nano_usd_per_mtok is not None
    assert anthropic.cache_write_nano_usd_per_mtok is not None
    assert anthropic.cache_write_1h_nano_usd_per_mtok > anthropic.cache_write_nano_usd_per_mtok
    assert [one.above_tokens for one in gemini.above] == [200_000]


def test_reading_the_list_imports_no_litellm_and_takes_milliseconds() -> None:
    script = (
        "import sys; from proxy.meters.prices import PriceList; assert PriceList.load().price_of('openai', 'gpt-4o'); "
        "assert not [name for name in sys.modules if name.startswith('litellm')]"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
    began = time.process_time()
    PriceList.load()
    assert time.process_time() - began < 0.5


def test_a_missing_list_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prices, "PACKAGE", "no_such_package")
    with pytest.raises(PriceListUnreadable, match="`no_such_package` is not installed"):
        PriceList.load()
