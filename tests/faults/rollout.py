"""What a rolling update takes: pods that start and end as kubelet has it, a Service, clients that keep alive.

The Service is a TCP balancer that picks a ready pod for each connection and never tries another one. It learns late of
everything: it asks each pod's `/readyz` every tenth of a second, and acts on what it hears `LAG_S` afterwards. A pod is
deleted in kubelet's order: the preStop sleep, then SIGTERM, and SIGKILL when the grace is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import select
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httptools
import openai
import orjson

from tests.e2e.processes import Served, spawn, up
from tests.harness import request_bytes

PROBE_S = 0.1
PROBE_TIMEOUT_S = 1.0
FAILURES = 3
"""So many probes in a row have to fail before a pod counts as not ready: kubelet's `failureThreshold`."""
LAG_S = 0.4
PRE_STOP_S = 0.3
DELAY_S = 3.0
DRAIN_S = 40.0
EXPIRY_S = 5.0
"""Of a connection that nobody uses, in the pools of httpx."""
PATIENCE_S = 60.0
KILL_AFTER_S = PRE_STOP_S + DELAY_S + DRAIN_S + 15.0


class Half(asyncio.Protocol):
    """One of a connection's two sides in the balancer; what it hears, the other one says."""

    def __init__(self) -> None:
        self.other: Half | None = None
        self.transport: asyncio.Transport | None = None
        self.early: list[bytes] = []
        self.over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.other is None or self.other.transport is None:
            self.early.append(data)
        else:
            self.other.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.over = True
        if self.other is not None and self.other.transport is not None:
            if error is None:
                self.other.transport.close()
            else:
                self.other.transport.abort()


class Service:
    """The balancer. Of the pods that exist it uses those that it takes for ready (`endpoints`)."""

    def __init__(self) -> None:
        self.endpoints: list[Served] = []
        self.port = 0
        self.connections: Counter[int] = Counter()
        self.turned_away = 0
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Service]:
        server = await asyncio.get_running_loop().create_server(self._accepted, "127.0.0.1", 0, backlog=4096)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def joined(self, pod: Served) -> asyncio.Task[None]:
        """Wait until the pod is used; the task that probes it is for whoever deletes it to end."""
        watch = asyncio.create_task(self._watch(pod))
        while pod not in self.endpoints:
            self._changed.clear()
            await self._changed.wait()
        return watch

    async def _watch(self, pod: Served) -> None:
        silent = 0
        while True:
            ready = await _is_ready(pod)
            silent = silent + 1 if ready is None else 0
            if ready is not None or silent >= FAILURES:
                asyncio.get_running_loop().call_later(LAG_S, self._hear, pod, bool(ready))
            await asyncio.sleep(PROBE_S)

    def _hear(self, pod: Served, ready: bool) -> None:
        if ready and pod not in self.endpoints:
            self.endpoints.append(pod)
            self._changed.set()
        elif not ready and pod in self.endpoints:
            self.endpoints.remove(pod)

    def _accepted(self) -> Half:
        near = Half()
        task = asyncio.create_task(self._join(near))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return near

    async def _join(self, near: Half) -> None:
        far, pod = Half(), random.choice(self.endpoints) if self.endpoints else None
        try:
            if pod is None:
                raise ConnectionRefusedError
            await asyncio.get_running_loop().create_connection(lambda: far, "127.0.0.1", pod.port)
        except OSError:
            self.turned_away += 1
            assert near.transport is not None
            near.transport.abort()
            return
        self.connections[pod.port] += 1
        near.other, far.other = far, near
        assert far.transport is not None
        far.transport.write(b"".join(near.early))
        if near.over:
            far.transport.close()
        elif far.over:
            assert near.transport is not None
            near.transport.abort()


async def _is_ready(pod: Served) -> bool | None:
    """What the pod says; None when it does not answer in time, as one that waits for a processor."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            return (await pod.request("GET", "/readyz")).status == 200
    except (OSError, asyncio.IncompleteReadError):
        return None


@dataclass
class Deployment:
    """Pods of one policy and one store behind a Service."""

    folder: Path
    policy: str
    store_url: str
    service: Service
    made: list[Served] = field(default_factory=list)
    present: dict[int, tuple[Served, asyncio.Task[None]]] = field(default_factory=dict)
    ends: list[asyncio.Task[int]] = field(default_factory=list)

    async def add(self) -> None:
        """One more pod, ready and in use."""
        folder = self.folder / secrets.token_hex(4)
        folder.mkdir()
        (folder / "policy.yaml").write_text(self.policy)
        options = ("--drain", f"{DRAIN_S}s", "--drain-delay", f"{DELAY_S}s", "--redis-url", self.store_url)
        pod = await spawn(folder / "policy.yaml", "--port", "0", "--admin-port", "0", *options)
        self.made.append(pod)
        await up(pod)
        self.present[pod.port] = pod, await self.service.joined(pod)

    async def roll(self) -> None:
        """Replace every pod: maxSurge 1, maxUnavailable 0. The old ones end meanwhile (`ends`: their exit statuses)."""
        for port in list(self.present):
            await self.add()
            self.ends.append(asyncio.create_task(self._delete(*self.present.pop(port))))

    async def close(self) -> None:
        """Delete what is left, and let nothing behind."""
        await asyncio.gather(*[self._delete(*one) for one in self.present.values()])

    def kill(self) -> None:
        for pod in self.made:
            if pod.process.returncode is None:
                pod.process.kill()

    async def _delete(self, pod: Served, watch: asyncio.Task[None]) -> int:
        deleted_at = time.monotonic()
        await asyncio.sleep(PRE_STOP_S)
        pod.process.send_signal(signal.SIGTERM)
        try:
            return await pod.ended(KILL_AFTER_S - (time.monotonic() - deleted_at))
        except TimeoutError:
            pod.process.kill()
            return await pod.process.wait()
        finally:
            watch.cancel()


class Connection(asyncio.Protocol):
    """A client's connection, for one request after another."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.usable = True
        self.reply: asyncio.Future[tuple[int, bytes, bool]] | None = None
        self.body: list[bytes] = []
        self.begun: Callable[[], object] | None = None
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.usable = False
        self._answer(complete=False)

    def on_message_begin(self) -> None:
        self.body = []

    def on_body(self, body: bytes) -> None:
        self.body.append(body)
        if self.begun is not None:
            self.begun()
            self.begun = None

    def on_message_complete(self) -> None:
        self.usable = self.usable and self.parser.should_keep_alive()
        if not self.usable:
            self.transport.close()
        self._answer(complete=True)

    async def ask(self, request: bytes, begun: Callable[[], object]) -> tuple[int, bytes, bool]:
        """Status, body and whether it was whole; `begun` is called when it begins."""
        self.reply = asyncio.get_running_loop().create_future()
        self.body, self.begun = [], begun
        self.transport.write(request)
        return await self.reply

    def _answer(self, *, complete: bool) -> None:
        if self.reply is not None and not self.reply.done():
            status = self.parser.get_status_code() if self.body or complete else 0
            self.reply.set_result((status, b"".join(self.body), complete))


