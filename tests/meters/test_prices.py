"""LiteLLM's price list is read as data."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import time

import msgspec
import pytest
from proxy.meters import prices
from proxy.meters.prices import PriceList, PriceListUnreadable


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
