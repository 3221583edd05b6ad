"""A coroutine without a task: it ends, waits, is cancelled and closed as it would be in one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from proxy.api.stepped import Stepped


async def test_what_never_waits_ends_at_once() -> None:
    async def seven() -> int:
        return 7

    ended: list[int] = []
    Stepped(seven(), ended.append).step()
    assert ended == [7]


async def test_it_goes_on_when_its_future_is_done_or_the_loop_has_turned() -> None:
    waited: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def wait() -> str:
        await asyncio.sleep(0)
        return await waited

    Stepped(wait(), ended.set_result).step()
    await asyncio.sleep(0)
    assert not ended.done()
    waited.set_result("word")
    assert await ended == "word"


async def test_a_failed_future_is_raised_where_it_is_awaited() -> None:
    waited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    caught: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def wait() -> str:
        try:
            await waited
        except OSError as error:
            return str(error)
        return ""

    Stepped(wait(), caught.set_result).step()
    waited.set_exception(OSError("gone"))
    assert await caught == "gone"


@pytest.mark.parametrize("swallows", [True, False])
async def test_cancelling_is_seen_inside_and_ends_it(swallows: bool) -> None:
    ended: list[Any] = []
    seen: list[str] = []

    async def wait() -> str:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            seen.append("cancelled")
            if not swallows:
                raise
        return "tidied up"

    stepped = Stepped(wait(), ended.append)
    stepped.step()
    stepped.cancel()
    assert seen == ["cancelled"]
    assert ended == ["tidied up" if swallows else None]
    stepped.cancel()
    stepped.step()
    assert len(ended) == 1


async def test_closed_it_is_dropped_where_it_waits() -> None:
    left: list[str] = []
    waited: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        try:
            await waited
        finally:
            left.append("left")

    stepped = Stepped(wait(), lambda _: left.append("ended"))
    stepped.step()
    stepped.close()
    waited.set_result(None)
    await asyncio.sleep(0)
    assert left == ["left"]
