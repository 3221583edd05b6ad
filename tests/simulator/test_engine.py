"""The engine simulator as the `openai` package sees it, and what becomes of its slots."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from openai import InternalServerError
from proxy.simulator.asks import CHAT, COUNT_TOKENS, MESSAGES
from proxy.simulator.engine import EngineSimulator
from proxy.simulator.replies import answer_text
from tests.simulator.calls import FAST, USER, begin, exchange, sdk


async def test_chat_whole() -> None:
    async with EngineSimulator(FAST) as sim, sdk(sim) as client:
        reply = await client.chat.completions.create(model=sim.model, messages=USER, max_tokens=12)
    assert reply.choices[0].message.content == answer_text(12)
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (10, 12)
    assert reply.id.startswith("sim-")


async def test_chat_stream_with_usage() -> None:
    async with EngineSimulator(FAST) as sim, sdk(sim) as client:
        stream = await client.chat.completions.create(
            model=sim.model, messages=USER, max_tokens=9, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == answer_text(9)
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (10, 9)


async def test_completions_whole_and_streamed() -> None:
    async with EngineSimulator(FAST) as sim, sdk(sim) as client:
        whole = await client.completions.create(model=sim.model, prompt="hello", max_tokens=5)
        stream = await client.completions.create(model=sim.model, prompt="hello", max_tokens=5, stream=True)
        streamed = "".join([chunk.choices[0].text async for chunk in stream])
    assert whole.choices[0].text == streamed == answer_text(5)


async def test_responses_whole_and_streamed() -> None:
    async with EngineSimulator(FAST, natural_tokens=6) as sim, sdk(sim) as client:
        whole = await client.responses.create(model=sim.model, input="hello")
        async with client.responses.stream(model=sim.model, input="hello") as stream:
            final = await stream.get_final_response()
    assert whole.output_text == final.output_text == answer_text(6)
    assert whole.status == final.status == "completed"
    assert final.usage is not None
    assert final.usage.output_tokens == 6


async def test_embeddings_through_the_sdks_base64_default() -> None:
    async with EngineSimulator(FAST) as sim, sdk(sim) as client:
        packed = await client.embeddings.create(model=sim.model, input=["one", "two"])
        floats = await client.embeddings.create(model=sim.model, input=["one", "two"], encoding_format="float")
    assert [each.embedding for each in packed.data] == [each.embedding for each in floats.data]


async def test_messages_and_count_tokens() -> None:
    async with EngineSimulator(FAST) as sim:
        ask = {"model": sim.model, "messages": USER, "max_tokens": 4}
        status, _, body = await exchange(sim, MESSAGES, ask)
        counted = await exchange(sim, COUNT_TOKENS, {"model": sim.model, "messages": USER})
    message = orjson.loads(body)
    assert (status, message["content"][0]["text"], message["stop_reason"]) == (200, answer_text(4), "max_tokens")
    assert message["usage"] == {"input_tokens": 10, "output_tokens": 4}
    assert (counted[0], orjson.loads(counted[2])) == (200, {"input_tokens": 10})


async def test_full_is_vllms_503_and_is_over_as_soon_as_somebody_is_done() -> None:
    async with EngineSimulator(replace(FAST, max_requests=1)) as sim, sdk(sim) as client:
        async with client.chat.completions.with_streaming_response.create(
            model=sim.model, messages=USER, max_tokens=100_000, stream=True, extra_body={"ignore_eos": True}
        ):
            await sim.ledger.until(lambda: sim.open_requests == 1)
            with pytest.raises(InternalServerError) as full:
                await client.chat.completions.create(model=sim.model, messages=USER)
        await sim.ledger.until(lambda: sim.open_requests == 0)
        await client.chat.completions.create(model=sim.model, messages=USER, max_tokens=1)
    assert full.value.status_code == 503
    assert full.value.body == {
        "message": "The engine is currently busy and cannot accept new requests. "
        "Please try again later or on a different instance.",
        "type": "Service Unavailable",
        "param": None,
        "code": 503,
    }
    assert sim.ledger.totals.refused == 1


@pytest.mark.parametrize("moment", ["waiting", "first token", "middle"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_frees_its_slot_at_once(moment: str, stream: bool) -> None:
    """At once: before the engine's next step, and the ledger keeps what had been generated."""
    profile = replace(FAST, max_seqs=1, step_s=5e-3)
    async with EngineSimulator(profile) as sim:
        blocker = await begin(sim, 100_000) if moment == "waiting" else None
        leave = await begin(sim, 100_000, stream=stream)
        entry = sim.ledger.entries[-1]
        wanted = {"waiting": 0, "first token": 1, "middle": 5}[moment]
        await sim.ledger.until(lambda: entry.output_tokens >= wanted)
        unfinished = sim.steps.unfinished
        await leave()
        await sim.ledger.until(lambda: entry.left_s is not None)
        assert sim.steps.unfinished == unfinished - 1
        assert entry.ended_s is None
        assert sim.ledger.totals.output_tokens >= entry.output_tokens >= wanted
        if blocker is not None:
            await blocker()
        await sim.ledger.until(lambda: sim.open_requests == 0 and sim.steps.kv_tokens == 0)


async def test_speed_compresses_time() -> None:
    """The model's own clock says how long an answer takes: 50 steps of 100 ms each would be 5 s."""
    async with EngineSimulator(replace(FAST, step_s=0.1), speed=50.0) as sim:
        await exchange(sim, CHAT, {"messages": USER, "max_tokens": 50})
    entry = sim.ledger.entries[0]
    assert entry.ended_s is not None
    assert 0.1 <= entry.ended_s - entry.arrived_s < 2.5
