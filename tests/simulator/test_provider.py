"""The provider simulator: pace, price, limits."""

from __future__ import annotations

import asyncio
from statistics import median

import pytest
from openai import AsyncOpenAI, RateLimitError
from proxy.simulator.provider import ProviderSimulator, Terms
from proxy.simulator.replies import answer_text

QUICK = Terms(ttft_median_s=0.002, ttft_p99_s=0.004, tokens_per_s=5000.0)
USER = [{"role": "user", "content": "x" * 40}]


async def test_chat_is_answered_and_charged() -> None:
    terms = Terms(
        input_nano_usd_per_mtok=100_000_000,
        output_nano_usd_per_mtok=320_000_000,
        ttft_median_s=0.002,
        ttft_p99_s=0.004,
        tokens_per_s=5000.0,
    )
    async with ProviderSimulator(terms) as sim, AsyncOpenAI(base_url=sim.url, api_key="x", max_retries=0) as client:
        whole = await client.chat.completions.create(model=sim.model, messages=USER, max_tokens=20)
        stream = await client.chat.completions.create(model=sim.model, messages=USER, max_tokens=20, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert whole.choices[0].message.content == text == answer_text(20)
    assert sim.ledger.totals.nano_usd == 2 * (10 * 100 + 20 * 320)


async def test_an_empty_request_bucket_is_429_with_the_time_to_wait() -> None:
    terms = Terms(ttft_median_s=0.002, ttft_p99_s=0.004, tokens_per_s=5000.0, rpm=2, tpm=1000)
    async with ProviderSimulator(terms) as sim, AsyncOpenAI(base_url=sim.url, api_key="x", max_retries=0) as client:
        ask = client.chat.completions.with_raw_response.create
        first = await ask(model=sim.model, messages=USER, max_tokens=10)
        await ask(model=sim.model, messages=USER, max_tokens=10)
        with pytest.raises(RateLimitError, match="requests per min") as limited:
            await ask(model=sim.model, messages=USER, max_tokens=10)
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert 975 <= int(first.headers["x-ratelimit-remaining-tokens"]) <= 985
    assert limited.value.code == "rate_limit_exceeded"
    assert 1 <= int(limited.value.response.headers["retry-after"]) <= 30
    assert limited.value.response.headers["x-ratelimit-remaining-requests"] == "0"


async def test_an_empty_token_bucket_is_429_and_takes_no_request() -> None:
    terms = Terms(ttft_median_s=0.002, ttft_p99_s=0.004, tokens_per_s=5000.0, rpm=100, tpm=60)
    async with ProviderSimulator(terms) as sim, AsyncOpenAI(base_url=sim.url, api_key="x", max_retries=0) as client:
        ask = client.chat.completions.with_raw_response.create
        await ask(model=sim.model, messages=USER, max_tokens=40)
        with pytest.raises(RateLimitError, match="tokens per min") as limited:
            await ask(model=sim.model, messages=USER, max_tokens=40)
    assert limited.value.response.headers["x-ratelimit-remaining-requests"] == "99"


async def test_a_window_of_its_own_length_comes_back_at_once() -> None:
    terms = Terms(ttft_median_s=0.002, ttft_p99_s=0.004, tokens_per_s=5000.0, rpm=12, fixed_window=True, period_s=10.0)
    async with ProviderSimulator(terms) as sim, AsyncOpenAI(base_url=sim.url, api_key="x", max_retries=0) as client:
        ask = client.chat.completions.with_raw_response.create
        first = await ask(model=sim.model, messages=USER, max_tokens=5)
        second = await ask(model=sim.model, messages=USER, max_tokens=5)
        with pytest.raises(RateLimitError):
            await ask(model=sim.model, messages=USER, max_tokens=5)
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    resets = [float(reply.headers["x-ratelimit-reset-requests"].rstrip("s")) for reply in (first, second)]
    assert 9.0 < resets[1] <= resets[0] <= 10.0


async def test_a_provider_may_keep_its_limits_to_itself() -> None:
    terms = Terms(ttft_median_s=0.002, ttft_p99_s=0.004, tokens_per_s=5000.0, rpm=1, headers=False)
    async with ProviderSimulator(terms) as sim, AsyncOpenAI(base_url=sim.url, api_key="x", max_retries=0) as client:
        ask = client.chat.completions.with_raw_response.create
        first = await ask(model=sim.model, messages=USER, max_tokens=5)
        with pytest.raises(RateLimitError) as limited:
            await ask(model=sim.model, messages=USER, max_tokens=5)
    told = [*first.headers, *limited.value.response.headers]
    assert not [name for name in told if name.startswith("x-ratelimit")]
    assert "retry-after" in told


async def test_the_pace_is_the_terms_own() -> None:
    """Nine gaps at 200 tokens a second after a first token around the median; a busy machine only adds to both."""
    terms = Terms(ttft_median_s=0.03, ttft_p99_s=0.06, tokens_per_s=200.0)
    async with ProviderSimulator(terms, seed=4) as sim, AsyncOpenAI(base_url=sim.url, api_key="x") as client:
        ask = client.chat.completions.create
        await asyncio.gather(*(ask(model=sim.model, messages=USER, max_tokens=10) for _ in range(20)))
        ttfts = [(entry.first_token_s or 0.0) - entry.arrived_s for entry in sim.ledger.entries]
        wholes = [(entry.ended_s or 0.0) - entry.arrived_s for entry in sim.ledger.entries]
    assert median(ttfts) > 0.02
    assert all(whole >= 0.005 + 9 / 200 for whole in wholes)


async def test_a_client_that_leaves_stops_the_answer_and_pays_for_what_was_said() -> None:
    async with ProviderSimulator(QUICK, natural_tokens=10**6) as sim:
        async with AsyncOpenAI(base_url=sim.url, api_key="x", max_retries=0) as client:
            stream = await client.chat.completions.create(model=sim.model, messages=USER, stream=True)
            async for chunk in stream:
                if chunk.choices[0].delta.content:
                    break
            await stream.close()
        await sim.ledger.until(lambda: sim.open_requests == 0)
        entry = sim.ledger.entries[0]
    assert entry.left_s is not None
    assert 0 < entry.output_tokens < 10**6
    assert sim.ledger.totals.left == 1
