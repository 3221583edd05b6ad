"""The bound under a policy's own terms."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from proxy.advisor.replay_bound import least_of, lowest_nano_usd_per_hour, shared_nano_usd
from proxy.advisor.simulate import simulate
from proxy.advisor.trace import App, Trace
from proxy.policy.compile import compile_policy
from proxy.policy.gpus import Gpus, Tranche
from proxy.policy.model import Snapshot

POLICY = """
version: 1
targets:
  gpus:
    lane: dedicated
    engine: vllm
    url: http://llama:8000/v1
    model: llama
    gpus: {type: H100, count: 2, usd_per_hour: 2.99}
    engine_profile: 70b-fp8-2xh100
    max_batched_tokens: 384
  dear: {lane: shared, provider: openai, url: "https://dear/v1", model: llama, price: {input: 0.9, output: 0.9}}
  cheap: {lane: shared, provider: openai, url: "https://cheap/v1", model: llama, price: {input: 0.5, output: 1.0}}
models:
  llama: [gpus, dear, cheap]
  own: [gpus]
routes:
  - {name: chat, want: {ttft_p99: 2s, itl_p99: 50ms}}
"""


def snapshot(tmp_path: Path, text: str = POLICY) -> Snapshot:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    return compile_policy(path, env={}, price_of=lambda *_: None)


def traffic(*apps: App, rate: float = 4.0, count: int = 400) -> Trace:
    draw = np.random.default_rng(1)
    arrival_s = np.cumsum(draw.exponential(1 / rate, count))
    return Trace(
        name="made-up",
        arrival_s=arrival_s - arrival_s[0],
        input_tokens=draw.integers(200, 2000, count),
        output_tokens=draw.integers(20, 400, count),
        app=(np.arange(count) % len(apps)).astype(np.int32),
        apps=apps,
        span_s=count / rate,
    )


def test_each_request_is_priced_at_the_cheapest_of_its_model(tmp_path: Path) -> None:
    trace = traffic(App(name="a", model="llama"), App(name="b", model="own"), App(name="c", model="unknown"), count=3)
    price = shared_nano_usd(trace, snapshot(tmp_path))
    into, out = trace.input_tokens, trace.output_tokens
    assert price[0] == pytest.approx(500 * into[0] + 900 * out[0])  # the lowest rate of either kind
    assert price[1] == np.inf
    assert price[2] == pytest.approx(500 * into[2] + 900 * out[2])  # another model is taken for the first


def test_no_replay_undercuts_the_bound(tmp_path: Path) -> None:
    policy, trace = snapshot(tmp_path), traffic(App(name="a", model="llama"), rate=8.0)
    least = least_of(simulate(trace, policy, replicas={"gpus": 1}), policy)
    assert least is not None
    assert least.all_shared_nano_usd == pytest.approx(shared_nano_usd(trace, policy).sum())
    for count in (0, 1, 2):
        assert math.floor(least.nano_usd) <= simulate(trace, policy, replicas={"gpus": count}).nano_usd_in_all
    assert 0 < least.nano_usd <= least.all_shared_nano_usd


def test_there_is_none_for_two_engines_or_free_ones(tmp_path: Path) -> None:
    trace = traffic(App(name="a", model="llama"), count=20)
    second = "  more: {lane: dedicated, engine: vllm, url: 'http://more:8000/v1', model: llama}\n"
    two = snapshot(tmp_path, POLICY.replace("  dear:", f"{second}  dear:").replace("[gpus, dear", "[gpus, more, dear"))
    assert least_of(simulate(trace, two), two) is None
    free = snapshot(tmp_path, POLICY.replace("    gpus: {type: H100, count: 2, usd_per_hour: 2.99}\n", ""))
    assert least_of(simulate(trace, free), free) is None


def test_the_lowest_price_of_a_replica() -> None:
    spot = Tranche(replicas=1, nano_usd_per_hour=500_000_000)
    gpus = Gpus(type="H100", count=2, nano_usd_per_hour=3_000_000_000)
    assert lowest_nano_usd_per_hour(gpus) == 6_000_000_000
    assert lowest_nano_usd_per_hour(Gpus(type="H100", count=2, nano_usd_per_hour=3_000_000_000, spot=spot)) == 10**9
