"""LiteLLM is imported once for all tests that need it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from proxy.upstream.translated import Translated


class Loading:
    """What happened while LiteLLM was imported: turns of the event loop, and attempts to connect."""

    turns = 0
    connects: list[Any] = []


@pytest.fixture(scope="session")
def loading() -> Loading:
    async def load() -> None:
        translated = Translated()
        warm = asyncio.create_task(translated.warm())
        while not warm.done():
            await asyncio.sleep(0.01)
            Loading.turns += 1
        await warm
        await translated.aclose()

    def refuse(_: socket.socket, address: Any) -> None:
        Loading.connects.append(address)
        raise OSError("no network at import")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket.socket, "connect_ex", refuse)
        asyncio.run(load())
    return Loading()


@pytest.fixture
async def translated(loading: Loading) -> AsyncIterator[Translated]:
    translated = Translated()
    yield translated
    await translated.aclose()
