"""A race against a hard budget, while something breaks: it is not overspent, and afterwards all goes on as before."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.field import NANO, Field, laid_out, started_again
from tests.faults.verdict import Verdict, verdict
from tests.redis.servers import SentinelSet, Server, start_redis, start_sentinel_set

LIMIT_USD = 8
CLIENTS, SECONDS, LONGEST = 250, 15.0, 400
FAULT_AT_S = 4.0
HOUR_S = 3600

Fault = Callable[[Field], Awaitable[None]]


@contextmanager
def redis(folder: Path) -> Iterator[Server]:
    with start_redis(folder, {"enable-debug-command": "local"}) as server:
        yield server


async def race(laid: Field, fault: Fault) -> Verdict:
    """Let the crowd ask, break something, and judge when the last has been answered."""
    await laid.leased()
    crowd = asyncio.create_task(laid.crowd(CLIENTS, SECONDS, 7, LONGEST, "usage"))
    await asyncio.sleep(FAULT_AT_S)  # the fault comes in the midst of it; nothing announces that moment
    await fault(laid)
    found = verdict(await crowd, await laid.truth(), LIMIT_USD * NANO)
    print(found)
    return found


async def holds(laid: Field, found: Verdict) -> None:
    """The budget was not overspent; every proxy agrees on what was spent, and nothing is set aside any more."""
    assert found.overspent <= found.unseen
    spent = await laid.agreed_on()
    assert found.spent - found.unseen <= spent <= found.limit + found.unseen


async def all_serve(laid: Field) -> bool:
    """Whether every proxy has heard the store again."""
    return not any([(await proxy.ready())["degraded"] for proxy in laid.proxies])


async def until_healed(laid: Field) -> None:
    async with asyncio.timeout(20.0):
        while not await all_serve(laid):
            await asyncio.sleep(0.1)


async def test_a_proxy_is_killed_and_comes_back(tmp_path: Path) -> None:
    with redis(tmp_path / "redis") as store:
        async with laid_out(tmp_path, [store.url] * 4, limit=f"${LIMIT_USD}/total") as laid:

            async def fault(laid: Field) -> None:
                await laid.proxies[0].stop(signal.SIGKILL)
                await started_again(laid, 0, store.url)

            found = await race(laid, fault)
            assert found.ends["done"] > 0
            await until_healed(laid)
            await holds(laid, found)


@pytest.mark.parametrize("empty", ["restart", "flush"])
async def test_the_store_forgets_everything(tmp_path: Path, empty: str) -> None:
    with redis(tmp_path / "redis") as store:
        async with laid_out(tmp_path, [store.url] * 4, limit=f"${LIMIT_USD}/total") as laid:

            async def fault(laid: Field) -> None:
                if empty == "restart":
                    await asyncio.to_thread(store.restart, empty=True)
                else:
                    await asyncio.to_thread(store.ask, "FLUSHALL")

            found = await race(laid, fault)
            await until_healed(laid)
            await holds(laid, found)
            assert found.spent >= 0.98 * found.limit


async def test_the_store_stalls(tmp_path: Path) -> None:
    with redis(tmp_path / "redis") as store:
        async with laid_out(tmp_path, [store.url] * 4, limit=f"${LIMIT_USD}/total") as laid:

            async def fault(laid: Field) -> None:
                await asyncio.to_thread(store.ask, "DEBUG", "SLEEP", "5")

            found = await race(laid, fault)
            await until_healed(laid)
            await holds(laid, found)


async def test_two_proxies_are_cut_off_from_the_store(tmp_path: Path) -> None:
    with redis(tmp_path / "redis") as store:
        async with laid_out(tmp_path, [], limit=f"${LIMIT_USD}/total", store_port=store.port) as laid:

            async def fault(laid: Field) -> None:
                for link in laid.links[:2]:
                    link.cut()
                await asyncio.sleep(4.0)  # what is leased runs out meanwhile, and the two refuse
                for link in laid.links[:2]:
                    link.heal()

            found = await race(laid, fault)
            await until_healed(laid)
            await holds(laid, found)
            assert found.spent >= 0.98 * found.limit


async def test_sentinels_make_another_server_the_master(tmp_path: Path) -> None:
    with start_sentinel_set(tmp_path / "redis") as servers:
        assert isinstance(servers, SentinelSet)
        async with laid_out(tmp_path, [servers.url] * 4, limit=f"${LIMIT_USD}/total") as laid:

            async def fault(laid: Field) -> None:
                await asyncio.to_thread(servers.master.kill)

            found = await race(laid, fault)
            await until_healed(laid)
            await holds(laid, found)


async def test_clocks_on_the_wall_are_an_hour_off(tmp_path: Path) -> None:
    """Windows are told by the store's clock alone: a week's budget is the same for all."""
    with redis(tmp_path / "redis") as store:
        skews = (-HOUR_S, 0, HOUR_S, 0)
        async with laid_out(tmp_path, [store.url] * 4, limit=f"${LIMIT_USD}/week", skews_s=skews) as laid:

            async def fault(laid: Field) -> None:
                answers = [await proxy.request("GET", "/healthz") for proxy in laid.proxies]
                assert [one.status for one in answers] == [200] * 4

            found = await race(laid, fault)
            await holds(laid, found)
            assert found.spent >= 0.98 * found.limit
            windows = {(await laid.budget(proxy))["window_start_s"] for proxy in laid.proxies}
            assert len(windows) == 1
