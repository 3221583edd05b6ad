"""Upstreams that do not speak the caller's protocol, reached through LiteLLM.

Theory of operation
-------------------
Every translated request is one chat request in the middle: a Messages, Responses or completions body is turned into
chat parameters, LiteLLM turns those into the provider's protocol and the provider's answer into chat chunks, and those
are written out in the caller's protocol. Each exchange is one task.

LiteLLM is not imported with this module but at first use, in a thread, while other requests go on. From here inwards:
`translated_exchange` runs one exchange, `translated_library` holds LiteLLM, `translated_wire` holds its network;
`translated_request`, `_chat`, `_messages`, `_responses` and `_errors` are pure.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.routing.plan import Attempt
from proxy.upstream.base import Call, Exchange, Head, Sink
from proxy.upstream.errors import ProtocolViolated, UpstreamError

if TYPE_CHECKING:
    from proxy.upstream.translated_exchange import Engine

GRACE_S = 2.0
"""How long an aborted exchange, its connection closed already, may take to notice."""


class Translated:
    """The `Upstream` for every endpoint that a target does not speak itself."""

    def __init__(self) -> None:
        self._engine: asyncio.Task[Engine] | None = None
        self._running: dict[asyncio.Task[None], Outlet] = {}

    def open(self, attempt: Attempt, call: Call, sink: Sink) -> Exchange:
        """Start the exchange; LiteLLM is loaded if this is the first one."""
        outlet = Outlet(sink)
        task = asyncio.get_running_loop().create_task(self._run(attempt, call, outlet))
        outlet.task = task
        self._running[task] = outlet
        task.add_done_callback(self._running.pop)
        return outlet

    async def warm(self) -> None:
        """Load LiteLLM ahead of the first request: seconds of one core, in a thread. Raises ImportError without it."""
        await self._loaded()

    async def aclose(self) -> None:
        """End every exchange and close every connection."""
        tasks = [*self._running, *([self._engine] if self._engine is not None else [])]
        for outlet in tuple(self._running.values()):
            outlet.abort()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._engine is not None and self._engine.exception() is None:
            await self._engine.result().aclose()

    async def _run(self, attempt: Attempt, call: Call, outlet: Outlet) -> None:
        try:
            engine = await self._loaded()
        except ImportError as error:
            outlet.fail(ProtocolViolated(f"litellm cannot be imported: {error.name or 'unknown'} is missing"))
            return
        if outlet.open:
            await engine.serve(attempt, call, outlet)

    async def _loaded(self) -> Engine:
        if self._engine is None:
            self._engine = asyncio.get_running_loop().create_task(_load())
        return await asyncio.shield(self._engine)


class Outlet:
    """Between one running exchange and its sink: the `Exchange` that the relay holds.

    Nothing reaches the sink after the end or after `abort()`. `on_abort` closes the exchange's connection, whereupon
    its task ends by itself. It is cancelled only if it does not: LiteLLM prepares requests in threads, and what a
    cancelled task leaves behind there is a coroutine that nobody awaits.
    """

    __slots__ = ("_flowing", "_sink", "on_abort", "task")

    def __init__(self, sink: Sink) -> None:
        self._sink: Sink | None = sink
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.on_abort: Callable[[], None] | None = None
        self.task: asyncio.Task[None] | None = None

    # the relay's side

    def pause(self) -> None:
        """Stop pulling chunks after the current one."""
        if self._sink is not None:
            self._flowing.clear()

    def resume(self) -> None:
        """Pull again."""
        self._flowing.set()

    def abort(self, closed: Callable[[], None] | None = None) -> None:
        """Forget the sink and close the connection now. Idempotent. `closed` is called when the task has ended too."""
        self._sink = None
        if closed is not None and self.task is not None:
            self.task.add_done_callback(lambda _: closed())
        self._flowing.set()
        if self.on_abort is not None:
            self.on_abort()
        if self.task is not None and not self.task.done():
            self.task.get_loop().call_later(GRACE_S, self.task.cancel)

    # the exchange's side

    @property
    def open(self) -> bool:
        """Whether anybody listens."""
        return self._sink is not None

    async def flow(self) -> bool:
        """Let others run, wait while paused; False when nobody listens any more.

        LiteLLM takes half a millisecond for a chunk, and a hundred may have arrived in one read.
        """
        await asyncio.sleep(0)
        await self._flowing.wait()
        return self.open

    def head(self, head: Head) -> None:
        """Announce the answer."""
        if self._sink is not None:
            self._sink.on_head(head)

    def data(self, data: bytes) -> None:
        """Pass on a piece of the answer."""
        if self._sink is not None and data:
            self._sink.on_data(data)

    def end(self) -> None:
        """The answer is complete."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.on_end()

    def fail(self, error: UpstreamError) -> None:
        """There is no answer, or no more of it."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.on_failure(error)


async def _load() -> Engine:
    module = await asyncio.to_thread(importlib.import_module, "proxy.upstream.translated_exchange")
    engine: Engine = await asyncio.to_thread(module.Engine.load)
    return engine