@dataclass
class Asked:
    """One request as its client saw it: how many tokens it was to get, and how it ended (`done` or what went wrong)."""

    name: str
    planned: int
    end: str


class Clients:
    """Applications that call the Service. Each pool keeps connections as SDKs do; nobody asks twice."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.over = asyncio.Event()
        self.asked: list[Asked] = []
        self.open: set[str] = set()
        self._random = random.Random(6)
        self._names = 0

    async def stream(self, pool: list[Connection], first: int, shortest: int, longest: int) -> None:
        """One stream after another, as long as the rollout goes on; the `first` one of so many tokens."""
        planned = first
        while not self.over.is_set():
            await self._stream(pool, planned)
            planned = self._random.randint(shortest, longest)
            await asyncio.sleep(self._random.random() * 0.1)

    async def sdk(self, client: openai.AsyncOpenAI, pause_s: float) -> None:
        """OpenAI's own client: answers as a whole, and now and then a short stream."""
        while not self.over.is_set():
            name, planned, stream = self._name(), self._random.randint(1, 3), self._random.random() < 0.3
            prompt: Any = [{"role": "user", "content": f"{planned} usage"}]
            named = {"x-request-id": name}
            ask = client.chat.completions.create
            try:
                if stream:
                    got = ""
                    async for event in await ask(model="m", messages=prompt, stream=True, extra_headers=named):
                        got += (event.choices[0].delta.content or "") if event.choices else ""
                else:
                    whole = await ask(model="m", messages=prompt, extra_headers=named)
                    got = whole.choices[0].message.content or ""
                end = "done" if got == "word " * planned else "short"
            except openai.APIError as error:
                end = f"{type(error).__name__}: {error} {error.__cause__!r}"
            self.asked.append(Asked(name, planned, end))
            await asyncio.sleep(self._random.random() * pause_s)

    async def _stream(self, pool: list[Connection], planned: int) -> None:
        name = self._name()
        prompt = [{"role": "user", "content": f"{planned} usage"}]
        body = orjson.dumps({"model": "m", "stream": True, "messages": prompt})
        request = request_bytes("POST", "/v1/chat/completions", body, {"x-request-id": name})
        try:
            connection = _taken(pool) or await self._connected()
        except OSError as error:
            self.asked.append(Asked(name, planned, f"unreachable: {error}"))
            return
        try:
            async with asyncio.timeout(PATIENCE_S):
                status, got, complete = await connection.ask(request, lambda: self.open.add(name))
        except TimeoutError:
            connection.transport.abort()
            status, got, complete = 0, b"", False
        self.open.discard(name)
        self.asked.append(Asked(name, planned, _end(status, got, complete=complete, planned=planned)))
        if connection.usable:
            connection.idle_since = time.monotonic()
            pool.append(connection)

    async def _connected(self) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", self.port)
        return connection

    def _name(self) -> str:
        self._names += 1
        return f"r-{self._names}"


def _taken(pool: list[Connection]) -> Connection | None:
    """A connection to be used again, as httpcore picks one: not idle for long, and nothing has arrived, nor its end."""
    while pool:
        connection = pool.pop()
        if time.monotonic() > connection.idle_since + EXPIRY_S:
            connection.transport.close()
        elif connection.usable and not _readable(connection.transport):
            return connection
    return None


def _readable(transport: asyncio.Transport) -> bool:
    arrived = select.poll()
    arrived.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(arrived.poll(0))


def _end(status: int, body: bytes, *, complete: bool, planned: int) -> str:
    if not status:
        return "no answer"
    if status != 200:
        return f"status {status}: {body[:200]!r}"
    if not complete:
        return "broken off"
    if b'"error"' in body:
        return "cut"
    whole = body.count(b'"content":"word "') == planned and body.endswith(b"data: [DONE]\n\n")
    return "done" if whole else "short"
