"""One rate over four processes, on real ones: while the store answers, while it does not, and after it has crashed."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.processes import Served, ask, eventually, running_in, serving
from tests.harness import Reply
from tests.scripted import CHAT_REPLY, reply, scripted

RPM = 120
CLIENTS = 24
PAUSE_S = 0.3
PHASE_S = 3.0


@dataclass(frozen=True)
class Passed:
    """A request that was let through at some time between these two."""

    sent_at: float
    answered_at: float


async def offer(served: Served, until: float, passed: list[Passed], refused: list[Reply]) -> None:
    """One client: asks, waits a little, asks again, each time on a new connection and so of any process."""
    while (sent_at := time.monotonic()) < until:
        got = await served.post(ask())
        if got.status == 200:
            passed.append(Passed(sent_at, time.monotonic()))
        else:
            refused.append(got)
        await asyncio.sleep(PAUSE_S)


def most_beyond(passed: list[Passed]) -> float:
    """The worst of all spans: how many passed for certain within one, less what the limit allows in it."""
    worst = float("-inf")
    by_end = sorted(passed, key=lambda one: one.answered_at)
    for first in {one.sent_at for one in passed}:
        count = 0
        for one in by_end:
            if one.sent_at >= first:
                count += 1
                worst = max(worst, count - RPM * (1.0 + (one.answered_at - first) / 60.0))
    return worst


async def test_no_span_of_time_sees_more_than_the_limit_with_the_store_or_without(tmp_path: Path) -> None:
    async with scripted([reply(CHAT_REPLY)]) as upstream:
        policy = tmp_path / "policy.yaml"
        text = f"version: 1\ntargets:\n  t: {{lane: shared, url: '{upstream.url}', model: up}}\nmodels: {{m: [t]}}\n"
        policy.write_text(f"{text}routes:\n  - {{name: r, require: {{rpm: {RPM}}}}}\n")
        async with serving(policy, "--workers", "4") as served:
            begun = time.monotonic()
            passed: list[Passed] = []
            refused: list[Reply] = []
            clients = [offer(served, begun + 4 * PHASE_S, passed, refused) for _ in range(CLIENTS)]
            load = asyncio.gather(*clients)
            store = await eventually(lambda: store_of(tmp_path))
            await asyncio.sleep(PHASE_S)
            os.kill(store, signal.SIGSTOP)
            await asyncio.sleep(PHASE_S)
            os.kill(store, signal.SIGCONT)
            await asyncio.sleep(PHASE_S)
            os.kill(store, signal.SIGKILL)
            await load
            lasted_s = time.monotonic() - begun
            assert most_beyond(passed) <= 0.0
            assert len(passed) >= 0.9 * RPM
            assert len(passed) >= RPM + 0.3 * RPM * lasted_s / 60.0 - 12
    assert {one.status for one in refused} == {429}
    for one in refused:
        assert one.json["error"]["code"] == "rate_limit_exceeded"
        assert one.headers["x-ratelimit-limit-requests"] == str(RPM)
        assert one.headers["x-ratelimit-remaining-requests"] == "0"
        assert float(one.headers["retry-after-ms"]) > 0


async def store_of(folder: Path) -> int | None:
    """The process id of the store's server."""
    found = [pid for pid, words in running_in(folder).items() if "-server" in words.split()[0]]
    return found[0] if found else None


async def test_replies_tell_what_is_left(tmp_path: Path) -> None:
    async with scripted([reply(CHAT_REPLY)]) as upstream:
        policy = tmp_path / "policy.yaml"
        text = f"version: 1\ntargets:\n  t: {{lane: shared, url: '{upstream.url}', model: up}}\nmodels: {{m: [t]}}\n"
        policy.write_text(f"{text}routes:\n  - {{name: r, require: {{rpm: 3, tpm: 10k}}}}\n")
        async with serving(policy) as served:
            left = []
            for _ in range(3):
                got = await served.post(ask())
                assert got.status == 200
                assert got.headers["x-ratelimit-limit-requests"] == "3"
                assert got.headers["x-ratelimit-limit-tokens"] == "10000"
                assert got.headers["x-ratelimit-reset-requests"].endswith("s")
                left.append(int(got.headers["x-ratelimit-remaining-requests"]))
            assert left == [2, 1, 0]
            last = await served.post(ask())
            assert (last.status, last.headers["x-ratelimit-remaining-requests"]) == (429, "0")
            assert int(last.headers["x-ratelimit-remaining-tokens"]) > 9000
            assert int(last.headers["retry-after"]) >= 20
