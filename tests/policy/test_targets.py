"""Targets: what fits a lane, what is native and what translated, and what it costs."""

from __future__ import annotations

from pathlib import Path

import pytest
from proxy.policy.compile import check_policy
from proxy.policy.model import UNLIMITED, Capability, Endpoint, Engine, Gpus, Lane, Limits, Price, Timeouts
from tests.policy.policies import ENV, KEY, compiled, messages, one_target, problems, target

OWN = 'lane: dedicated, url: "http://own:8000/v1", model: up'
OPENAI = "lane: shared, provider: openai, model: gpt-4.1-mini"
TEXT = {Endpoint.CHAT, Endpoint.COMPLETIONS}
ANTHROPIC = {Endpoint.MESSAGES, Endpoint.COUNT_TOKENS}


def shared(keys: str) -> str:
    """A policy with one shared target, its key in block style since `${KEY}` cannot stand in braces."""
    lines = "\n".join(f"    {part.strip()}" for part in keys.split(","))
    return f"version: 1\ntargets:\n  it:\n{lines}\n    api_key: ${{KEY}}\nmodels: {{m: [it]}}\n"


def test_a_dedicated_target_has_everything_the_policy_says(tmp_path: Path) -> None:
    it = target(
        tmp_path,
        'lane: dedicated, engine: vllm, urls: ["http://a:8000/v1/", "http://b:8000/v1"], model: up, region: eu-west-1,'
        " retention: 48h, gpus: {type: H100, count: 4, usd_per_hour: 2.99}, max_in_flight: 256, tags: [iso],"
        " timeouts: {connect: 500ms, total: 10m}",
    )
    assert (it.name, it.lane, it.model, it.engine) == ("it", Lane.DEDICATED, "up", Engine.VLLM)
    assert it.urls == ("http://a:8000/v1", "http://b:8000/v1")
    assert (it.region, it.retention, it.tags) == ("eu-west-1", "2d", frozenset({"iso"}))
    assert it.gpus == Gpus(type="H100", count=4, nano_usd_per_hour=2_990_000_000)
    assert it.gpus.replica_nano_usd_per_hour == 11_960_000_000
    assert it.max_in_flight == 256
    assert it.timeouts == Timeouts(connect_s=0.5, total_s=600.0)


def test_what_is_not_said_is_unknown(tmp_path: Path) -> None:
    it = target(tmp_path, OWN)
    assert (it.region, it.retention, it.engine, it.gpus) == ("unknown", "unknown", Engine.OPENAI, None)
    assert it.timeouts == Timeouts()


def test_a_provider_brings_its_address_and_its_endpoints(tmp_path: Path) -> None:
    it = compiled(tmp_path, shared(OPENAI)).snapshot.targets["it"]
    assert it.urls == ("https://api.openai.com/v1",)
    assert it.native == TEXT | {Endpoint.EMBEDDINGS, Endpoint.RESPONSES}
    assert it.translated == ANTHROPIC
    assert it.api_key is not None
    assert it.api_key.reveal() == KEY
    assert it.engine is None


def test_a_url_overrides_the_providers_own(tmp_path: Path) -> None:
    text = shared(f"{OPENAI}, url: https://eu.api.openai.com/v1")
    assert compiled(tmp_path, text).snapshot.targets["it"].urls == ("https://eu.api.openai.com/v1",)


@pytest.mark.parametrize("url", ["", ", url: https://anthropic.example.com/v1"])
def test_anthropic_is_native_in_its_own_protocol(url: str, tmp_path: Path) -> None:
    text = shared(f"lane: shared, provider: anthropic, model: claude{url}")
    it = compiled(tmp_path, text).snapshot.targets["it"]
    assert it.urls == (url.removeprefix(", url: ") or "https://api.anthropic.com/v1",)
    assert it.native == ANTHROPIC
    assert it.translated == TEXT | {Endpoint.RESPONSES}


