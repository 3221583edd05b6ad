"""An admin port that says what the test puts into its mouth, beside the console's own files."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec
import uvicorn
from proxy.api.console import console_routes
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from tests.browser.views import View


@dataclass
class Puppet:
    """The port, and what it says. `say` and `hang_up` may be called from any thread."""

    url: str
    loop: asyncio.AbstractEventLoop
    latest: View
    queues: set[asyncio.Queue[bytes | None]] = field(default_factory=set)

    def say(self, said: View) -> None:
        """To all who listen, and to whoever comes later."""
        self.latest = said
        self._put(_event(said))

    def hang_up(self) -> None:
        """On all who listen; they may come again."""
        self._put(None)

    def _put(self, event: bytes | None) -> None:
        for queue in tuple(self.queues):
            self.loop.call_soon_threadsafe(queue.put_nowait, event)

    async def answer(self, request: Request) -> Response:
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        return StreamingResponse(self._events(queue), media_type="text/event-stream")

    async def _events(self, queue: asyncio.Queue[bytes | None]) -> AsyncIterator[bytes]:
        self.queues.add(queue)
        try:
            yield _event(self.latest)
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self.queues.discard(queue)


def _event(said: View) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode(said)


@contextlib.asynccontextmanager
async def puppet(first: View) -> AsyncIterator[Puppet]:
    """Serve on a free port until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        made = Puppet(url, asyncio.get_running_loop(), first)
        app = Starlette(routes=[Route("/admin/live", made.answer), *console_routes()])
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield made
        finally:
            made.hang_up()
            server.should_exit = True
            await serving
