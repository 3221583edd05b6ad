"""The light half of translated upstreams: when LiteLLM is loaded, and what a sink may see. It needs no LiteLLM."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import pytest
from proxy.policy.model import Endpoint, Lane, Target
from proxy.routing.outcome import Failure
from proxy.routing.plan import Attempt, Cause
from proxy.upstream import translated as translated_module
from proxy.upstream.base import Call, Head
from proxy.upstream.errors import ConnectionBroken, UpstreamError
from proxy.upstream.translated import Outlet, Translated

ATTEMPT = Attempt(
    target=Target(name="t", lane=Lane.SHARED, model="m", region="eu", provider="anthropic"),
    replica=0,
    model="m",
    ordinal=0,
    cause=Cause.PREFERRED,
    reason="",
)
CALL = Call(request_id="r1", endpoint=Endpoint.CHAT, body={}, headers=[], stream=True)
Serve = Callable[[Outlet], Awaitable[None]]


class Sink:
    def __init__(self) -> None:
        self.seen: list[object] = []
        self.over = asyncio.Event()

    def on_head(self, head: Head) -> None:
        self.seen.append(head.status)

    def on_data(self, data: bytes) -> None:
        self.seen.append(data)

    def on_end(self) -> None:
        self.seen.append("end")
        self.over.set()

    def on_failure(self, error: UpstreamError) -> None:
        self.seen.append(error.failure)
        self.over.set()


class Engine:
    """Stands in for the real one: counts loads, serves by a script."""

    loads = 0
    loaded_in: list[str] = []

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self.closed = False

    async def serve(self, attempt: Attempt, call: Call, outlet: Outlet) -> None:
        await self._serve(outlet)

    async def aclose(self) -> None:
        self.closed = True


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[Serve], Engine]:
    """Put an engine with this script in the place of the one that needs LiteLLM."""

    def put(serve: Serve) -> Engine:
        engine = Engine(serve)
        Engine.loads, Engine.loaded_in = 0, []

        def load() -> Engine:
            Engine.loads += 1
            Engine.loaded_in.append(threading.current_thread().name)
            return engine

        module = SimpleNamespace(Engine=SimpleNamespace(load=load))
        monkeypatch.setitem(sys.modules, "proxy.upstream.translated_exchange", module)  # type: ignore[arg-type]
        return engine

    return put


async def answer(outlet: Outlet) -> None:
    outlet.head(Head(200, []))
    outlet.data(b"hello")
    outlet.end()


def test_importing_the_module_imports_neither_litellm_nor_its_http_client() -> None:
    code = "import sys, proxy.upstream.translated; sys.exit(any(m in sys.modules for m in ('litellm', 'httpx')))"
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_litellm_is_loaded_once_at_first_use_and_not_on_the_loops_thread(play: Callable[[Serve], Engine]) -> None:
    engine = play(answer)
    translated = Translated()
    assert Engine.loads == 0
    sinks = [Sink() for _ in range(3)]
    for sink in sinks:
        translated.open(ATTEMPT, CALL, sink)
    for sink in sinks:
        await sink.over.wait()
    assert [sink.seen for sink in sinks] == [[200, b"hello", "end"]] * 3
    assert Engine.loads == 1
    assert Engine.loaded_in != [threading.current_thread().name]
    await translated.aclose()
    assert engine.closed


async def test_a_missing_litellm_is_a_failure_not_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "proxy.upstream.translated_exchange", None)
    translated, sink = Translated(), Sink()
    translated.open(ATTEMPT, CALL, sink)
    await sink.over.wait()
    await translated.aclose()
    assert sink.seen == [Failure.PROTOCOL]


async def test_nothing_arrives_after_abort(play: Callable[[Serve], Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translated_module, "GRACE_S", 0.0)
    begun, cancelled, closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def serve(outlet: Outlet) -> None:
        outlet.on_abort = closed.set
        outlet.head(Head(200, []))
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            outlet.data(b"late")
            outlet.fail(ConnectionBroken("late"))
            cancelled.set()

    play(serve)
    translated, sink = Translated(), Sink()
    exchange = translated.open(ATTEMPT, CALL, sink)
    await begun.wait()
    gone = asyncio.Event()
    exchange.abort(gone.set)
    assert closed.is_set()
    await cancelled.wait()
    await gone.wait()
    exchange.abort()
    await translated.aclose()
    assert sink.seen == [200]


async def test_an_exchange_may_be_aborted_while_litellm_is_being_loaded(play: Callable[[Serve], Engine]) -> None:
    play(answer)
    translated, sink = Translated(), Sink()
    translated.open(ATTEMPT, CALL, sink).abort()
    other = Sink()
    translated.open(ATTEMPT, CALL, other)
    await other.over.wait()
    await translated.aclose()
    assert sink.seen == []
    assert other.seen == [200, b"hello", "end"]


async def test_a_paused_exchange_waits_until_it_is_resumed(play: Callable[[Serve], Engine]) -> None:
    first = asyncio.Event()

    async def serve(outlet: Outlet) -> None:
        outlet.head(Head(200, []))
        outlet.data(b"1")
        first.set()
        assert await outlet.flow()
        outlet.data(b"2")
        outlet.end()

    play(serve)
    translated, sink = Translated(), Sink()
    exchange = translated.open(ATTEMPT, CALL, sink)
    exchange.pause()
    await first.wait()
    for _ in range(10):
        await asyncio.sleep(0)
    assert sink.seen == [200, b"1"]
    exchange.resume()
    await sink.over.wait()
    await translated.aclose()
    assert sink.seen == [200, b"1", b"2", "end"]


async def test_flow_tells_that_nobody_listens(play: Callable[[Serve], Engine]) -> None:
    flowed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def serve(outlet: Outlet) -> None:
        outlet.end()
        flowed.set_result(await outlet.flow())

    play(serve)
    translated = Translated()
    translated.open(ATTEMPT, CALL, Sink())
    assert await flowed is False
    await translated.aclose()
