"""A client that leaves takes its request off the engine."""

import asyncio

import httpx
import pytest

from tests.engine import spillway as proxies
from tests.engine.asks import GENERATING, of_length
from tests.engine.spillway import Spillway, until
from tests.engine.vllm import Engine

TOKENS = 6000
"""About half a minute of work: an engine that is free long before then was told to stop, on a busy machine too."""
DEADLINE_S = 2.0

pytestmark = pytest.mark.parametrize("path", GENERATING)


def running(engine: Engine) -> float:
    return engine.metric("vllm:num_requests_running") + engine.metric("vllm:num_requests_waiting")


def assert_freed(engine: Engine, spillway: Spillway, request_id: str) -> None:
    until(lambda: running(engine) == 0, "the engine still works for a client that has left", DEADLINE_S)
    attempt = spillway.record_of(request_id)["attempts"][0]
    assert (attempt["failure"], attempt["input_tokens"] > 0) == ("client_left", True)
    assert attempt["output_tokens"] < TOKENS


async def ask(spillway: Spillway, path: str, request_id: str, *, stream: bool) -> None:
    """Asks for a long answer; returns with the first bytes of its body, and by leaving closes the connection."""
    headers = {"authorization": f"Bearer {proxies.KEY}", "x-request-id": request_id}
    async with (
        httpx.AsyncClient(base_url=spillway.url, headers=headers, timeout=60, trust_env=False) as http,
        http.stream("POST", path, json=of_length(path, TOKENS, stream=stream)) as reply,
    ):
        assert reply.status_code == 200
        async for _ in reply.aiter_raw():
            return


async def test_leaving_within_a_stream_frees_the_engine(path: str, engine: Engine, spillway: Spillway) -> None:
    request_id = f"left-stream{path.replace('/', '-')}"
    await ask(spillway, path, request_id, stream=True)
    await asyncio.to_thread(assert_freed, engine, spillway, request_id)


async def test_leaving_before_the_reply_frees_the_engine(path: str, engine: Engine, spillway: Spillway) -> None:
    request_id = f"left-whole{path.replace('/', '-')}"
    asking = asyncio.create_task(ask(spillway, path, request_id, stream=False))
    await asyncio.to_thread(until, lambda: running(engine) > 0, "the engine never got the request", DEADLINE_S)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.to_thread(assert_freed, engine, spillway, request_id)
