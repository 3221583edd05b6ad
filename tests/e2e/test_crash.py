"""`kill -9` in mid-load, and several workers: nothing is left behind, and the meters hold what the upstreams know."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from proxy.simulator.ledger import Entry
from tests.e2e.processes import (
    Served,
    ask,
    engine,
    eventually,
    left_nothing,
    provider,
    running_in,
    serving,
    spawn,
    up,
    write_policy,
)

CLIENTS = 8
TOKENS = 5
LOAD_S = 3.0
ONE_SYNC_S = 1.0
"""0.2 s on an idle machine; a busy one takes longer over each."""


async def load(served: Served, answered: list[int]) -> None:
    """One request after another, until the proxy goes away."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            got = await served.post(ask(TOKENS))
            answered.append(got.status)


async def test_after_kill_9_the_meters_differ_by_what_was_in_flight_and_one_sync(tmp_path: Path) -> None:
    async with engine() as gpu, provider() as api:
        policy = write_policy(tmp_path, gpu=gpu.url, api=api.url)
        answered: list[int] = []
        served = await spawn(policy, "--port", "0", "--admin-port", "0")
        await up(served)
        clients = [asyncio.create_task(load(served, answered)) for _ in range(CLIENTS)]
        await gpu.ledger.until(
            lambda: bool(gpu.ledger.entries) and time.monotonic() - gpu.ledger.entries[0].arrived_s > LOAD_S
        )
        served.process.kill()
        killed_s = time.monotonic()
        await asyncio.gather(*clients)
        await served.ended()
        await left_nothing(tmp_path)
        assert "Traceback" not in served.said
        entries, truth = list(gpu.ledger.entries), gpu.ledger.totals
        async with serving(policy, tag="-again") as again:
            held = (await eventually(again.meters))["gpu"]
            assert await again.stop() == 0
    late = [entry for entry in entries if entry.ended_s is None or entry.ended_s > killed_s - ONE_SYNC_S]
    assert set(answered) == {200}
    assert len(late) < truth.requests
    assert 0 <= truth.requests - held["requests"] <= len(late)
    assert 0 <= truth.output_tokens - held["output_tokens"] <= sum(entry.output_tokens for entry in late)
    assert api.ledger.totals.requests == 0


async def metered(served: Served, requests: int) -> bool:
    held = await served.meters()
    return bool(held) and held["gpu"]["requests"] >= requests


def workers_of(served: Served, folder: Path) -> list[int]:
    return [pid for pid, words in running_in(folder).items() if "spawn_main" in words and pid != served.process.pid]


async def test_workers_share_the_port_the_store_and_what_is_in_flight(tmp_path: Path) -> None:
    async with engine() as gpu, provider(tokens_per_s=10) as api:
        policy = write_policy(tmp_path, gpu=gpu.url, api=api.url)
        async with serving(policy, "--workers", "2") as served:
            got = [await served.post(ask(TOKENS)) for _ in range(40)]
            metrics = await eventually(lambda: by_both(served))
            counted = re.findall(r'spillway_requests_total\{[^}]*outcome="ok"[^}]*worker="(\d)"\} (\S+)', metrics)
            await eventually(lambda: metered(served, 40))
            slow = asyncio.create_task(load_shared(served))
            await eventually(lambda: in_flight_everywhere(served, "api"))
            slow.cancel()
            assert await served.stop() == 0
    assert {one.status for one in got} == {200}
    assert sum(float(value) for _, value in counted) == 40


async def by_both(served: Served) -> str:
    """The merged metrics, once both workers have answered something."""
    await served.post({"model": "nobody"})
    metrics = await served.metrics()
    return (
        metrics
        if all(
            f'spillway_refusals_total{{endpoint="chat",rule="model",status="404",worker="{n}"}}' in metrics
            for n in (0, 1)
        )
        else ""
    )


async def load_shared(served: Served) -> None:
    served.headers["x-spillway-lane"] = "shared"
    await served.post(ask(500, stream=True))


async def in_flight_everywhere(served: Served, target: str) -> bool:
    """Whether both workers know of the one request that only one of them serves."""
    metrics = await served.metrics()
    seen = re.findall(rf'spillway_inflight_requests\{{[^}}]*target="{target}"[^}}]*\}} (\S+)', metrics)
    return seen == ["1.0", "1.0"]


async def test_a_killed_worker_is_replaced_and_the_other_serves_on(tmp_path: Path) -> None:
    async with engine() as gpu:
        policy = write_policy(tmp_path, gpu=gpu.url)
        async with serving(policy, "--workers", "2") as served:
            before = workers_of(served, tmp_path)
            assert len(before) == 2
            os.kill(before[0], signal.SIGKILL)
            await eventually(lambda: replaced(served, tmp_path, before))
            assert {(await served.post(ask(TOKENS))).status for _ in range(10)} == {200}
            assert "a worker ended by itself (-9); starting another" in served.said
            assert await served.stop(signal.SIGINT) == 0
            assert served.said.count("ended by itself") == 1


async def replaced(served: Served, folder: Path, before: list[int]) -> bool:
    now = workers_of(served, folder)
    return len(now) == 2 and before[0] not in now and (await served.request("GET", "/readyz", admin=True)).status == 200


async def test_a_killed_parent_takes_its_workers_and_the_store_along(tmp_path: Path) -> None:
    async with engine() as gpu:
        policy = write_policy(tmp_path, gpu=gpu.url)
        async with serving(policy, "--workers", "2") as served:
            assert len(running_in(tmp_path)) >= 4
            served.process.kill()
            await served.ended()
            await left_nothing(tmp_path)


async def test_ctrl_c_in_a_terminal_ends_workers_in_order(tmp_path: Path) -> None:
    """The signal goes to the whole foreground group."""
    async with engine() as gpu:
        policy = write_policy(tmp_path, gpu=gpu.url)
        async with serving(policy, "--workers", "2") as served:
            assert (await served.post(ask(TOKENS))).status == 200
            os.killpg(served.process.pid, signal.SIGINT)
            assert await served.ended() == 0
            assert "ended by itself" not in served.said
        async with serving(policy, tag="-again") as again:
            held = (await eventually(again.meters))["gpu"]
            assert held["requests"] == 1
            assert await again.stop() == 0


def lasted_s(entries: Sequence[Entry]) -> float:
    """How long there have been requests."""
    return time.monotonic() - entries[0].arrived_s if entries else 0.0
