"""Servers in this process that give a store's client the answers they were told to give."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from proxy.meters.store_url import Server


class Asked(Server):
    """Where one of the servers listens, and what has reached it: the bytes of each reading, by connection."""

    received: list[list[bytes]]


@asynccontextmanager
async def answering(*answers: bytes | Callable[[bytes], bytes] | None) -> AsyncIterator[list[Asked]]:
    """Servers that give one answer to whatever they are asked, or a function's to that: an empty one hangs up. None
    accepts, and never answers.
    """
    conversations: list[asyncio.Task[None] | None] = []
    received: list[list[list[bytes]]] = [[] for _ in answers]

    async def serve(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversations.append(asyncio.current_task())
        readings: list[bytes] = []
        received[number].append(readings)
        while said := await reader.read(65536):
            readings.append(said)
            answer = answers[number]
            if callable(answer):
                answer = answer(said)
            if answer == b"":
                break
            if answer is not None:
                writer.write(answer)
        writer.close()

    async with AsyncExitStack() as stack:
        places = []
        for number in range(len(answers)):
            server = await asyncio.start_server(partial(serve, number), "127.0.0.1", 0)
            await stack.enter_async_context(server)
            place = Asked(*server.sockets[0].getsockname()[:2])
            place.received = received[number]
            places.append(place)
        yield places
    await asyncio.gather(*filter(None, conversations))
