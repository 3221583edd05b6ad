"""What `spillway replay` is asked: the policies, the numbers of replicas, and which part of which trace."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from proxy.advisor.replay_rules import rules_of
from proxy.advisor.trace import Trace
from proxy.advisor.trace_columns import TimeUnit
from proxy.advisor.trace_cut import asking_for, scaled, sliced
from proxy.advisor.trace_files import read_trace
from proxy.cli.policy_assumed import checked, listing
from proxy.cli.replay_runs import Job
from proxy.meters.prices import PriceListUnreadable
from proxy.policy.model import Lane, Snapshot, Target
from proxy.policy.problem import Mistake, PolicyError
from proxy.policy.source import Source, read_source
from proxy.policy.units import duration_s
from proxy.policy.words import did_you_mean

MOST_REPLICAS = 1000
_RANGE = re.compile(r"([0-9]{1,4})(?:\.\.([0-9]{1,4}))?")


class Unanswerable(Exception):
    """The question makes no sense; the text says why, and what to ask instead."""


def read_requests(
    path: Path, time_unit: str, block_tokens: int | None, part: str, scale_rate: float, model: str
) -> Trace:
    """The requests to be replayed. Raises Unanswerable and TraceUnreadable."""
    if not 0.0 < scale_rate < float("inf"):
        raise Unanswerable(f"`--scale-rate {scale_rate:g}`: a rate is above 0")
    try:
        unit = TimeUnit(time_unit or TimeUnit.AUTO)
    except ValueError:
        hint = did_you_mean(time_unit, [one.value for one in TimeUnit])
        raise Unanswerable(f"`--time-unit {time_unit}` is no unit (hint: {hint})") from None
    begin_s, end_s = _slice(part) if part else (0.0, float("inf"))
    trace = read_trace(path, unit=unit, tokens_per_block=block_tokens)
    try:
        trace = sliced(trace, begin_s, end_s) if part else trace
    except ValueError as error:
        raise Unanswerable(f"`--slice {part}`: {error}, which lasts {trace.span_s:.0f} s") from None
    trace = asking_for(trace, model) if model else trace
    return scaled(trace, scale_rate) if scale_rate != 1.0 else trace


def _slice(part: str) -> tuple[float, float]:
    """`10m..40m`, `..1h`, `30m..`."""
    begin, dots, end = part.partition("..")
    try:
        found = (_moment(begin), duration_s(end) if end else float("inf"))
    except Mistake as mistake:
        raise Unanswerable(f"`--slice {part}`: {mistake.message} (hint: {mistake.hint})") from None
    if not dots or found[0] >= found[1]:
        raise Unanswerable(f"`--slice {part}` is no span of time (hint: `10m..40m`, `..1h` or `30m..`)")
    return found


def _moment(text: str) -> float:
    return duration_s(text) if text not in ("", "0") else 0.0


def read_jobs(paths: Sequence[Path], replicas: str, *, bound: bool, seed: int, model: str) -> list[Job]:
    """Every run that is asked for, policy by policy. Raises Unanswerable."""
    jobs = []
    for path, label in zip(paths, _labels(paths), strict=True):
        source, snapshot = _policy(path)
        if model and model not in snapshot.models:
            hint = did_you_mean(model, snapshot.models)
            raise Unanswerable(f"`{path}` has no model `{model}`" + (f" (hint: {hint})" if hint else ""))
        numbers = _replicas(path, replicas, snapshot)
        first = Job(source=source, policy=label, replicas=numbers[0], seed=seed, bound=bound)
        jobs += [first, *(dataclasses.replace(first, replicas=one, bound=False) for one in numbers[1:])]
    return jobs


def baseline_jobs(jobs: Sequence[Job]) -> list[Job]:
    """Every rule of others with every number of replicas that the first policy is replayed with, but none."""
    first = [job for job in jobs if job.policy == jobs[0].policy and any(job.replicas.values())]
    if not first:
        raise Unanswerable("`--baselines` needs dedicated replicas (hint: `--replicas 1..4`)")
    names = rules_of(checked(jobs[0].source).snapshot)
    return [dataclasses.replace(job, rule=name, policy=name, bound=False) for name in names for job in first]


def _policy(path: Path) -> tuple[Source, Snapshot]:
    if not path.exists():
        raise Unanswerable(f"no such file or folder: `{path}`")
    try:
        source = read_source(path)
        return source, checked(source).snapshot
    except PolicyError as error:
        raise Unanswerable(listing(error.problems)) from None
    except PriceListUnreadable as error:
        raise Unanswerable(str(error)) from None


def _labels(paths: Sequence[Path]) -> list[str]:
    """File names, or whole paths where those are the same."""
    names = [path.name or str(path) for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    if len(set(names)) < len(names):
        raise Unanswerable("a policy is named twice (hint: name two that differ)")
    return names


def _replicas(path: Path, asked: str, snapshot: Snapshot) -> list[dict[str, int]]:
    """How many of each dedicated target, run by run."""
    dedicated = {name: one for name, one in snapshot.targets.items() if one.lane is Lane.DEDICATED}
    if not asked:
        return [{name: _own(one) for name, one in dedicated.items()}]
    if not dedicated:
        raise Unanswerable(f"`{path}` has no dedicated target (hint: leave out `--replicas`, or add one with `gpus:`)")
    if "=" in asked:
        return [_named(asked, dedicated)]
    return [dict.fromkeys(dedicated, number) for number in _numbers(asked)]


def _own(target: Target) -> int:
    behind = target.gpus.behind(target.replicas) if target.gpus is not None else None
    return target.replicas if behind is None else behind


def _named(asked: str, dedicated: Iterable[str]) -> dict[str, int]:
    pairs = dict(_pair(word) for word in asked.split(","))
    for name in pairs:
        if name not in dedicated:
            raise Unanswerable(f"`--replicas`: no dedicated target `{name}` (hint: {did_you_mean(name, dedicated)})")
    return {name: pairs.get(name, 0) for name in dedicated}


def _pair(word: str) -> tuple[str, int]:
    name, _, number = word.strip().rpartition("=")
    if not number.isdecimal() or int(number) > MOST_REPLICAS:
        raise Unanswerable(f"`--replicas`: `{word.strip()}` is no number of replicas (hint: `NAME=2`)")
    return name, int(number)


def _numbers(asked: str) -> list[int]:
    """`0..6`, `1,2,4`."""
    numbers: list[int] = []
    for word in asked.split(","):
        found = _RANGE.fullmatch(word.strip())
        low, high = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if low > high or high > MOST_REPLICAS:
            raise Unanswerable(f"`--replicas {asked}` is no number of replicas (hint: `0..6`, `2` or `1,2,4`)")
        numbers += range(low, high + 1)
    return list(dict.fromkeys(numbers))
