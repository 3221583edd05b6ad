"""More requests than one engine can serve in time, with prompts of very different lengths: the rule keeps the
objectives and fills the engine; a threshold of requests in flight, half of what the engine takes, only fills it.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from tests.engine import spillway as proxies
from tests.engine.calibration import calibrated
from tests.engine.open_load import Served, arrivals, attainment, offer
from tests.engine.spillway import Spillway
from tests.engine.vllm import Engine

SIZES = [(400, 24)] * 5 + [(1500, 24)] * 3 + [(5000, 24)] * 2
"""Words of a prompt, tokens of its answer. The longest take thirty times as long to read as the shortest."""
PER_S = 14.0
SECONDS = 20.0
TTFT_S, ITL_S = 1.0, 0.06

WORTH_HAVING = 0.5
"""What the rule keeps on the engine, at the least, of what the threshold does: spilling all of it keeps objectives too.
It is about 0.95 on a machine that has the same to do beside all the time."""

POLICY = """
version: 1
targets:
  own:
    lane: dedicated
    engine: vllm
    url: {url}
    model: tiny
    gpus: {{type: CPU, count: 1, usd_per_hour: 1.20}}
    {profile}
    max_batched_tokens: 512
    max_in_flight: {in_flight}
  api: {{lane: shared, url: {provider}, model: simulated, price: {{input: 0.50, output: 1.50}}}}
models: {{tiny: [own, api]}}
routes:
  - {{name: all, want: {{{want}}}}}
"""
RULE = {"in_flight": 256, "want": f"ttft_p99: {TTFT_S * 1000:.0f}ms, itl_p99: {ITL_S * 1000:.0f}ms"}
THRESHOLD = {"in_flight": 16, "want": "ttft_p99: 9m"}
"""An objective that is never in danger leaves the choice to the number in flight."""

Start = Callable[[str, str], AbstractContextManager[Spillway]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    return lambda name, policy: proxies.spillway(tmp_path / name, policy)


def replayed(start: Start, name: str, policy: str) -> list[Served]:
    asks = arrivals(1, SECONDS, PER_S, SIZES)
    with start(name, policy) as spillway:
        return asyncio.run(offer(spillway.url, proxies.KEY, "tiny", asks))


def share_kept(served: list[Served]) -> float:
    """Of all words that were asked, the share that did not spill."""
    return sum(one.ask.input_words for one in served if one.target == "own") / sum(
        one.ask.input_words for one in served
    )


def test_the_rule_keeps_the_objectives_where_a_threshold_does_not(
    chunked_engine: Engine, provider: str, start: Start
) -> None:
    load = ("--concurrency", "8", "--prompt-tokens", "4096", "--max-tokens", "100000")
    told = calibrated("--url", chunked_engine.url, "--model", "tiny", *load)
    policy = partial(POLICY.format, url=chunked_engine.url, provider=provider, profile=told["policy"][0])
    threshold = replayed(start, "threshold", policy(**THRESHOLD))
    rule = replayed(start, "rule", policy(**RULE))
    seen = {
        name: (attainment(served, TTFT_S, ITL_S), share_kept(served))
        for name, served in (("threshold", threshold), ("rule", rule))
    }
    assert seen["rule"][0] >= 0.95, seen
    assert seen["threshold"][0] < 0.90, seen
    assert seen["rule"][1] > WORTH_HAVING * seen["threshold"][1], seen
    assert all(one.ttft_s is not None for one in rule)
