"""What is reported of several replays of one trace: which did best, against what, and all of it as data.

Theory of operation
-------------------
A run is one policy with so many replicas. Of a policy's runs the *best* is the cheapest of those that served at least
`GOAL` of all requests in time, or, where none did, the one that served most. Two sums are held against it: what the
same traffic costs with no GPUs at all, if that was among the runs, and the clairvoyant bound, which no rule can beat.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.advisor.figures import LEVELS, Figures, Minutes, Part, Quantiles
from proxy.advisor.replay_bound import Least
from proxy.advisor.trace import Trace

GOAL = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What was replayed."""

    name: str
    requests: int
    span_s: float
    input_tokens: float
    output_tokens: float
    apps: int
    began_at_s: float | None

    @property
    def per_s(self) -> float:
        """Requests a second, on average."""
        return self.requests / self.span_s


def traffic_of(trace: Trace) -> Traffic:
    """A trace in a few numbers; tokens are those of the mean request."""
    return Traffic(
        name=trace.name,
        requests=len(trace),
        span_s=trace.span_s,
        input_tokens=float(trace.input_tokens.mean()),
        output_tokens=float(trace.output_tokens.mean()),
        apps=len(trace.apps),
        began_at_s=trace.began_at_s,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Runs in the order of their policies, then of replicas. `bounds` is the least that the same traffic could have
    cost anyone, for the policies for which it was worked out. `baselines` are other rules' runs, under the terms of the
    first policy. `assumptions` are sentences about what stood in for engines and providers."""

    traffic: Traffic
    runs: tuple[Figures, ...]
    baselines: tuple[Figures, ...] = ()
    bounds: Mapping[str, Least] = field(default_factory=dict)
    assumptions: tuple[str, ...] = ()

    @property
    def policies(self) -> tuple[str, ...]:
        """In the order in which they were given."""
        return tuple(dict.fromkeys(run.policy for run in self.runs))

    def of(self, policy: str) -> tuple[Figures, ...]:
        """The runs of one policy."""
        return tuple(run for run in self.runs if run.policy == policy)

    def best(self, policy: str) -> Figures:
        """The cheapest run that was good enough, or the best one if none was."""
        return best(self.of(policy))

    def all_shared(self, policy: str) -> Figures | None:
        """The policy's run without a replica, if there is one."""
        return next((run for run in self.of(policy) if not any(run.replicas.values())), None)

    def least(self, run: Figures) -> Least | None:
        """The bound under a run's policy; that of a baseline is the first policy's."""
        return self.bounds.get(run.policy if run.policy in self.policies else self.policies[0])

    def regret(self, run: Figures) -> float | None:
        """How many times the bound a run cost."""
        least = self.least(run)
        return run.nano_usd / least.nano_usd if least is not None and least.nano_usd else None

    def dollar_share(self, run: Figures) -> float | None:
        """What a run paid shared providers, of what they would have been paid for all requests."""
        least, alone = self.least(run), self.all_shared(run.policy)
        whole = least.all_shared_nano_usd if least is not None else alone.nano_usd if alone is not None else 0
        return run.whole.shared_nano_usd / whole if whole and math.isfinite(whole) else None


def best(runs: tuple[Figures, ...]) -> Figures:
    """The cheapest of those that reach the goal, or the one that comes nearest."""
    enough = [run for run in runs if run.whole.attainment >= GOAL]
    if enough:
        return min(enough, key=lambda run: run.nano_usd)
    return max(runs, key=lambda run: (run.whole.attainment, -run.nano_usd))


def replicas_words(replicas: Mapping[str, int]) -> str:
    """`2 replicas`, or each target's number where they differ."""
    numbers = set(replicas.values())
    if len(numbers) > 1:
        return ", ".join(f"{name} {number}" for name, number in replicas.items())
    number = numbers.pop() if numbers else 0
    each = " of each" if len(replicas) > 1 and number else ""
    return f"{number} {'replica' if number == 1 else 'replicas'}{each}"


def to_json(report: Report) -> str:
    """The whole report. Durations are in seconds, sums in nano-USD; `null` is what is not known."""
    traffic, runs = report.traffic, report.runs
    content = {
        "trace": {
            "name": traffic.name,
            "requests": traffic.requests,
            "span_s": traffic.span_s,
            "requests_per_s": traffic.per_s,
            "mean_input_tokens": traffic.input_tokens,
            "mean_output_tokens": traffic.output_tokens,
            "began_at": traffic.began_at_s,
        },
        "runs": [_run(report, run) for run in runs],
        "baselines": [_run(report, run) for run in report.baselines],
        "best": {policy: runs.index(report.best(policy)) for policy in report.policies},
        "bounds": {
            policy: {"nano_usd": round(least.nano_usd), "replicas": least.replicas}
            for policy, least in report.bounds.items()
        },
        "assumptions": list(report.assumptions),
    }
    return json.dumps(_known(content), indent=2, allow_nan=False)


def _run(report: Report, run: Figures) -> dict[str, Any]:
    return {
        "policy": run.policy,
        "replicas": run.replicas,
        "gpu_nano_usd": run.gpu_nano_usd,
        "shared_nano_usd": run.whole.shared_nano_usd,
        "nano_usd": run.nano_usd,
        "usd_per_hour": run.usd_per_hour(run.nano_usd),
        "usd_per_month": run.usd_per_month(run.nano_usd),
        "regret": report.regret(run),
        "shared_dollar_share": report.dollar_share(run),
        "attainment": run.whole.attainment,
        "worst_minute": _minute(run.minutes),
        "oscillations_per_hour": run.oscillations_per_hour,
        "objectives": [{"ttft_s": ttft_s, "pace_s": pace_s} for ttft_s, pace_s in run.objectives],
        "all": _part(run.whole),
        "routes": list(map(_part, run.routes)),
        "tenants": list(map(_part, run.tenants)),
        "apps": list(map(_part, run.apps)),
        "targets": list(map(_part, run.targets)),
        "reasons": run.reasons,
        "minutes": {
            name: getattr(run.minutes, name).tolist()
            for name in ("requests", "met", "dedicated", "spilled", "preferred_shared", "refused", "shared_nano_usd")
        },
        "replay_s": run.wall_s,
    }


def _minute(minutes: Minutes) -> dict[str, Any]:
    worst = minutes.worst
    asked = int(minutes.requests[worst])
    return {"minute": worst, "requests": asked, "attainment": float(minutes.attainment[worst])}


def _part(part: Part) -> dict[str, Any]:
    return {
        "name": part.name,
        "requests": part.requests,
        "attainment": part.attainment,
        "refused": part.refused,
        "dedicated": part.dedicated,
        "shared": part.shared,
        "spilled": part.spilled,
        "shared_nano_usd": part.shared_nano_usd,
        "ttft_s": _quantiles(part.ttft_s),
        "pace_s": _quantiles(part.pace_s),
        "e2e_s": _quantiles(part.e2e_s),
    }


def _quantiles(of: Quantiles) -> dict[str, float]:
    return {f"p{level}": getattr(of, f"p{level}") for level in LEVELS}


def _known(value: Any) -> Any:
    """JSON has neither NaN nor infinity."""
    if isinstance(value, dict):
        return {name: _known(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_known(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
