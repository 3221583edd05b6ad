"""Whatever callers send: no series is made of it, and no memory is kept of it past what is bounded.

A real process, tens of thousands of requests. The first of them have every label that there is counted, and fill what
is kept of callers up to its bounds: the prompts and the sessions known to a replica, and the heap's own slack.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from proxy.signals.sessions import MOST_SESSIONS
from tests.e2e.processes import Served, serving
from tests.fuzz.hostile import Hostile, send
from tests.scripted import CHAT_REPLY, reply
from tests.thorough import THOROUGH

KEY = "sk-hostile-5c1a"
POLICY = """
version: 1
targets:
  gpu:
    lane: dedicated
    engine: vllm
    url: {url}
    model: up
    region: eu-west-1
    retention: zero
    gpus: {{type: H100, count: 1, usd_per_hour: 2.5}}
  api:
    lane: shared
    provider: openai
    url: {url}
    model: up
    api_key: ${{PROVIDER_KEY}}
    region: us
    price: {{input: 1, output: 2}}
models:
  m: [gpu, api]
tenants:
  caller: {{keys: ["sha256:{digest}"], request_tags: [gdpr, nightly], rpm: 100000000}}
budgets:
  - {{name: cap, limit: $1000000/day}}
routes:
  - {{name: eu, match: {{tags: [gdpr]}}, require: {{region: eu-*}}}}
  - {{name: default, want: {{ttft_p99: 2s}}}}
"""
WARM_UP, ROUNDS, A_ROUND = (12_000, 10, 5_000) if THOROUGH else (6_000, 5, 3_000)
MIB = 1 << 20
GROWTH_MIB = 1.5
"""What the heap of CPython may come and go by: less than a hundred bytes for each request."""


class Answering(asyncio.Protocol):
    """An upstream that answers whatever comes, at once: it is not what is measured."""

    answer = reply(CHAT_REPLY)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self._seen = transport, b""

    def data_received(self, data: bytes) -> None:
        self._seen += data
        head, found, rest = self._seen.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        if found and len(rest) >= (int(length[1]) if length else 0):
            self._seen = b""
            self._transport.write(self.answer)  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def upstream() -> AsyncIterator[str]:
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


async def series(served: Served) -> set[str]:
    """Name and labels of each, without their values."""
    return {line.rpartition(" ")[0] for line in (await served.metrics()).splitlines() if not line.startswith("#")}


def resident_bytes(served: Served) -> int:
    (kib,) = re.findall(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{served.process.pid}/status").read_text(), re.MULTILINE)
    return int(kib) * 1024


async def test_series_and_memory_stay_as_they_are(tmp_path: Path) -> None:
    async with upstream() as url:
        policy = tmp_path / "policy.yaml"
        policy.write_text(POLICY.format(url=url, digest=hashlib.sha256(KEY.encode()).hexdigest()))
        async with serving(policy, "--drain", "1s") as served:
            asks = Hostile(6, key=KEY, model="m").requests()
            await send(served.port, Hostile(7, key=KEY, model="m").visits(), MOST_SESSIONS)
            await send(served.port, asks, WARM_UP)
            known, sizes = await series(served), []
            for _ in range(ROUNDS):
                assert await send(served.port, asks, A_ROUND) > A_ROUND * 0.9 * 14 / 15
                sizes.append(resident_bytes(served) / MIB)
            after = await series(served)
    told = ", ".join(f"{size:.1f}" for size in sizes)
    sys.stdout.write(f"{len(known)} series; MiB after each {A_ROUND} requests: {told}\n")
    for touched in ('outcome="ok"', 'outcome="refused"', 'rule="auth"', 'rule="model"'):
        assert any(touched in one for one in known), touched
    assert after == known
    assert KEY not in "".join(after)
    assert max(sizes) - sizes[0] <= GROWTH_MIB