def test_other_providers_are_translated(tmp_path: Path) -> None:
    it = target(tmp_path, "lane: shared, provider: bedrock, model: anthropic.claude")
    assert (it.urls, it.native, it.translated) == ((), frozenset(), frozenset(Endpoint))


def test_a_url_without_a_provider_is_openai_compatible(tmp_path: Path) -> None:
    it = target(tmp_path, 'lane: shared, url: "https://api.example.com/v1", model: up')
    assert it.native == TEXT | {Endpoint.EMBEDDINGS, Endpoint.RESPONSES}
    assert it.translated == ANTHROPIC
    assert it.provider is None


def test_endpoints_override_what_is_native(tmp_path: Path) -> None:
    it = target(tmp_path, 'lane: shared, url: "https://api.example.com/v1", model: up, endpoints: [chat, messages]')
    assert it.native == {Endpoint.CHAT, Endpoint.MESSAGES}
    assert it.translated == {Endpoint.RESPONSES, Endpoint.COUNT_TOKENS}
    it = target(tmp_path, f"{OWN}, endpoints: embeddings")
    assert (it.native, it.translated) == ({Endpoint.EMBEDDINGS}, frozenset())


@pytest.mark.parametrize("engine", Engine)
def test_every_engine_answers_chat_and_what_is_native_is_not_translated(engine: Engine, tmp_path: Path) -> None:
    it = target(tmp_path, f"{OWN}, engine: {engine}")
    assert Endpoint.CHAT in it.native
    assert it.native & it.translated == frozenset()
    assert ANTHROPIC | {Endpoint.RESPONSES} <= it.native | it.translated


def test_vllm_speaks_all_endpoints_itself(tmp_path: Path) -> None:
    assert target(tmp_path, f"{OWN}, engine: vllm").native == frozenset(Endpoint)


def test_prices_of_the_policy_win_over_the_list(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(shared(OPENAI))
    listed = Price(input_nano_usd_per_mtok=1, output_nano_usd_per_mtok=2, source="list")
    asked: list[tuple[str, str]] = []

    def price_of(provider: str, model: str) -> Price | None:
        asked.append((provider, model))
        return listed

    assert check_policy(path, env=ENV, price_of=price_of).snapshot.targets["it"].price == listed
    assert asked == [("openai", "gpt-4.1-mini")]
    path.write_text(path.read_text().replace("    region", "    region"))
    text = shared(OPENAI).replace("models:", "    price: {input: 0.5, output: $2, cached_input: 0.05}\nmodels:")
    path.write_text(text)
    price = check_policy(path, env=ENV, price_of=price_of).snapshot.targets["it"].price
    assert price == Price(
        input_nano_usd_per_mtok=500_000_000,
        output_nano_usd_per_mtok=2_000_000_000,
        cached_input_nano_usd_per_mtok=50_000_000,
        source="policy",
    )


def test_a_regions_own_price_wins(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(one_target("lane: shared, provider: bedrock, model: claude, region: eu-central-1"))
    prices = {
        "eu-central-1/claude": Price(input_nano_usd_per_mtok=2, output_nano_usd_per_mtok=2),
        "claude": Price(input_nano_usd_per_mtok=1, output_nano_usd_per_mtok=1),
    }
    compiled = check_policy(path, env=ENV, price_of=lambda provider, model: prices.get(model))
    assert compiled.snapshot.targets["it"].price == prices["eu-central-1/claude"]


def test_an_unknown_price_is_a_warning(tmp_path: Path) -> None:
    result = compiled(tmp_path, shared(OPENAI))
    assert result.snapshot.targets["it"].price is None
    assert [warning.message for warning in result.warnings] == [
        "no price is known for `it`: its charges will be marked unknown"
    ]


def test_unmetered_gpus_are_a_warning(tmp_path: Path) -> None:
    (warning,) = compiled(tmp_path, one_target(OWN)).warnings
    assert warning.message == "no `gpus` for `it`: its GPU-hours cannot be metered"


def test_a_key_in_clear_to_what_may_be_a_public_host_is_a_warning_on_your_own_gpus(tmp_path: Path) -> None:
    text = shared("lane: dedicated, url: http://vllm.inference:8000/v1, model: up")
    assert any("goes in clear" in warning.message for warning in compiled(tmp_path, text).warnings)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("lane: dedicated, model: up", "a dedicated target needs a `url`"),
        ("lane: shared, model: up", "a shared target needs a `provider` or a `url`"),
        (f"{OWN}, price: {{input: 1, output: 1}}", "`price` does not fit a dedicated target"),
        ("lane: shared, provider: bedrock, model: up, engine: vllm", "`engine` does not fit a shared target"),
        ("lane: shared, provider: openai_like, model: up", "provider `openai_like` has no address of its own"),
        ("lane: shared, provider: azure, model: up", "provider `azure` has no address of its own"),
        ("lane: shared, provider: groq, model: up", "provider `groq` needs an `api_key`"),
        ("lane: shared, provider: nobody, model: up", "unknown provider `nobody`"),
    ],
)
def test_what_does_not_fit_is_refused(keys: str, message: str, tmp_path: Path) -> None:
    assert messages(tmp_path, one_target(keys)) == [message]


