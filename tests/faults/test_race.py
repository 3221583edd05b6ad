"""A thousand streams over four proxies race against one hard budget: it holds, and the store is hardly asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.field import NANO, Field, laid_out
from tests.faults.verdict import Verdict, verdict
from tests.redis.servers import Server, start_redis

CLIENTS, LONGEST = 1000, 500
STALL_S = 5.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Server]:
    with start_redis(tmp_path / "redis", {"enable-debug-command": "local"}) as server:
        yield server


def calls(store: Server) -> int:
    """How many scripts the store has run."""
    return int(store.info("commandstats")["cmdstat_eval"].partition("calls=")[2].partition(",")[0])


async def count_calls(store: Server, counted: list[tuple[float, int]]) -> None:
    """Note every second how many there were."""
    while True:
        counted.append((time.monotonic(), await asyncio.to_thread(calls, store)))
        await asyncio.sleep(1.0)


async def judged(laid: Field, limit_usd: int, clients: int, seconds: float) -> Verdict:
    asked = await laid.crowd(clients, seconds, 1, LONGEST, "usage")
    return verdict(asked, await laid.truth(), limit_usd * NANO)


async def test_fifty_dollars_are_fifty_dollars(store: Server, tmp_path: Path) -> None:
    async with laid_out(tmp_path, [store.url] * 4, limit="$50/total") as laid:
        await laid.leased()
        counted: list[tuple[float, int]] = []
        watch = asyncio.create_task(count_calls(store, counted))
        found = await judged(laid, 50, CLIENTS, 25.0)
        watch.cancel()
        counts = [count for at, count in counted if at <= found.last_begun_at]
        asked = (counts[-1] - counts[0]) / found.admitted
        print(f"{found}; {asked:.3f} calls of the store for each request admitted")
        assert found.overspent <= found.unseen
        assert found.early <= 0.01 * found.admitted
        assert asked <= 0.1
        assert found.spent >= 0.995 * found.limit
        assert found.ends["cut"] > 0
        assert set(found.ends) - {"budget_unavailable"} == {"done", "cut", "budget_exceeded"}
        # What was cut is charged by estimate, of which the input is the generous part.
        assert found.spent - found.unseen <= await laid.agreed_on() <= found.limit + found.unseen


async def test_no_request_waits_for_a_store_that_stalls(store: Server, tmp_path: Path) -> None:
    """The same load twice over the same proxies; the second time the store sleeps for five seconds of it."""
    async with laid_out(tmp_path, [store.url] * 4, limit="$9000/total") as laid:
        await laid.leased()
        await judged(laid, 9000, 200, 3.0)
        calm = await judged(laid, 9000, 200, 8.0)
        stalled = asyncio.create_task(asyncio.to_thread(store.ask, "DEBUG", "SLEEP", str(STALL_S)))
        during = await judged(laid, 9000, 200, 8.0)
        await stalled
        print(f"calm: {calm}\nstalled: {during}")
        assert set(during.ends) == {"done"}
        assert during.ttft_p99_s <= 1.5 * calm.ttft_p99_s + 0.02
