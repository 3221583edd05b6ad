"""The same traffic while something is wrong: a false profile, stale news, a slow GPU, a provider that is away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from proxy.advisor.replayed import Replayed
from proxy.advisor.scenario import PLAIN, Scenario, Slowdown, Span
from proxy.advisor.simulate import simulate
from proxy.policy.engine_profile import ASSUMED

from tests.bench.regret_runs import Row, Setting, engine, loaded, row, scaled, with_engine

AWAY = 0.25
"""For what share of the time shared targets are down."""
SLOW_S = 300.0
RECOVERED = 0.99
WINDOW_S = 10.0
WELL = "nothing wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What is wrong. The router believes in engines `believed` times as slow as they are. `costs` says that there is
    less to work with, so that the bill cannot be what it was. `paper` is what the study of this rule had in the same
    case, with three replicas and Azure's conversations of 2023 at three times their rate: dollars an hour, and
    attainment; None where it has nothing.
    """

    scenario: Scenario = PLAIN
    believed: float = 1.0
    slow: bool = False
    away: bool = False
    costs: bool = False
    paper: tuple[float, float] | None = None


TROUBLES: Mapping[str, Trouble] = {
    WELL: Trouble(paper=(23.16, 0.9999)),
    "profile 2x too fast": Trouble(believed=0.5, paper=(22.85, 0.999)),
    "profile 2x too slow": Trouble(believed=2.0, paper=(23.93, 0.9999)),
    "2 proxies, sync 0.2 s": Trouble(scenario=Scenario(proxies=2)),
    "4 proxies, sync 0.2 s": Trouble(scenario=Scenario(proxies=4)),
    "2 proxies, sync 1 s": Trouble(scenario=Scenario(proxies=2, sync_s=1.0), paper=(23.4, 0.9998)),
    "4 proxies, sync 1 s": Trouble(scenario=Scenario(proxies=4, sync_s=1.0), paper=(23.4, 0.9998)),
    "one replica 2.5x slow, 5 min": Trouble(slow=True, costs=True, paper=(27.3, 0.949)),
    "shared down, 25 % of the time": Trouble(away=True, costs=True, paper=(18.9, 0.955)),
    "shared limited to 100k tokens/min": Trouble(
        scenario=Scenario(shared_tokens_per_minute=100_000), costs=True, paper=(19.3, 0.962)
    ),
}


def troubled(setting: Setting, replicas: int, name: str) -> Row:
    """What the policy makes of the trouble of that name."""
    trouble = TROUBLES[name]
    trace, snapshot = loaded(setting)
    target = engine(snapshot)
    true = target.profile or ASSUMED
    believing = with_engine(snapshot, lambda one: replace(one, profile=scaled(true, trouble.believed)))
    from_s = 0.35 * trace.span_s
    span = Span(from_s=from_s, to_s=from_s + (AWAY * trace.span_s if trouble.away else SLOW_S))
    scenario = replace(trouble.scenario, truth={target.name: true})
    if trouble.slow:
        scenario = replace(scenario, slowdowns=(Slowdown(span=span),))
    if trouble.away:
        scenario = replace(scenario, shared_down=(span,))
    run = simulate(trace, believing, replicas={target.name: replicas}, scenario=scenario, policy=name)
    more = {}
    if trouble.slow:
        more["recovered_s"] = recovered_s(run, span.from_s)
    if trouble.slow or trouble.away:
        more["met_meanwhile"] = met_within(run, span)
    return row(run, replicas, snapshot, **more)


def met_within(run: Replayed, span: Span) -> float:
    """The attainment of what came in a span."""
    came = run.trace.arrival_s
    return float(run.met[(came >= span.from_s) & (came < span.to_s)].mean())


def recovered_s(run: Replayed, from_s: float) -> float:
    """How long after `from_s` the attainment over the last ten seconds is above 99 % again, once it has fallen below;
    0 if it never has.
    """
    came = run.trace.arrival_s
    met = np.concatenate(([0.0], np.cumsum(run.met)))
    ends = np.arange(from_s, run.trace.span_s, 1.0)
    first, last = np.searchsorted(came, ends - WINDOW_S), np.searchsorted(came, ends)
    well = met[last] - met[first] > RECOVERED * (last - first)
    fallen = int(np.argmin(well))
    if well[fallen]:
        return 0.0
    back = np.flatnonzero(well[fallen:])
    return float(ends[fallen + back[0]] - from_s) if len(back) else float("inf")
