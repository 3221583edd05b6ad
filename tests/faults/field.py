"""The field of a fault test: real proxies around a real store, an upstream that knows the truth, a crowd of clients.

Each proxy reaches the store by a link of its own, which can be cut without either end being told.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from proxy.meters.escrow import REFRESH_S
from proxy.meters.fields import COUNTERS
from proxy.meters.store import Store

from tests.e2e.processes import Served, serving, spawn, up

ROOT = Path(__file__).resolve().parents[2]
INPUT_USD, OUTPUT_USD = 5, 60
"""Per million tokens."""
NANO = 1_000_000_000


class Link:
    """A TCP line to the store. Cut, it swallows everything and says nothing; connections wait for an answer in vain."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        assert self._server is not None
        self._open.set()
        self._server.close()
        for writer in self._writers:
            writer.close()

    def cut(self) -> None:
        self._open.clear()

    def heal(self) -> None:
        """What was under way is lost; what comes next gets through."""
        for writer in self._writers:
            writer.transport.abort()
        self._open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            store_reader, store_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, store_writer}
        ways = self._copy(reader, store_writer), self._copy(store_reader, writer)
        await asyncio.gather(*ways, return_exceptions=True)
        self._writers -= {writer, store_writer}

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            while data := await reader.read(1 << 16):
                await self._open.wait()
                writer.write(data)
                await writer.drain()


@dataclass(kw_only=True)
class Asked:
    """One request, as its client saw it."""

    name: str
    begun_at: float
    ended_at: float
    first_at: float
    planned: int
    manner: str
    got: int
    status: int
    end: str


@dataclass(kw_only=True)
class Field:
    """What takes part."""

    upstream_port: int
    store_port: int = 0
    proxies: list[Served] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)

    async def crowd(self, clients: int, seconds: float, seed: int, longest: int, manners: str) -> list[Asked]:
        """Let so many clients ask for so long, and wait for the last answer."""
        ports = [str(proxy.port) for proxy in self.proxies]
        words = [str(clients), str(seconds), str(seed), str(longest), manners, *ports]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.faults.crowd", *words, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        return [Asked(**dict(zip(Asked.__annotations__, orjson.loads(line), strict=True))) for line in out.splitlines()]

    async def truth(self) -> dict[str, list[int]]:
        """Once nothing is generated any more: by request id, input and output tokens, nano-USD, whether reported."""
        while True:
            told = orjson.loads(await _get(self.upstream_port, "/truth"))
            if not told["running"]:
                requests: dict[str, list[int]] = told["requests"]
                return requests
            await asyncio.sleep(0.05)

    async def leased(self) -> None:
        """Wait until every proxy has money in hand."""
        for proxy in self.proxies:
            while not await self.metric(proxy, "budget_held_usd"):
                await asyncio.sleep(0.05)

    async def agreed_on(self) -> int:
        """What has been spent of the budget, in nano-USD, once all proxies say the same, and say it again."""
        before: set[int] = set()
        async with asyncio.timeout(6 * REFRESH_S):
            while True:
                spent = {(await self.budget(proxy))["spent_nano_usd"] for proxy in self.proxies}
                if len(spent) == 1 and spent == before:
                    return spent.pop()
                before = spent
                await asyncio.sleep(REFRESH_S / 5)

    async def metric(self, proxy: Served, name: str) -> float:
        """The sum of a metric's samples in one proxy."""
        lines = (await proxy.metrics()).splitlines()
        found = [line for line in lines if line.startswith((f"spillway_{name}{{", f"spillway_{name} "))]
        return sum(float(line.rpartition(" ")[2]) for line in found)

    async def budget(self, proxy: Served) -> dict[str, Any]:
        """The standing of the only budget."""
        got = await proxy.request("GET", "/admin/meters", admin=True)
        (standing,) = got.json["budgets"]
        return standing  # type: ignore[no-any-return]

    async def counted(self) -> dict[str, int]:
        """What the store has of everybody: the counters by name, over all series."""
        store = Store(f"redis://127.0.0.1:{self.store_port}")
        totals = await store.read_totals()
        await store.aclose()
        return dict(zip(COUNTERS, map(sum, zip(*totals.counters.values(), strict=True)), strict=True))


POLICY = """version: 1
targets:
  api: {{lane: shared, provider: openai, url: 'http://127.0.0.1:{port}/v1', model: m, region: us, price: {price}}}
models:
  m: [api]
budgets:
  - {{name: cap, limit: {limit}, enforce: {enforce}}}
"""


@contextlib.asynccontextmanager
async def upstream(tokens_per_s: float) -> AsyncIterator[int]:
    """The port of an upstream of that pace."""
    words = ["0", str(tokens_per_s), str(INPUT_USD * 1_000_000), str(OUTPUT_USD * 1_000_000)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.upstream", *words, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def laid_out(
    folder: Path,
    urls: Sequence[str],
    *,
    limit: str,
    enforce: str = "hard",
    tokens_per_s: float = 40,
    store_port: int | None = None,
    skews_s: Sequence[int] = (0, 0, 0, 0),
) -> AsyncIterator[Field]:
    """A proxy for each URL of the store; with `store_port`, each by a link of its own instead. `skews_s` is by how much
    the clock on the wall of each is wrong.
    """
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(upstream(tokens_per_s))
        price = f"{{input: {INPUT_USD}, output: {OUTPUT_USD}}}"
        text = POLICY.format(port=port, price=price, limit=limit, enforce=enforce)
        laid = Field(upstream_port=port)
        if store_port is not None:
            laid.store_port = store_port
            urls = []
            for _ in range(4):
                link = Link(store_port)
                await link.start()
                stack.push_async_callback(link.close)
                laid.links.append(link)
                urls.append(f"redis://127.0.0.1:{link.port}")
        for number, url in enumerate(urls):
            policy = folder / f"proxy-{number}" / "policy.yaml"
            policy.parent.mkdir()
            policy.write_text(text)
            env = _skewed(policy.parent, skews_s[number])
            laid.proxies.append(await stack.enter_async_context(serving(policy, "--redis-url", url, env=env)))
        try:
            yield laid
        finally:
            for proxy in laid.proxies:
                if proxy.process.returncode is None:
                    await proxy.stop()


def _skewed(folder: Path, skew_s: int) -> dict[str, str]:
    """An environment in which Python's clock on the wall is wrong."""
    if not skew_s:
        return {}
    patch = f"import time\n_right = time.time\ntime.time = lambda: _right() + {skew_s}\n"
    (folder / "sitecustomize.py").write_text(patch)
    return {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}


async def started_again(laid: Field, index: int, url: str) -> Served:
    """The proxy that was killed, at its old port."""
    old = laid.proxies[index]
    words = ("--port", str(old.port), "--admin-port", str(old.admin_port), "--redis-url", url)
    served = await spawn(old.folder.parent / "policy.yaml", *words)
    await up(served)
    laid.proxies[index] = served
    return served


async def _get(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    body = await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
    writer.close()
    return body
