"""The metrics of a proxy to which everything happens: `promtool` finds nothing to say, and none of them is missing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from proxy.meters import sync
from proxy.meters.embedded import EmbeddedStore
from proxy.policy.compile import compile_policy
from proxy.policy.model import Snapshot
from proxy.simulator.engine import EngineSimulator
from proxy.simulator.profile import PROFILES
from tests.harness import Proxy, proxy, request_bytes
from tests.readme import names, table
from tests.scripted import CHAT_REPLY, CLOSE, HOLD, chat_stream, reply, scripted

PROMTOOL = shutil.which("promtool")
CHAT = "/v1/chat/completions"
NOWHERE = "http://127.0.0.1:1/v1"
POLICY = """
version: 1
targets:
  gpu: {{lane: dedicated, engine: vllm, url: '{gpu}', model: up, region: eu-west-1, max_in_flight: 1,
        gpus: {{type: H100, count: 2, usd_per_hour: 2.5}}}}
  asleep: {{lane: dedicated, engine: vllm, url: '{nowhere}', model: up, region: eu-west-1,
           wake: {{url: '{nowhere}'}}}}
  found: {{lane: dedicated, engine: vllm, dns: 'localhost:1', model: up}}
  lone: {{lane: dedicated, engine: vllm, url: '{lone}', model: up, region: eu-west-1, max_in_flight: 1}}
  stuck: {{lane: dedicated, url: '{stuck}', model: up, region: eu-west-1}}
  api: {{lane: shared, provider: openai, url: '{api}', model: up, api_key: '${{KEY}}', region: us,
        price: {{input: 1, output: 2}}}}
  unpriced: {{lane: shared, provider: openai, url: '{terse}', model: up, api_key: '${{KEY}}'}}
models:
  m: [gpu, api]
  own: [lone]
  found: [found, api]
  sleepy: [asleep, api]
  slow: [stuck, api]
  hedged: [stuck, api]
  unpriced: [unpriced]
routes:
  - {{name: patient, match: {{model: own}}, wait: 50ms}}
  - {{name: hedged, match: {{model: hedged}}, hedge: {{after: p50, budget: 100%}}}}
  - {{name: trial, match: {{model: unpriced}}, require: {{region: {{is: eu-*, mode: shadow}}}}}}
  - {{name: eu, match: {{model: sleepy, tags: [gdpr]}}, require: {{region: eu-*}}}}
  - {{name: default, want: {{ttft_p99: 10s}}}}
budgets:
  - {{name: spill, match: {{target: api}}, limit: $5/day}}
  - {{name: tiny, match: {{target: api}}, limit: $0.0001/day, mode: shadow}}
"""
TAKES_ITS_TIME = {
    "spillway_engine_preemptions_total": "an engine whose memory is full",
    "spillway_route_uptime": "twenty requests on one target",
    "spillway_spans_dropped_total": "a collector of traces",
}
"""What has no sample in this scene, and what it would take; tests/prometheus/town.py has it all."""


async def scrape(spillway: Proxy) -> str:
    return (await spillway.get("/metrics", admin=True)).body.decode()


async def until(spillway: Proxy, told: Callable[[str], bool]) -> str:
    """The first exposition of which that is true."""
    async with asyncio.timeout(30):
        while not told(text := await scrape(spillway)):
            await asyncio.sleep(0.02)
        return text


@contextlib.asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Proxy]:
    """A proxy, a store, and upstreams of each kind."""
    terse = {**CHAT_REPLY, "usage": None}
    path = folder / "policy.yaml"
    async with (
        EngineSimulator(PROFILES["8b-fp8-1xh100"], model="up") as gpu,
        EngineSimulator(PROFILES["8b-fp8-1xh100"], model="up") as lone,
        scripted([HOLD]) as stuck,
        scripted([chat_stream(*"many"), CLOSE]) as api,
        scripted([reply(terse)]) as unpriced,
    ):
        urls = {"gpu": gpu.url, "lone": lone.url, "stuck": stuck.url, "api": api.url, "terse": unpriced.url}
        path.write_text(POLICY.format(**urls, nowhere=NOWHERE))
        snapshot: Snapshot = compile_policy(path, env={"KEY": "sk-upstream"}, price_of=lambda *_: None)
        with EmbeddedStore(folder / "store") as store:
            async with proxy(snapshot, store_url=store.url) as spillway:
                yield spillway


async def everything_happens(spillway: Proxy) -> None:
    async def ask(model: str, **headers: str) -> int:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, "stream": True}
        fields = {name.replace("_", "-"): text for name, text in headers.items()}
        return (await spillway.post(CHAT, body, fields)).status

    for model in ("m", "sleepy", "sleepy", "hedged", "unpriced", "found"):
        assert await ask(model) == 200, model
    assert await ask("nobody") == 404
    await ask("sleepy", x_spillway_tags="gdpr")
    both = await asyncio.gather(*(ask("own") for _ in range(4)), *(ask("m") for _ in range(4)))
    assert 200 in both
    _, writer = await spillway.connect()
    stuck = json.dumps({"model": "slow", "messages": [], "stream": True}).encode()
    writer.write(request_bytes("POST", CHAT, stuck))
    await until(spillway, lambda text: 'spillway_inflight_requests{replica="0",target="stuck"} 1.0' in text)
    writer.close()


def samples(text: str) -> dict[str, int]:
    """How many there are of each family, by the name that Prometheus has for it."""
    found: dict[str, int] = {}
    for family in text_string_to_metric_families(text):
        name = family.name + ("_total" if family.type == "counter" else "")
        assert name not in found, f"{name} is there twice"
        assert family.documentation, f"{name} does not say what it is"
        found[name] = len(family.samples)
    return found


def promtool_says(text: str) -> tuple[int, str]:
    """Its exit status, and what it found; nothing where it is not installed."""
    if PROMTOOL is None:
        return 0, ""
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=text, text=True, capture_output=True, check=False)
    return done.returncode, done.stdout + done.stderr


async def test_nothing_is_missing_and_promtool_has_nothing_to_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "SAMPLE_EVERY_S", 0.05)
    async with scene(tmp_path) as spillway:
        # What an engine tells of its latencies is the difference between two looks at it.
        await until(spillway, lambda text: 'spillway_engine_metrics_age_seconds{replica="0",target="gpu"}' in text)
        await everything_happens(spillway)
        listed = {name for row in table("table: metrics") for name in names(row[0])}
        silent = TAKES_ITS_TIME.keys()
        try:
            text = await until(spillway, lambda text: not listed - silent - {n for n, c in samples(text).items() if c})
        except TimeoutError:
            text = await scrape(spillway)
    found = samples(text)
    assert found.keys() - listed == set()
    assert {name for name in listed - silent if not found.get(name)} == set()
    assert await asyncio.to_thread(promtool_says, text) == (0, "")
