"""Runs replays, in as many processes as there are cores for them, and tells how far they are."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, MutableSequence, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from proxy.advisor.figures import Figures, figures
from proxy.advisor.replay_bound import Least, least_of
from proxy.advisor.replay_report import Report, traffic_of
from proxy.advisor.replay_rules import best_of_each, rules_of
from proxy.advisor.scenario import DEFAULT_SPEED
from proxy.advisor.simulate import simulate
from proxy.advisor.trace import Trace
from proxy.cli.policy_assumed import checked
from proxy.policy.engine_profile import ASSUMED
from proxy.policy.model import Key, Lane, Rules, Snapshot, Target, Tenant
from proxy.policy.source import Source

POLL_S = 0.1
NOT_REPLAYED = "Budgets and rates are not replayed: nothing is refused for them."
Told = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One replay: a policy's text, by the name that reports have for it, with so many replicas of its targets.

    `rule` names a rule of others that is followed in the place of the policy's own, if any.
    """

    source: Source
    policy: str
    replicas: dict[str, int]
    seed: int
    bound: bool
    rule: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What is kept of a run, and the bound if that was asked for and there is one."""

    figures: Figures
    least: Least | None


def run_all(trace: Trace, jobs: Sequence[Job], processes: int = 0) -> Report:
    """Every job, in up to `processes` at one time: 0 is as many as there are cores. Keeps the order of the jobs."""
    workers = min(len(jobs), processes or _cores())
    with _shown(len(trace) * len(jobs)) as show:
        done = _alone(trace, jobs, show) if workers == 1 else _together(trace, jobs, workers, show)
    ours = [one.figures for job, one in zip(jobs, done, strict=True) if not job.rule]
    others = [one.figures for job, one in zip(jobs, done, strict=True) if job.rule]
    return Report(
        traffic=traffic_of(trace),
        runs=tuple(ours),
        baselines=best_of_each(others),
        bounds={job.policy: one.least for job, one in zip(jobs, done, strict=True) if one.least is not None},
        assumptions=_assumptions(jobs),
    )


def _cores() -> int:
    """Those that this process may use, where the system says which."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(trace: Trace, job: Job, progress: Told) -> Done:
    """One job, here and now."""
    snapshot = checked(job.source).snapshot
    replicas, seed = job.replicas, job.seed
    if job.rule:
        replayed = rules_of(snapshot)[job.rule].replay(trace, snapshot, replicas=replicas, seed=seed)
    else:
        replayed = simulate(trace, snapshot, replicas=replicas, seed=seed, policy=job.policy, progress=progress)
    progress(len(trace))
    least = least_of(replayed, snapshot) if job.bound else None
    return Done(figures=figures(dataclasses.replace(replayed, replicas=replicas)), least=least)


def _alone(trace: Trace, jobs: Sequence[Job], show: Told) -> list[Done]:
    found = []
    for number, job in enumerate(jobs):
        before = number * len(trace)
        found.append(run(trace, job, lambda count, before=before: show(before + count)))  # type: ignore[misc]
    return found


def _together(trace: Trace, jobs: Sequence[Job], workers: int, show: Told) -> list[Done]:
    context = multiprocessing.get_context("spawn")  # threads of Arrow's do not survive a fork
    counts = context.Array("q", len(jobs), lock=False)
    with ProcessPoolExecutor(workers, context, _begin, (trace, counts)) as pool:
        futures = [pool.submit(_in_worker, job, number) for number, job in enumerate(jobs)]
        try:
            for _ in _until_done(futures):
                show(sum(counts))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result() for future in futures]


def _until_done(futures: Sequence[Future[Done]]) -> Iterator[None]:
    while True:
        finished, rest = wait(futures, POLL_S, FIRST_EXCEPTION)
        for future in finished:
            future.result()
        if not rest:
            return
        yield


_OF_WORKER: list[tuple[Trace, MutableSequence[int]]] = []
"""In a worker: the trace, which every job of it replays, and where it tells how far each job is."""


def _begin(trace: Trace, counts: MutableSequence[int]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the terminal's ctrl-c ends workers without a word
    _OF_WORKER.append((trace, counts))


def _in_worker(job: Job, number: int) -> Done:
    ((trace, counts),) = _OF_WORKER

    def progress(count: int) -> None:
        counts[number] = count

    return run(trace, job, progress)


@contextmanager
def _shown(total: int) -> Iterator[Told]:
    """A bar on the terminal; nothing where there is none."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns: Any = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("replaying", total=total)

        def show(count: int) -> None:
            bar.update(task, completed=count, description="replaying" if count < total else "working out the bound")

        yield show


def _assumptions(jobs: Sequence[Job]) -> tuple[str, ...]:
    """What stood in for what, for each policy once."""
    sources = {job.policy: job.source for job in jobs}
    snapshots = [checked(source).snapshot for source in sources.values()]
    told = [sentence for snapshot in snapshots for sentence in _of_engines(snapshot)]
    shared = (
        f"Shared targets give the first token after a median of {DEFAULT_SPEED.ttft_median_s:g} s (P99 "
        f"{DEFAULT_SPEED.ttft_p99_s:g} s), then {DEFAULT_SPEED.tokens_per_s:g} tokens a second."
    )
    return (*dict.fromkeys(told), shared, *([NOT_REPLAYED] if any(map(_has_limits, snapshots)) else ()))


def _has_limits(snapshot: Snapshot) -> bool:
    rules = [rules for route in snapshot.routes for rules in (route.require, route.want)]
    limited: tuple[Target | Tenant | Key | Rules, ...] = (
        *snapshot.targets.values(),
        *snapshot.tenants.values(),
        *snapshot.keys.values(),
        *rules,
    )
    return bool(snapshot.budgets) or any(one.limits for one in limited)


def _of_engines(snapshot: Snapshot) -> Iterator[str]:
    for target in snapshot.targets.values():
        if target.lane is not Lane.DEDICATED:
            continue
        profile = target.profile
        engine = f"{ASSUMED.name}, in want of a profile" if profile is None else f"{profile.name} ({profile.source})"
        yield f"A replica of {target.name} steps like {engine}."
        if target.gpus is None or not target.gpus.nano_usd_per_hour:
            yield f"The GPUs of {target.name} have no price in the policy: their hours are counted as free."
