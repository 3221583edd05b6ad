"""A small town of everything that the dashboards show: two proxies on one store, simulated upstreams that are well,
slow, starved, dead or unpriced, callers of each, and a real Prometheus that scrapes both proxies every second.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import yaml
from proxy.meters.embedded import EmbeddedStore
from proxy.simulator.engine import EngineSimulator
from proxy.simulator.profile import PROFILES
from tests.e2e.processes import MODEL, provider, serving

ALERTS = Path(__file__).parents[2] / "helm" / "alerts" / "spillway.yaml"
PROMETHEUS = shutil.which("prometheus")
GPUS_PAID_FOR = 2 * 2 + 1 + 1 + 1
"""Of the policy below: `gpu` has two replicas of two GPUs; `slow`, `starved` and `found` one of one."""
USD_PER_GPU_HOUR = 2.99
_FAST = PROFILES["8b-fp8-1xh100"]
_STARVED = replace(_FAST, kv_tokens=1500, max_seqs=16)
_PROMPT = "nobody wrote this and nobody reads it " * 40
_QUANTILES = ("p50", "p90", "p95", "p99")
_WANTED = {f"{measure}_{q}": "10s" for measure in ("ttft", "itl", "e2e") for q in _QUANTILES}

POLICY = """\
version: 1
targets:
  gpu: {{lane: dedicated, engine: vllm, urls: ['{gpu_0}', '{gpu_1}'], model: {model}, region: eu-west-1,
        gpus: {{type: H100, count: 2, usd_per_hour: 2.99}}, max_in_flight: {room}}}
  slow: {{lane: dedicated, engine: vllm, url: '{slow}', model: {model},
        gpus: {{type: H100, count: 1, usd_per_hour: 2.99}}}}
  starved: {{lane: dedicated, engine: vllm, url: '{starved}', model: {model},
        gpus: {{type: H100, count: 1, usd_per_hour: 2.99}}}}
  found: {{lane: dedicated, engine: vllm, dns: 'localhost:{found_port}', model: {model},
        gpus: {{type: H100, count: 1, usd_per_hour: 2.99}}}}
  asleep: {{lane: dedicated, engine: vllm, url: '{nobody}', model: {model}, region: eu-west-1,
        wake: {{url: '{nobody}'}}}}
  api: {{lane: shared, provider: openai, url: '{api}', model: {model}, api_key: '${{PROVIDER_KEY}}', region: us,
        price: {{input: 0.7, output: 0.7}}}}
  unpriced: {{lane: shared, provider: openai, url: '{api}', model: {model}, api_key: '${{PROVIDER_KEY}}', region: us}}
  dead: {{lane: shared, provider: openai, url: '{nobody}', model: {model}, api_key: '${{PROVIDER_KEY}}', region: us,
        price: {{input: 0.7, output: 0.7}}}}
models:
  chat: [gpu, api]
  hedged: [slow, api]
  starved: [starved, api]
  found: [found, api]
  sleepy: [asleep, api]
  fails-over: [dead, api]
  fails: [dead]
  unpriced: [unpriced]
  patient: [gpu]
  european: [asleep, api]
routes:
  - {{name: european, match: {{model: european}}, require: {{region: eu-*}}}}
  - {{name: hedged, match: {{model: hedged}}, hedge: {{after: p95, budget: 100%}}}}
  - {{name: patient, match: {{model: patient}}, wait: 10s}}
  - {{name: trial, match: {{model: unpriced}}, require: {{region: {{is: eu-*, mode: shadow}}}}}}
  - {{name: failing, match: {{models: [fails, fails-over]}}, want: {{ttft_p99: 1s, itl_p95: 100ms}}, prefer: shared}}
  - {{name: default, want: {wanted}}}