def test_several_urls_do_not_fit_a_shared_target(tmp_path: Path) -> None:
    text = one_target('lane: shared, urls: ["https://a.example.com/v1"], model: up')
    assert messages(tmp_path, text) == ["`urls` does not fit a shared target"]


def test_a_misfit_is_placed_at_its_key(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, one_target(f"{OWN}, provider: openai"))
    assert (problem.line, problem.column) == (3, 63)


def test_what_a_target_claims_is_compiled(tmp_path: Path) -> None:
    one = target(
        tmp_path,
        'lane: shared, url: "https://api.example.com/v1", model: up, training: false, quantization: fp8,'
        " context_window: 128k, supports: [tools, vision], limits: {rpm: 3000, tpm: 2M, concurrency: 7},"
        " parameters: {inference_geo: us, store: false}",
    )
    assert (one.trains, one.quantization, one.context_window) == (False, "fp8", 128_000)
    assert one.supports == frozenset({Capability.TOOLS, Capability.VISION})
    assert one.limits == Limits(rpm=3000, tpm=2_000_000, concurrency=7)
    assert one.max_in_flight == 7
    assert one.parameters == {"inference_geo": "us", "store": False}


def test_what_a_target_does_not_claim_is_unknown(tmp_path: Path) -> None:
    one = target(tmp_path, 'lane: shared, url: "https://api.example.com/v1", model: up')
    assert (one.trains, one.quantization, one.context_window, one.supports) == (None, "unknown", None, None)
    assert one.limits is UNLIMITED
    assert one.parameters == {}


def test_to_support_nothing_is_a_claim_too(tmp_path: Path) -> None:
    one = target(tmp_path, 'lane: shared, url: "https://api.example.com/v1", model: up, supports: []')
    assert one.supports == frozenset()


@pytest.mark.parametrize(("caps", "cap"), [("max_in_flight: 3, ", 3), ("max_in_flight: 9, ", 7), ("", 7)])
def test_the_smaller_of_our_cap_and_the_providers_counts(caps: str, cap: int, tmp_path: Path) -> None:
    keys = f'lane: shared, url: "https://api.example.com/v1", model: up, {caps}limits: {{concurrency: 7}}'
    assert target(tmp_path, keys).max_in_flight == cap


def test_a_dedicated_target_has_no_providers_limits(tmp_path: Path) -> None:
    text = one_target('lane: dedicated, url: "http://h:1/v1", model: up, limits: {rpm: 5}')
    assert messages(tmp_path, text) == ["`limits` does not fit a dedicated target"]
