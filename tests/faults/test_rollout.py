"""A rolling update of three proxies under load, as Kubernetes does it: nobody notices, and the ledger is exact."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from proxy.meters.fields import COUNTERS
from proxy.meters.store import Store

from tests.faults.field import INPUT_USD, OUTPUT_USD, Field, upstream
from tests.faults.rollout import Clients, Connection, Deployment, Service
from tests.redis.servers import Server, start_redis

CLIENTS, STREAMS, POOLS = 520, 500, 10
FIRST, SHORTEST, LONGEST = 50, 25, 40
"""Tokens of a stream; the first ones are long, for all of them are to be open at once."""
TOKENS_PER_S = 5.0
OPEN_WITHIN_S = 30.0
SDK_TIMEOUT_S = 30.0
ANSWERED_WITHIN_S = 45.0
SDK_POOLS, SDK_TASKS = 4, 6
POLICY = """version: 1
targets:
  api: {{lane: shared, provider: openai, url: 'http://127.0.0.1:{port}/v1', model: m, region: us,
    price: {{input: {input}, output: {output}}}}}
models:
  m: [api]
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Server]:
    with start_redis(tmp_path / "redis", {}) as server:
        yield server


async def stored(url: str) -> dict[str, int]:
    """The counters of everybody who ever pushed any, summed over all series."""
    store = Store(url)
    totals = await store.read_totals()
    await store.aclose()
    return dict(zip(COUNTERS, map(sum, zip(*totals.counters.values(), strict=True)), strict=True))


async def test_a_rolling_update_under_load_is_not_noticed(store: Server, tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(upstream(TOKENS_PER_S))
        service = await stack.enter_async_context(Service().running())
        policy = POLICY.format(port=port, input=INPUT_USD, output=OUTPUT_USD)
        deployment = Deployment(tmp_path, policy, store.url, service)
        stack.callback(deployment.kill)
        await asyncio.gather(*[deployment.add() for _ in range(3)])
        clients = Clients(service.port)
        pools: list[list[Connection]] = [[] for _ in range(POOLS)]
        words = FIRST, SHORTEST, LONGEST
        tasks = [asyncio.create_task(clients.stream(pools[n % POOLS], *words)) for n in range(CLIENTS)]
        async with asyncio.timeout(OPEN_WITHIN_S):
            while len(clients.open) < STREAMS:
                await asyncio.sleep(0.05)
        for _ in range(SDK_POOLS):
            url = f"http://127.0.0.1:{service.port}/v1"
            sdk = openai.AsyncOpenAI(base_url=url, api_key="sk", max_retries=0, timeout=SDK_TIMEOUT_S)
            stack.push_async_callback(sdk.close)
            tasks += [asyncio.create_task(clients.sdk(sdk, 2.0)) for _ in range(SDK_TASKS)]
        before = set(clients.open)
        began_at = time.monotonic()
        await deployment.roll()
        rolled_s = time.monotonic() - began_at
        statuses = await asyncio.gather(*deployment.ends)
        clients.over.set()
        _, unanswered = await asyncio.wait(tasks, timeout=ANSWERED_WITHIN_S)
        assert not unanswered, f"{len(unanswered)} clients wait for an answer"
        await deployment.close()
        truth = await Field(upstream_port=port).truth()
        counted = await stored(store.url)
    ends = Counter(one.end for one in clients.asked)
    print(f"{len(before)} streams, rolled in {rolled_s:.1f} s; {len(clients.asked)} requests: {dict(ends)}")
    print(f"connections by pod: {dict(service.connections)}; turned away: {service.turned_away}")
    print(*[one for one in clients.asked if one.end != "done"], sep="\n")
    assert len(before) >= STREAMS
    assert statuses == [0, 0, 0]
    assert set(ends) == {"done"}
    assert {one.name: [one.planned, 1] for one in clients.asked} == {name: row[1::2] for name, row in truth.items()}
    assert counted["requests"] == counted["attempts"] == len(clients.asked)
    assert counted["output_tokens"] == sum(row[1] for row in truth.values())
    assert counted["nano_usd"] == sum(row[2] for row in truth.values())
    assert len(service.connections) == 6