budgets:
  - {{name: spill, match: {{target: api}}, limit: $5/day}}
  - {{name: tiny, match: {{target: api}}, limit: $0.01/day, mode: shadow}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Town:
    """What may be asked of it, and its policy, of which `said` are the parts that change."""

    client: httpx.AsyncClient
    prometheus: str
    policies: tuple[Path, ...]
    said: dict[str, str]

    async def now(self, expr: str) -> list[dict[str, Any]]:
        """The result of an instant query. Raises AssertionError with Prometheus's words when it is refused."""
        return await self._asked("query", query=expr)

    async def lately(self, expr: str, seconds: float = 60.0) -> list[dict[str, Any]]:
        """The result of a query over the last seconds, with a value for each."""
        end = float((await self.now("time()"))[1])
        return await self._asked("query_range", query=expr, start=end - seconds, end=end, step=1)

    async def _asked(self, path: str, **parameters: Any) -> list[Any]:
        answer = (await self.client.get(f"{self.prometheus}/api/v1/{path}", params=parameters)).json()
        assert answer["status"] == "success", (parameters, answer)
        return answer["data"]["result"]

    async def series(self, name: str) -> list[dict[str, str]]:
        """The labels of every series of a metric."""
        found = await self.client.get(f"{self.prometheus}/api/v1/series", params={"match[]": name})
        labels: list[dict[str, str]] = found.json()["data"]
        return labels

    async def rules(self) -> list[dict[str, Any]]:
        """Every rule as Prometheus stands with it."""
        groups = (await self.client.get(f"{self.prometheus}/api/v1/rules")).json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def change_the_policy(self) -> None:
        """Another text, which every proxy adopts."""
        for policy in self.policies:
            policy.write_text(POLICY.format(**(self.said | {"room": "5"})))


@asynccontextmanager
async def town(folder: Path) -> AsyncIterator[Town]:
    """Everything, started and loaded; stopped in reverse."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        gpus = [await enter(EngineSimulator(_FAST, model=MODEL)) for _ in range(2)]
        slow = await enter(EngineSimulator(_FAST, model=MODEL, speed=0.01))
        starved = await enter(EngineSimulator(_STARVED, model=MODEL))
        found = await enter(EngineSimulator(_FAST, model=MODEL))
        api = await enter(provider(tokens_per_s=100))
        changes = {
            "gpu_0": gpus[0].url,
            "gpu_1": gpus[1].url,
            "slow": slow.url,
            "starved": starved.url,
            "found_port": str(found.port),
            "api": api.url,
            "nobody": f"http://127.0.0.1:{stack.enter_context(_nobody())}/v1",
            "model": MODEL,
            "room": "4",
            "wanted": json.dumps(_WANTED),
        }
        store = {"SPILLWAY_REDIS_URL": stack.enter_context(EmbeddedStore(folder / "store")).url}
        policies = tuple(folder / name / "policy.yaml" for name in ("a", "b"))
        for policy in policies:
            policy.parent.mkdir()
            policy.write_text(POLICY.format(**changes))
        proxies = [await enter(serving(policy, env=store)) for policy in policies]
        client = await enter(httpx.AsyncClient(timeout=30.0, limits=httpx.Limits(max_connections=None)))
        url = await enter(_prometheus(folder, [one.admin_port for one in proxies], client))
        await enter(_callers(client, [one.port for one in proxies]))
        yield Town(client=client, prometheus=url, policies=policies, said=changes)


@contextlib.contextmanager
def _nobody() -> Any:
    """A port that nobody else takes and where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@asynccontextmanager
async def _prometheus(folder: Path, ports: list[int], client: httpx.AsyncClient) -> AsyncIterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    scraped = {
        "job_name": "spillway",
        "honor_labels": True,
        "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}],
    }
    every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config = folder / "prometheus.yaml"
    config.write_text(yaml.safe_dump({"global": every, "rule_files": [str(ALERTS)], "scrape_configs": [scraped]}))
    assert PROMETHEUS is not None
    words = (f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address={address}")
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(PROMETHEUS, *words, stdout=log, stderr=log)
    try:
        await _answers(client, f"http://{address}/-/ready", process)
        yield f"http://{address}"
    finally:
        process.terminate()
        await process.wait()


async def _answers(client: httpx.AsyncClient, url: str, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(20):
        while process.returncode is None:
            with contextlib.suppress(httpx.TransportError):
                if (await client.get(url)).status_code == 200:
                    return
            await asyncio.sleep(0.05)
    raise AssertionError("Prometheus ended")


@asynccontextmanager
async def _callers(client: httpx.AsyncClient, ports: list[int]) -> AsyncIterator[None]:
    """Callers of every model until the end; each asks, reads and asks again."""
    draw = random.Random(6)

    def asks(model: str, **more: Any) -> Callable[[], Awaitable[None]]:
        return lambda: _ask(client, draw.choice(ports), {"model": model, **more}, draw)

    crowd = [
        *[asks("chat", stream=True, max_tokens=60)] * 14,
        *[asks("patient", max_tokens=30)] * 3,
        *[asks("starved", stream=True, max_tokens=300)] * 4,
        *[asks("hedged", stream=True, max_tokens=10)] * 2,
        *(asks(name, max_tokens=10) for name in ("found", "sleepy", "fails-over", "fails", "unpriced", "european")),
        lambda: _leave(client, draw.choice(ports)),
    ]
    tasks = [asyncio.create_task(_again(one)) for one in crowd]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _again(ask: Callable[[], Awaitable[None]]) -> None:
    while True:
        with contextlib.suppress(httpx.TransportError):
            await ask()
        await asyncio.sleep(0.02)


async def _ask(client: httpx.AsyncClient, port: int, body: dict[str, Any], draw: random.Random) -> None:
    said = {"messages": [{"role": "user", "content": _PROMPT[: draw.randint(40, 1400)]}], **body}
    answer = await client.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=said)
    if answer.status_code != 200:
        await asyncio.sleep(0.2)


async def _leave(client: httpx.AsyncClient, port: int) -> None:
    """Read two pieces of a long answer and hang up."""
    said = {"model": "chat", "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 500}
    async with client.stream("POST", f"http://127.0.0.1:{port}/v1/chat/completions", json=said) as answer:
        pieces = answer.aiter_bytes()
        for _ in range(2):
            await anext(pieces, b"")
    await asyncio.sleep(0.3)
