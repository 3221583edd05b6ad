"""A slow engine is hedged: a provider answers in its place, the engine is let go at once, and both are on the books."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.e2e.processes import ask, engine, eventually, provider, serving, write_policy

ROUTES = "routes: [{name: default, hedge: {after: p95, budget: 100%}}]\n"
SLOWED = 0.02
"""The engine's speed: its first token takes a second instead of the 17 ms that its profile says."""
REQUESTS = 10
LIMIT_S = 0.25


async def test_a_slow_engine_loses_to_a_provider_and_is_let_go_at_once(tmp_path: Path) -> None:
    async with engine(speed=SLOWED) as gpu, provider() as api:
        async with serving(write_policy(tmp_path, gpu=gpu.url, api=api.url, more=ROUTES)) as served:
            for _ in range(REQUESTS):
                got = await served.post(ask(stream=True))
                assert got.headers["x-spillway-target"] == "api"
                assert got.headers["x-spillway-reason"].startswith("hedged: no token from gpu in ")
                assert got.headers["x-spillway-attempts"] == "2"
                assert got.events[-1] == "[DONE]"
            await gpu.ledger.until(lambda: gpu.ledger.totals.left == REQUESTS)
            both = [
                (slow.left_s, quick.first_token_s)
                for slow, quick in zip(gpu.ledger.entries, api.ledger.entries, strict=True)
            ]
            late = [left_s - first_s for left_s, first_s in both if left_s is not None and first_s is not None]
            metrics = await served.metrics()

            async def settled() -> bool:
                meters = await served.meters()
                return [meters.get(name, {}).get("attempts") for name in ("gpu", "api")] == [REQUESTS, REQUESTS]

            await eventually(settled)
            meters = await served.meters()
            await served.stop()  # its last lines are written by then
    sys.stdout.write(f"the engine was let go at most {max(late) * 1000:.1f} ms after the provider's first token\n")
    assert len(late) == REQUESTS
    assert max(late) <= LIMIT_S
    assert f'spillway_hedges_total{{from="gpu",result="won",to="api"}} {REQUESTS}.0' in metrics
    assert all(meters[name]["input_tokens"] > 0 for name in ("gpu", "api"))
    for kind in ("input_tokens", "output_tokens"):
        assert meters["api"][kind] == getattr(api.ledger.totals, kind) > 0
    assert meters["api"]["nano_usd"] > 0
    lines = [json.loads(line) for line in served.said.splitlines() if line.startswith('{"event":"request"')]
    told = [[(one["target"], one["cause"], one["failure"]) for one in line["attempts"]] for line in lines]
    assert told == [[("gpu", "preferred", "outrun"), ("api", "hedge", None)]] * REQUESTS
