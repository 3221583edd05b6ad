"""A whole proxy in the test's own event loop: real sockets on both ports, a policy made of values, no store."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import uvicorn
from proxy.api.server import Leaving, ReceivingLimits, guarded_protocol
from proxy.app import Spillway
from proxy.meters.fields import COUNTERS
from proxy.policy.model import Candidate, Endpoint, Key, Lane, Price, Route, Snapshot, Target, Tenant
from proxy.settings import Settings

ALL = frozenset(Endpoint)
SHARED_PRICE = Price(input_nano_usd_per_mtok=1_000_000_000, output_nano_usd_per_mtok=2_000_000_000)


def dedicated(name: str, *urls: str, **more: Any) -> Target:
    """A dedicated target that speaks every endpoint, in eu-west-1 with zero retention."""
    fields = {"region": "eu-west-1", "retention": "zero", "native": ALL, "model": "up", **more}
    return Target(name=name, lane=Lane.DEDICATED, urls=urls, **fields)


def shared(name: str, *urls: str, **more: Any) -> Target:
    """A shared target that speaks every endpoint, in us, with a price."""
    fields = {"region": "us", "retention": "30d", "native": ALL, "model": "up", "price": SHARED_PRICE, **more}
    return Target(name=name, lane=Lane.SHARED, urls=urls, **fields)


def snapshot_of(*targets: Target, routes: tuple[Route, ...] = (Route(name="default"),), **tenants: Tenant) -> Snapshot:
    """A policy that serves the model `m` from the targets in order; each tenant's key is `sk-<name>`."""
    named = {name: replace(tenant, name=name) for name, tenant in tenants.items()}
    return Snapshot(
        digest="d" * 64,
        source="test",
        targets={target.name: target for target in targets},
        models={"m": tuple(Candidate(target=target, model=target.model) for target in targets)},
        routes=routes,
        tenants=named,
        keys={
            hashlib.sha256(f"sk-{name}".encode()).digest(): Key(tenant=tenant, tags=tenant.tags)
            for name, tenant in named.items()
        },
    )


@dataclass
class Reply:
    """One HTTP reply, read to its end; `complete` says that its framing ended properly."""

    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[str]:
        return [line[6:] for line in self.body.decode().split("\n") if line.startswith("data: ")]


@dataclass
class Proxy:
    """A running proxy's ports, and the object itself."""

    spillway: Spillway
    port: int
    admin_port: int

    def counted(self, counter: str) -> int:
        """What has been counted so far of one of `COUNTERS`, over all series."""
        return sum(vector[COUNTERS.index(counter)] for vector in self.spillway.ledger.totals().values())

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Reply:
        return await self.send("POST", path, body if isinstance(body, bytes) else json.dumps(body).encode(), headers)

    async def get(self, path: str, headers: Mapping[str, str] | None = None, *, admin: bool = False) -> Reply:
        return await self.send("GET", path, b"", headers, port=self.admin_port if admin else self.port)

    async def send(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str] | None = None, port: int = 0
    ) -> Reply:
        reader, writer = await asyncio.open_connection("127.0.0.1", port or self.port)
        try:
            writer.write(request_bytes(method, path, body, headers or {}))
            return await read_reply(reader)
        finally:
            writer.close()


def request_bytes(method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    fields = {"host": "test", "content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    """Read one reply with whatever framing it has."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (row.partition(":") for row in head[1:])}
    status = int(head[0].split()[1])
    try:
        if headers.get("transfer-encoding") == "chunked":
            body = await _read_chunks(reader)
        else:
            body = await reader.readexactly(int(headers.get("content-length", "0")))
    except asyncio.IncompleteReadError as error:
        return Reply(status, headers, error.partial, complete=False)
    return Reply(status, headers, body, complete=True)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while True:
        try:
            size = int(await reader.readuntil(b"\r\n"), 16)
            body += (await reader.readexactly(size + 2))[:-2]
        except asyncio.IncompleteReadError as error:
            raise asyncio.IncompleteReadError(body + error.partial, None) from None
        if size == 0:
            return body


@contextlib.asynccontextmanager
async def proxy(
    snapshot: Snapshot,
    *,
    limits: ReceivingLimits | None = None,
    store_url: str = "unix:///nonexistent",
    direct: bool = True,
    http: str | None = None,
    leaving: Leaving | None = None,
    **settings: Any,
) -> AsyncIterator[Proxy]:
    """Serve a snapshot on two free ports until the block ends; `http` names a protocol of uvicorn's to use instead."""
    async with contextlib.AsyncExitStack() as stack:
        settings.setdefault("data_dir", Path(stack.enter_context(tempfile.TemporaryDirectory())))
        own = Settings(policy=None, **settings)  # type: ignore[arg-type]
        spillway = await stack.enter_async_context(Spillway(snapshot, own, store_url))
        limits = limits or ReceivingLimits()
        protocol = guarded_protocol(spillway.deadlines, limits, spillway.data if direct else None, leaving)
        plain = guarded_protocol(spillway.deadlines, limits)
        async with listening(spillway.data, http or protocol) as port, listening(spillway.admin, plain) as admin_port:
            yield Proxy(spillway, port, admin_port)


@contextlib.asynccontextmanager
async def listening(app: Any, protocol: Any) -> AsyncIterator[int]:
    """Serve an ASGI application on a free port, which is given."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, http=protocol, lifespan="off", log_config=None, server_header=False, timeout_graceful_shutdown=1
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield

    async def main_loop(self) -> None:
        await self.on_tick(0)
        while not self.should_exit:
            await asyncio.sleep(0.01)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, but for a tenth of a second that it always waits: a thousand tests would wait for it twice."""
        for closing in [*self.servers, *(sockets or [])]:
            closing.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                while self.server_state.connections or self.server_state.tasks:
                    await asyncio.sleep(0.005)
                for server in self.servers:
                    await server.wait_closed()
        except TimeoutError:
            for task in self.server_state.tasks:
                task.cancel()
