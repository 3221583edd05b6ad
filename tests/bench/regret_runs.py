"""Single replays for the table of regrets, each a task for a process of its own: what is asked, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
from proxy.advisor import baselines
from proxy.advisor.baselines import Baseline
from proxy.advisor.bound import BoundTerms, lower_bound
from proxy.advisor.breakeven import Offer
from proxy.advisor.demand import of_trace, request_sums, work_rates
from proxy.advisor.engine_work import most_hits
from proxy.advisor.figures import figures
from proxy.advisor.replay_bound import lowest_nano_usd_per_hour, shared_nano_usd
from proxy.advisor.replayed import REFUSED, Replayed
from proxy.advisor.scenario import PLAIN, Scenario
from proxy.advisor.simulate import simulate
from proxy.advisor.sizing import size
from proxy.advisor.trace import Trace
from proxy.advisor.trace_files import read_trace
from proxy.advisor.value import Shared, mean_request, value_of
from proxy.cli.policy_assumed import compiled
from proxy.policy.engine_profile import ASSUMED, EngineProfile
from proxy.policy.model import Candidate, Lane, Match, Route, Snapshot, Target
from proxy.routing.predict import Aims, aims

FEASIBLE = 0.99
"""A baseline may miss so little of its traffic: it is tuned to cost the least within that."""
BUSY_MINUTE = 20
"""Requests in a minute whose share within the objectives says anything."""
BIN_OF_TTFT = 1.5
"""How long the advisor's bins are, in objectives of the first token."""
MOST_REPLICAS = 24
LIMITS = (8, 12, 16, 20, 24, 28, 32, 40, 48, 64, 96, 128, 192)
WAITING = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
DECREASES = (0.5, 0.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A trace, `rate` times as fast, under a policy; `chunk` puts another `max_batched_tokens` in its place.

    With `tokens_per_s`, the objective of the first token is later by the time that a prompt takes at that rate, up to
    the next multiple of 4,000 tokens.
    """

    path: Path
    policy: Path
    rate: float = 1.0
    chunk: int | None = None
    tokens_per_s: float | None = None

    @property
    def name(self) -> str:
        """What to call it in a table."""
        faster = "" if self.rate == 1 else f" x{self.rate:g}"
        chunk = "" if self.chunk is None else f", chunk {self.chunk}"
        patient = "" if self.tokens_per_s is None else f", + in/{self.tokens_per_s:g}"
        return f"{self.path.stem}{faster}{chunk}{patient}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one replay came to. Shares are of all requests; `worst` is that of the worst busy minute."""

    rule: str
    replicas: int
    usd_per_hour: float
    met: float
    worst: float
    spilled: float
    spilled_value: float
    refused: float
    oscillations_per_hour: float
    requests_per_s: float
    more: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Least:
    """The bound: in all, and beside each number of replicas from 0 on, in dollars an hour; those far from the best are
    rough. `all_shared` is what all costs without GPUs.
    """

    usd_per_hour: float
    replicas: int
    beside: tuple[float, ...]
    all_shared: float
    method: str
    spilled_value: float


@cache
def trace_of(path: Path, rate: float) -> Trace:
    trace = read_trace(path)
    return replace(trace, arrival_s=trace.arrival_s / rate, span_s=trace.span_s / rate)


def loaded(setting: Setting) -> tuple[Trace, Snapshot]:
    """The trace and the policy of a setting."""
    snapshot = compiled(setting.policy)
    if setting.chunk is not None:
        snapshot = with_engine(snapshot, lambda target: replace(target, max_batched_tokens=setting.chunk))
    trace = trace_of(setting.path, setting.rate)
    if setting.tokens_per_s is not None:
        snapshot = replace(snapshot, routes=patient(snapshot.routes[0], trace, setting.tokens_per_s))
    return trace, snapshot


def patient(route: Route, trace: Trace, tokens_per_s: float, every: int = 4000) -> tuple[Route, ...]:
    """One route for each size of prompt: the larger, the later may its first token come."""
    edges = range(every, int(trace.input_tokens.max()) + every, every)

    def later(edge: int) -> Route:
        wanted = tuple(
            replace(one, limit_s=one.limit_s + edge / tokens_per_s) if one.field.startswith("ttft") else one
            for one in route.want.objectives
        )
        match = Match(max_input_tokens=edge)
        return replace(route, name=f"to {edge}", match=match, want=replace(route.want, objectives=wanted))

    return tuple(map(later, edges))


def engine(snapshot: Snapshot) -> Target:
    """The one dedicated target that all this is about."""
    (target,) = (one for one in snapshot.targets.values() if one.lane is Lane.DEDICATED)
    return target


def with_engine(snapshot: Snapshot, change: Callable[[Target], Target]) -> Snapshot:
    targets = {name: change(one) if one.lane is Lane.DEDICATED else one for name, one in snapshot.targets.items()}
    models = {
        model: tuple(Candidate(target=targets[one.target.name], model=one.model) for one in candidates)
        for model, candidates in snapshot.models.items()
    }
    return replace(snapshot, targets=targets, models=models)


def row(run: Replayed, replicas: int, snapshot: Snapshot, **more: float) -> Row:
    """What a run comes to."""
    sums, price = figures(run), shared_nano_usd(run.trace, snapshot).sum()
    minute = (run.trace.arrival_s // 60).astype(np.int64)
    asked, met = np.bincount(minute), np.bincount(minute, weights=run.met)
    busy = asked >= BUSY_MINUTE
    return Row(
        rule=run.policy,
        replicas=replicas,
        usd_per_hour=sums.usd_per_hour(sums.nano_usd),
        met=float(run.met.mean()),
        worst=float((met[busy] / asked[busy]).min()) if busy.any() else 1.0,
        spilled=sums.whole.shared / len(run.trace),
        spilled_value=float(run.nano_usd.sum() / price),
        refused=float((run.target == REFUSED).mean()),
        oscillations_per_hour=sums.oscillations_per_hour,
        requests_per_s=len(run.trace) / run.wall_s,
        more=more,
    )


def ours(setting: Setting, replicas: int, scenario: Scenario = PLAIN) -> Row:
    """The policy as it is, with so many replicas."""
    trace, snapshot = loaded(setting)
    count = {engine(snapshot).name: replicas}
    return row(simulate(trace, snapshot, replicas=count, scenario=scenario, policy="ours"), replicas, snapshot)


def least(setting: Setting) -> Least:
    """The bound under the policy's own terms; the objectives are those of each request's route."""
    trace, snapshot = loaded(setting)
    target = engine(snapshot)
    run = simulate(trace, snapshot, replicas={target.name: 0})
    assert target.gpus is not None
    terms = BoundTerms(
        profile=target.profile or ASSUMED,
        replica_nano_usd_per_hour=lowest_nano_usd_per_hour(target.gpus),
        ttft_s=run.ttft_objective_s.astype(np.float64),
        pace_s=run.pace_objective_s.astype(np.float64),
    )
    hits = most_hits(trace, terms.ttft_s)
    found = lower_bound(trace, shared_nano_usd(trace, snapshot), terms, hit_tokens=hits)
    hourly = 3600 / trace.span_s / 1e9
    return Least(
        usd_per_hour=found.usd_per_hour,
        replicas=found.replicas,
        beside=tuple(found.beside(replicas) * hourly for replicas in range(MOST_REPLICAS)),
        all_shared=found.all_shared_nano_usd * hourly,
        method=str(found.method),
        spilled_value=found.spilled_value_share,
    )


def advised(setting: Setting) -> tuple[int, list[float]]:
    """How many replicas the advisor would have, and the bill that it expects with 0, 1, ... of them."""
    trace, snapshot = loaded(setting)
    target, wants = engine(snapshot), objectives(snapshot)
    profile, gpus = target.profile or ASSUMED, target.gpus
    assert gpus is not None
    offer = Offer(
        name=target.name,
        profile=profile,
        usd_per_hour=lowest_nano_usd_per_hour(gpus) / 1e9,
        itl_s=wants.itl_s,
    )
    demand = of_trace(trace, profile, BIN_OF_TTFT * wants.ttft_s)
    shared = [
        Shared(target=one.name, provider=one.provider or "", price=one.price)
        for one in snapshot.targets.values()
        if one.lane is Lane.SHARED and one.price is not None
    ]
    value = value_of(demand, [shared] * len(trace.apps))
    mean = mean_request(demand, value, profile)
    sizing = size(demand, offer, mean.usd_per_work_s, most=MOST_REPLICAS)
    return sizing.best, sizing.usd_per_hour.tolist()


def objectives(snapshot: Snapshot) -> Aims:
    """Those of the first route."""
    return aims(snapshot.routes[0].require, snapshot.routes[0].want)


def peak(setting: Setting) -> Row:
    """The fewest replicas that serve everything themselves within the objectives."""
    found: dict[int, Row] = {}

    def at(replicas: int) -> Row:
        if replicas not in found:
            found[replicas] = _played(setting, baselines.DEDICATED, replicas)
        return found[replicas]

    count = busiest(setting)
    while at(count).met < FEASIBLE and count < MOST_REPLICAS:
        count += 1
    while count > 1 and at(count - 1).met >= FEASIBLE:
        count -= 1
    return at(count)


def busiest(setting: Setting) -> int:
    """How many replicas the work of the busiest minute fills."""
    trace, snapshot = loaded(setting)
    profile = engine(snapshot).profile or ASSUMED
    work_s = request_sums(trace.input_tokens, trace.output_tokens) @ work_rates(profile)
    by_minute = np.bincount((trace.arrival_s // 60).astype(np.int64), weights=work_s) / 60
    return max(1, math.ceil(by_minute.max() / (1 - profile.step_s / objectives(snapshot).itl_s)))


def in_flight(setting: Setting, bound: Least) -> Row | None:
    """The best threshold of requests in flight."""
    return _tuned(setting, [baselines.in_flight(limit) for limit in LIMITS], bound)


def queue(setting: Setting, bound: Least) -> Row | None:
    """The best length of the engines' queues."""
    return _tuned(setting, [baselines.queue(limit) for limit in WAITING], bound)


def weight(setting: Setting, bound: Least) -> Row | None:
    """The best share of requests by lot."""
    return _tuned(setting, [baselines.weight(share) for share in SHARES], bound)


def aimd(setting: Setting, bound: Least) -> Row | None:
    """The best factor of a limit that adapts."""
    ttft_s = objectives(loaded(setting)[1]).ttft_s
    return _tuned(setting, [baselines.aimd(decrease, ttft_s) for decrease in DECREASES], bound)


def _tuned(setting: Setting, ladder: Sequence[Baseline], bound: Least) -> Row | None:
    """The cheapest feasible one of a ladder whose rungs keep more and more on GPUs, over all numbers of replicas.

    The last feasible rung is the cheapest. Numbers of replicas that the bound tells to cost more than what was found
    are not looked at, nor is what costs more than all shared.
    """
    best: Row | None = None
    most, beside = bound.all_shared, bound.beside
    for replicas in sorted(range(1, len(beside)), key=lambda count: beside[count]):
        if beside[replicas] >= most:
            break
        found = _last_feasible(setting, ladder, replicas)
        if found is not None and found.usd_per_hour < most:
            best, most = found, found.usd_per_hour
    return best


def _last_feasible(setting: Setting, ladder: Sequence[Baseline], replicas: int) -> Row | None:
    low, high, best = 0, len(ladder), None
    while low < high:
        middle = (low + high) // 2
        found = _played(setting, ladder[middle], replicas)
        if found.met >= FEASIBLE:
            low, best = middle + 1, found
        else:
            high = middle
    return best


def _played(setting: Setting, rule: Baseline, replicas: int) -> Row:
    trace, snapshot = loaded(setting)
    return row(rule.replay(trace, snapshot, replicas={engine(snapshot).name: replicas}), replicas, snapshot)


def scaled(profile: EngineProfile, factor: float) -> EngineProfile:
    """An engine that takes `factor` times as long for everything."""
    return replace(
        profile,
        step_s=profile.step_s * factor,
        sequence_s=profile.sequence_s * factor,
        context_token_s=profile.context_token_s * factor,
        prefill_token_s=profile.prefill_token_s * factor,
        attention_s=profile.attention_s * factor,
    )
