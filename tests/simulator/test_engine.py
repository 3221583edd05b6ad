"""The engine simulator as the `openai` package and a bare socket see it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import orjson
import pytest
from openai import APIStatusError, AsyncOpenAI, BadRequestError, InternalServerError, NotFoundError
from prometheus_client.parser import text_string_to_metric_families
from proxy.simulator.asks import CHAT, COMPLETIONS, COUNT_TOKENS, MESSAGES, RESPONSES
from proxy.simulator.engine import EngineSimulator
from proxy.simulator.profile import PROFILES
from proxy.simulator.replies import answer_text

FAST = replace(PROFILES["8b-fp8-1xh100"], step_s=1e-3)
USER = [{"role": "user", "content": "x" * 40}]


@asynccontextmanager
async def sdk(sim: EngineSimulator) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=sim.url, api_key="none", max_retries=0) as client:
        yield client


async def exchange(sim: EngineSimulator, path: str, body: object, *, method: str = "POST") -> tuple[int, bytes, bytes]:
    """One request on a connection of its own: status, head and body."""
    content = b"" if body is None else orjson.dumps(body)
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    head = f"{method} {path} HTTP/1.1\r\nhost: sim\r\nconnection: close\r\ncontent-length: {len(content)}\r\n\r\n"
    writer.write(head.encode() + content)
    raw = await reader.read()
    writer.close()
    await writer.wait_closed()
    head_bytes, _, rest = raw.partition(b"\r\n\r\n")
    return int(head_bytes.split(b" ", 2)[1]), head_bytes, rest


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


async def test_models_health_and_an_unknown_path() -> None:
    async with EngineSimulator(FAST) as sim, sdk(sim) as client:
        listed = await client.models.list()
        one = await client.models.retrieve(sim.model)
        health = await exchange(sim, "/health", None, method="GET")
        unknown = await exchange(sim, "/v1/nothing", None, method="GET")
        wrong_method = await exchange(sim, CHAT, None, method="GET")
    assert [each.id for each in listed.data] == [one.id] == [sim.model]
    assert (health[0], unknown[0], wrong_method[0]) == (200, 404, 405)
    assert b"server: spillway-engine-simulator" in health[1]


async def test_errors_are_what_the_sdk_expects() -> None:
    async with EngineSimulator(replace(FAST, kv_tokens=100)) as sim, sdk(sim) as client:
        with pytest.raises(NotFoundError) as missing:
            await client.chat.completions.create(model="other", messages=USER)
        with pytest.raises(BadRequestError) as bad:
            await client.chat.completions.create(model=sim.model, messages=[])
        with pytest.raises(BadRequestError, match="maximum context length is 100"):
            await client.chat.completions.create(model=sim.model, messages=USER, max_tokens=91)
    assert missing.value.param == "model"
    assert bad.value.param == "messages"


async def test_an_api_key_is_asked_for_when_there_is_one() -> None:
    async with EngineSimulator(FAST, api_key="secret") as sim:
        for key, status in (("wrong", 401), ("secret", 200)):
            async with AsyncOpenAI(base_url=sim.url, api_key=key, max_retries=0) as client:
                try:
                    await client.chat.completions.create(model=sim.model, messages=USER, max_tokens=1)
                    seen = 200
                except APIStatusError as error:
                    seen = error.status_code
            assert seen == status


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


async def begin(sim: EngineSimulator, max_tokens: int, stream: bool = True) -> Callable[[], Awaitable[None]]:
    """Send a long request and return what closes its connection."""
    body = {"model": sim.model, "messages": USER, "max_tokens": max_tokens, "ignore_eos": True, "stream": stream}
    content = orjson.dumps(body)
    _, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    requests = len(sim.ledger.entries)
    writer.write(f"POST {CHAT} HTTP/1.1\r\nhost: s\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content)
    await sim.ledger.until(lambda: len(sim.ledger.entries) == requests + 1)

    async def leave() -> None:
        writer.close()
        await writer.wait_closed()

    return leave


async def test_requests_on_one_connection_are_answered_in_order() -> None:
    """Keep-alive, pipelined even, with an error in between."""
    bodies = [{"messages": USER, "max_tokens": tokens} for tokens in (3, 0, 2)]
    async with EngineSimulator(FAST) as sim:
        reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
        for body in bodies:
            content = orjson.dumps(body)
            writer.write(
                f"POST {CHAT} HTTP/1.1\r\nhost: s\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content
            )
        replies = [await read_reply(reader) for _ in bodies]
        assert sim.open_connections == 1
        writer.close()
        await writer.wait_closed()
    assert [reply.get("usage", {}).get("completion_tokens") for reply in replies] == [3, None, 2]


async def read_reply(reader: asyncio.StreamReader) -> Any:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    return orjson.loads(await reader.readexactly(length))


async def test_metrics_have_vllms_names_and_agree_with_the_ledger() -> None:
    async with EngineSimulator(replace(FAST, max_requests=1)) as sim, sdk(sim) as client:
        await client.chat.completions.create(model=sim.model, messages=USER, max_tokens=7)
        leave = await begin(sim, 100_000)
        await sim.ledger.until(lambda: sim.ledger.entries[-1].output_tokens > 0)
        await exchange(sim, CHAT, {"messages": USER})
        _, _, body = await exchange(sim, "/metrics", None, method="GET")
        await leave()
    samples = {
        (sample.name, sample.labels.get("finished_reason") or sample.labels.get("reason")): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
    assert samples["vllm:num_requests_running", None] == 1
    assert samples["vllm:num_requests_waiting", None] == 0
    assert 0 < samples["vllm:kv_cache_usage_perc", None] < 1
    assert samples["vllm:time_to_first_token_seconds_count", None] == 1
    assert samples["vllm:e2e_request_latency_seconds_count", None] == 1
    assert samples["vllm:request_success_total", "length"] == 1
    assert samples["vllm:admission_rejections_total", "max_num_queued_reqs"] == 1
    assert samples["vllm:generation_tokens_total", None] >= 7


async def test_the_ledger_is_served_as_json() -> None:
    async with EngineSimulator(FAST) as sim:
        await exchange(sim, RESPONSES, {"model": sim.model, "input": "x" * 40, "max_output_tokens": 3})
        await exchange(sim, COMPLETIONS, {"model": "other", "prompt": "x"})
        ledger = orjson.loads((await exchange(sim, "/simulator/ledger", None, method="GET"))[2])
        totals = orjson.loads((await exchange(sim, "/simulator/totals", None, method="GET"))[2])
    assert ledger["totals"] == totals
    assert (totals["requests"], totals["refused"], totals["input_tokens"], totals["output_tokens"]) == (2, 1, 10, 3)
    assert [entry["status"] for entry in ledger["entries"]] == [200, 404]


async def test_not_http_is_told_so_and_closed() -> None:
    async with EngineSimulator(FAST) as sim:
        reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
        writer.write(b"hello\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()
        await writer.wait_closed()


async def test_speed_compresses_time() -> None:
    """The model's own clock says how long an answer takes: 50 steps of 100 ms each would be 5 s."""
    async with EngineSimulator(replace(FAST, step_s=0.1), speed=50.0) as sim:
        await exchange(sim, CHAT, {"messages": USER, "max_tokens": 50})
    entry = sim.ledger.entries[0]
    assert entry.ended_s is not None
    assert 0.1 <= entry.ended_s - entry.arrived_s < 2.5
