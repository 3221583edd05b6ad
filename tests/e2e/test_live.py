"""The live view of real processes: a spill is seen as it happens, behind a token, from `spillway top` as well."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.e2e.processes import ROOT, Served, ask, engine, provider, serving, write_policy
from tests.harness import request_bytes

TOKEN = "canary-admin-token-0f3b"
SPILL_S = 2.0
EVENTS = {"accept": "text/event-stream"}
BEARER = {"authorization": f"Bearer {TOKEN}"}
ROUTES = "routes:\n  - {name: default, want: {ttft_p99: 2s}}\n"


class Listener:
    """The live view of a proxy, event by event."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    async def next(self) -> Any:
        """The next view; None at the end of the stream."""
        while line := await self._reader.readline():
            if line.startswith(b"data: "):
                return json.loads(line[6:])
        return None

    async def until(self, holds: Any, within_s: float) -> Any:
        """The first view of which `holds` is true."""
        async with asyncio.timeout(within_s):
            while not holds(view := await self.next()):
                pass
        return view


@contextlib.asynccontextmanager
async def listening(served: Served) -> AsyncIterator[Listener]:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.admin_port, limit=1 << 22)
    try:
        writer.write(request_bytes("GET", "/admin/live", headers={**EVENTS, **served.headers}))
        yield Listener(reader)
    finally:
        writer.close()


async def top(served: Served, *options: str, token: str = TOKEN) -> tuple[int, str, str]:
    """What `spillway top` ends with, prints and complains about."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "top", "--admin-url", f"http://127.0.0.1:{served.admin_port}", *options),
        env={"PYTHONPATH": str(ROOT), "SPILLWAY_ADMIN_TOKEN": token},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_a_spill_is_seen_as_it_happens(tmp_path: Path) -> None:
    async with engine(speed=1.0, natural_tokens=1000) as gpu, provider() as api:
        policy = write_policy(tmp_path, gpu=gpu.url, api=api.url, more=ROUTES)
        policy.write_text(policy.read_text().replace("retention: zero}", "retention: zero, max_in_flight: 1}"))
        async with serving(policy, env={"SPILLWAY_ADMIN_TOKEN": TOKEN}) as served:
            served.headers = BEARER
            async with listening(served) as live:
                assert (await live.next())["decisions"] == []
                held = asyncio.create_task(served.post(ask(400)))
                await live.until(lambda view: view["targets"][0]["in_flight"] == 1, 10)
                assert (await served.post(ask(5))).headers["x-spillway-target"] == "api"
                ended_at = time.monotonic()
                view = await live.until(lambda view: view["decisions"], 10)
                took_s = time.monotonic() - ended_at
            (decision,) = view["decisions"]
            (route,) = view["routes"]
            assert took_s < SPILL_S
            assert (decision["lane"], decision["cause"], decision["outcome"]) == ("shared", "spillover", "ok")
            assert decision["excluded"][0]["rule"] == "capacity"
            assert decision["nano_usd"] > 0
            assert route["spilled_by_here"] == {"capacity": 1}
            assert view["targets"][0]["saturation"] >= 1.0
            status, out, err = await top(served, "--once")
            assert (status, err) == (0, "")
            for words in ("gpu", "api", "capacity 1", "1 of 1 in flight", "100%"):
                assert words in out
            held.cancel()
            assert await served.stop(2) == 0
        assert TOKEN not in served.said


async def test_the_token_is_asked_of_everybody_and_told_to_nobody(tmp_path: Path) -> None:
    async with engine() as gpu:
        policy = write_policy(tmp_path, gpu=gpu.url)
        async with serving(policy, env={"SPILLWAY_ADMIN_TOKEN": TOKEN + "\n"}) as served:
            for path, status in (("/admin/live", 401), ("/admin/policy", 401), ("/metrics", 200), ("/readyz", 200)):
                assert (await served.request("GET", path, admin=True)).status == status
            refused = await top(served, "--once", token="wrong")
            assert (refused[0], refused[1]) == (1, "")
            assert "answers 401: the admin token is missing or wrong" in refused[2]
            status, out, _ = await top(served, "--once", "--json")
            assert (status, json.loads(out)["health"]["status"]) == (0, "ready")
            served.headers = BEARER
            assert (await served.post(ask())).status == 200
            assert TOKEN not in await served.metrics()
            assert await served.stop() == 0
        assert TOKEN not in served.said + refused[2]


async def test_several_workers_have_a_view_too_and_streams_end_with_the_proxy(tmp_path: Path) -> None:
    async with engine() as gpu:
        policy = write_policy(tmp_path, gpu=gpu.url)
        async with serving(policy, "--workers", "2", env={"SPILLWAY_ADMIN_TOKEN": TOKEN}) as served:
            assert (await served.request("GET", "/admin/live", admin=True)).status == 401
            served.headers = BEARER
            assert (await served.request("GET", "/admin/live", admin=True)).json["worker"] == 0
            async with listening(served) as live:
                assert (await live.next())["worker"] == 0
                assert await served.stop() == 0
                async with asyncio.timeout(5):
                    while await live.next() is not None:
                        pass


async def test_a_stream_shows_draining_and_does_not_hold_up_the_end(tmp_path: Path) -> None:
    async with engine(speed=1.0, natural_tokens=1000) as gpu:
        policy = write_policy(tmp_path, gpu=gpu.url)
        async with serving(policy) as served, listening(served) as live:
            await live.next()
            held = asyncio.create_task(served.post(ask(150)))
            await live.until(lambda view: view["targets"][0]["in_flight"] == 1, 10)
            served.process.terminate()
            await live.until(lambda view: view["health"]["status"] == "draining", 5)
            assert (await held).status == 200
            answered_at = time.monotonic()
            async with asyncio.timeout(10):
                while await live.next() is not None:
                    pass
            assert await served.ended() == 0
            assert time.monotonic() - answered_at < 5.0
