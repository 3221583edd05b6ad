"""Replays that nobody ran: columns made by hand, or by dice, for what is worked out of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from proxy.advisor.figures import Figures, figures
from proxy.advisor.replay_bound import Least
from proxy.advisor.replay_report import Report, traffic_of
from proxy.advisor.replayed import REFUSED, Replayed
from proxy.advisor.trace import App, Trace

TARGETS = ("gpus", "api")
PRICE_NANO_USD = 1_000_000
NEVER = float("inf")


def trace_of(
    arrival_s: Sequence[float], *, span_s: float, app: Sequence[int] | None = None, apps: tuple[App, ...] = ()
) -> Trace:
    count = len(arrival_s)
    return Trace(
        name="made-up",
        arrival_s=np.array(arrival_s, np.float64),
        input_tokens=np.full(count, 1000, np.int64),
        output_tokens=np.full(count, 200, np.int64),
        app=np.zeros(count, np.int32) if app is None else np.array(app, np.int32),
        apps=apps or (App(name="all"),),
        span_s=span_s,
    )


def replayed(
    lanes: str,
    ttft_s: Sequence[float],
    *,
    every_s: float = 1.0,
    policy: str = "policy.yaml",
    replicas: Mapping[str, int] | None = None,
    gpu_nano_usd: int = 5_000_000,
    trace: Trace | None = None,
) -> Replayed:
    """A request every `every_s`: `d`edicated, `s`pilled, `p`referring shared or `r`efused; objectives 2 s and 50 ms."""
    count = len(lanes)
    lane = np.array(list(lanes))
    refused, on_shared = lane == "r", np.isin(lane, ["s", "p"])
    first_s = np.where(refused, np.nan, np.array(ttft_s)).astype(np.float32)
    return Replayed(
        trace=trace or trace_of(np.arange(count) * every_s, span_s=count * every_s),
        policy=policy,
        replicas={"gpus": 1} if replicas is None else dict(replicas),
        targets=TARGETS,
        routes=("chat", "rest"),
        reasons=("preferred", "spilled: no room", "refused: no room"),
        target=np.where(refused, REFUSED, np.where(on_shared, 1, 0)).astype(np.int16),
        route=(np.arange(count) % 4 == 3).astype(np.int16),
        reason=np.where(refused, 2, np.where(lane == "s", 1, 0)).astype(np.int16),
        spilled=lane == "s",
        ttft_s=first_s,
        pace_s=np.where(refused, np.nan, 0.02).astype(np.float32),
        e2e_s=(first_s + 4.0).astype(np.float32),
        nano_usd=np.where(on_shared, PRICE_NANO_USD, 0).astype(np.int64),
        ttft_objective_s=np.full(count, 2.0, np.float32),
        pace_objective_s=np.full(count, 0.05, np.float32),
        gpu_nano_usd=gpu_nano_usd,
        wall_s=0.1,
    )


def hour(
    policy: str = "policy.yaml", *, replicas: int = 1, room: float = 0.6, seed: int = 0, refusing: bool = False
) -> Replayed:
    """An hour of traffic that comes in a wave, of which GPUs have room for a part."""
    draw = np.random.default_rng(seed)
    count = 3600
    wave = 0.5 - 0.5 * np.cos(np.linspace(0, 2 * np.pi, count))
    full = draw.random(count) < np.clip(wave - room * replicas, 0.0, 1.0) * 2.0
    lanes = np.where(full, "s", "d")
    if refusing:
        lanes[(draw.random(count) < 0.05) & full] = "r"
    waits = np.where(full, 0.45, 0.15 + 0.4 * wave) * np.exp(draw.normal(0.0, 0.5, count))
    gpu_nano_usd = replicas * 5_980_000_000
    run = replayed(
        "".join(lanes), waits.tolist(), policy=policy, replicas={"gpus": replicas}, gpu_nano_usd=gpu_nano_usd
    )
    return replace(run, nano_usd=run.nano_usd * 6, pace_s=(0.015 + 0.02 * draw.random(count)).astype(np.float32))


def report_of(*runs: Figures) -> Report:
    return Report(traffic=traffic_of(hour().trace), runs=runs)


@cache
def one_policy() -> Report:
    """One policy with up to two replicas, and its bound."""
    runs = tuple(figures(hour(replicas=count)) for count in range(3))
    least = Least(nano_usd=7.2e9, replicas=1, all_shared_nano_usd=21.6e9)
    return replace(report_of(*runs), bounds={"policy.yaml": least}, assumptions=("Engines are modelled.",))


@cache
def two_policies() -> Report:
    """The same beside a policy that refuses, whose name has to be escaped, and another rule."""
    other = figures(hour("<other>.yaml", replicas=2, room=0.4, refusing=True, seed=1))
    one = one_policy()
    return replace(one, runs=(*one.runs, other), baselines=(replace(other, policy="in flight 32"),))
