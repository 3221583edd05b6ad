"""The replay tells what serving comes to: a bursty trace through two real proxies, and through the simulation of them.

Two engine simulators in real time, a provider simulator, two proxies that share a store, and a client: seven processes.
What the engines do is the same model on both sides; what is compared is everything between: decisions, the state that
streams tell of, the sync, the bill.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
from proxy.advisor.figures import figures
from proxy.advisor.replayed import MIN_PACE_TOKENS
from proxy.advisor.scenario import Scenario
from proxy.advisor.simulate import simulate
from proxy.advisor.trace import App, Trace
from proxy.meters.embedded import EmbeddedStore
from proxy.policy.compile import compile_policy
from proxy.simulator.load import Load, Visit
from tests.e2e.processes import PROVIDER_KEY, ROOT, serving

SPAN_S = 120.0
RATE_PER_S = 15.0
"""About what two replicas can do, so that bursts spill over and lulls do not."""
TTFT_S, PACE_S = 2.0, 0.05
USD_PER_TOKEN, USD_PER_REPLICA_HOUR = 0.72e-6, 5.98
WITHIN = 0.05

POLICY = """
version: 1
targets:
  gpu:
    lane: dedicated
    engine: vllm
    urls: [{engines}]
    model: simulated-llama
    region: eu-west-1
    gpus: {{type: H100, count: 2, usd_per_hour: 2.99}}
    engine_profile: 70b-fp8-2xh100
    max_batched_tokens: 384
  api:
    lane: shared
    provider: openai
    url: {api}
    model: simulated-llama
    api_key: ${{PROVIDER_KEY}}
    region: us
    price: {{input: 0.72, output: 0.72}}
models:
  m: [gpu, api]
routes:
  - {{name: default, want: {{ttft_p99: 2s, itl_p99: 50ms}}}}
"""


def bursty(seed: int = 7) -> Trace:
    """Chat turns: gamma arrivals with a coefficient of variation of 1.5, prompts and answers of usual lengths."""
    random = np.random.default_rng(seed)
    gaps = random.gamma(1 / 1.5**2, 1.5**2 / RATE_PER_S, size=int(2 * SPAN_S * RATE_PER_S))
    arrival_s = np.cumsum(gaps)
    arrival_s = arrival_s[arrival_s < SPAN_S]
    count = len(arrival_s)
    return Trace(
        name="bursty",
        arrival_s=arrival_s,
        input_tokens=np.clip(random.lognormal(6.8, 0.7, count), 60, 4000).astype(np.int64),
        output_tokens=np.clip(random.lognormal(5.0, 0.7, count), 4, 900).astype(np.int64),
        app=np.zeros(count, dtype=np.int32),
        apps=(App(name="chat", model="m"),),
        span_s=SPAN_S,
    )


@contextlib.asynccontextmanager
async def simulator(*words: str) -> AsyncIterator[str]:
    """`spillway simulate ...` as a process; its URL."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "simulate", *words, "--port", "0"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        told = (await process.stdout.readline()).decode()
        found = re.search(r"http://\S+?(?=[;\s])", told)
        assert found, told
        yield found[0]
    finally:
        process.kill()
        await process.wait()


def body(ordinal: int, input_tokens: int, output_tokens: int) -> bytes:
    """A request that no cache has the beginning of, and that is answered with exactly so many tokens."""
    prompt = f"{ordinal:08d} " + "somebody asks for something at some length. " * (input_tokens // 10 + 1)
    members = {
        "model": "m",
        "messages": [{"role": "user", "content": prompt[: 4 * input_tokens]}],
        "max_tokens": output_tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return json.dumps(members).encode()


async def play(trace: Trace, ports: list[int]) -> list[Visit]:
    """Send the trace as it came, to the proxies in turn."""
    loads = [Load(f"http://127.0.0.1:{port}/v1", "m", lambda visit, turn: None) for port in ports]
    loop = asyncio.get_running_loop()
    began_s, visits = loop.time() + 0.5, []
    columns = zip(trace.arrival_s.tolist(), trace.input_tokens.tolist(), trace.output_tokens.tolist(), strict=True)
    for ordinal, (arrival_s, input_tokens, output_tokens) in enumerate(columns):
        request = body(ordinal, input_tokens, output_tokens)
        await asyncio.sleep(max(0.0, began_s + arrival_s - loop.time()))
        visits.append(loads[ordinal % len(loads)].ask(request))
    for load in loads:
        await load.drain(60.0)
    return visits


def met(visit: Visit, output_tokens: int) -> bool:
    """Whether the caller saw both objectives kept."""
    if visit.failure or visit.first_token_s is None or visit.ended_s is None:
        return False
    pace_s = (visit.ended_s - visit.first_token_s) / max(output_tokens - 1, MIN_PACE_TOKENS)
    return visit.first_token_s - visit.sent_s <= TTFT_S and pace_s <= PACE_S


async def test_two_proxies_come_to_what_their_simulation_says(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    trace = bursty()
    async with contextlib.AsyncExitStack() as stack:
        options = ("engine", "--max-num-batched-tokens", "384")
        engines = [await stack.enter_async_context(simulator(*options)) for _ in range(2)]
        api = await stack.enter_async_context(simulator("provider", "--api-key", PROVIDER_KEY))
        env = {"SPILLWAY_REDIS_URL": stack.enter_context(EmbeddedStore(tmp_path / "store")).url}
        proxies = []
        for name in ("one", "other"):
            policy = tmp_path / name / "policy.yaml"
            policy.parent.mkdir()
            policy.write_text(POLICY.format(engines=", ".join(engines), api=api))
            proxies.append(await stack.enter_async_context(serving(policy, env=env)))
        visits = await play(trace, [proxy.port for proxy in proxies])
    outputs = trace.output_tokens.tolist()
    spilled = np.array([visit.headers.get("x-spillway-lane") == "shared" for visit in visits])
    shared_usd = float(((trace.input_tokens + trace.output_tokens) * spilled).sum()) * USD_PER_TOKEN
    live_usd_per_hour = 2 * USD_PER_REPLICA_HOUR + shared_usd * 3600 / SPAN_S
    live_attainment = float(np.mean([met(visit, tokens) for visit, tokens in zip(visits, outputs, strict=True)]))

    snapshot = compile_policy(policy, env={"PROVIDER_KEY": "x"}, price_of=lambda *_: None)
    simulated = figures(simulate(trace, snapshot, scenario=Scenario(proxies=2, lengths_told=True, cache_ttl_s=0)))
    usd_per_hour = simulated.usd_per_hour(simulated.nano_usd)
    told = (
        f"live ${live_usd_per_hour:.2f}/h, {live_attainment:.2%} in time, {spilled.mean():.2%} spilled; "
        f"simulated ${usd_per_hour:.2f}/h, {simulated.whole.attainment:.2%}, {simulated.whole.spill_share:.2%}"
    )
    record_property("told", told)
    sys.stderr.write(told + "\n")
    assert 0.01 < simulated.whole.spill_share < 0.5, told
    assert abs(live_usd_per_hour / usd_per_hour - 1) <= WITHIN, told
    assert abs(live_attainment / simulated.whole.attainment - 1) <= WITHIN, told
