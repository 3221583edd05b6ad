"""What routing costs beside the least that anybody could have paid: the table of regrets.

    python -m tests.bench.regret TRACE...              each trace under ours, under other rules, and its bound
    python -m tests.bench.regret TRACE@3               three times as fast
    python -m tests.bench.regret TRACE --apart LONG    a trace that is reported and does not count
    python -m tests.bench.regret --robust TRACE@3:3    with three replicas, while something is wrong

Ours has one configuration, and as many replicas as the advisor says. All other rules are tuned with hindsight, for each
trace and over all numbers of replicas, to cost the least at 99 % attainment. Regret is cost divided by the bound.

The exit status is 0 when every bar is met, else 1. A trace of a day takes minutes for each rule.
"""

# ruff: noqa: T201 - a command prints
from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.bench import regret_report as report
from tests.bench import regret_runs as runs
from tests.bench.regret_robust import TROUBLES, troubled
from tests.bench.regret_runs import Least, Row, Setting

POLICY = Path(__file__).with_name("regret.yaml")
RULES: dict[str, Callable[[Setting, Least], Row | None]] = {
    "in flight": runs.in_flight,
    "queue": runs.queue,
    "AIMD": runs.aimd,
    "weight": runs.weight,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay what the command line asks for, print the table, and return the exit status."""
    options = _options(arguments)
    context = multiprocessing.get_context("spawn")  # threads of Arrow's do not survive a fork
    with ProcessPoolExecutor(options.processes, context) as pool:
        runner = Runner(pool)
        asked = [Asked(runner, one, options.most, counts=True) for one in options.traces]
        asked += [Asked(runner, one, options.most, counts=False) for one in options.apart]
        trouble = [
            runner.submit(name, troubled, setting, replicas, name)
            for setting, replicas in options.robust
            for name in TROUBLES
        ]
        for one in asked:
            one.ask_peak(runner)
        for rule in options.rules:
            for one in asked:
                one.ask_rule(runner, rule)
        traffic = [one.traffic() for one in asked]
        robust = [future.result() for future in trouble]
    judged = report.bars(traffic, robust)
    print(report.table(traffic))
    for index, (setting, _) in enumerate(options.robust):
        rows = robust[index * len(TROUBLES) : (index + 1) * len(TROUBLES)]
        print(f"\n{report.robust_table(setting.name, rows)}")
    print("\n" + "\n".join(map(str, judged)))
    if options.json:
        options.json.write_text(json.dumps(report.document(traffic, robust, judged), indent=1) + "\n", "utf-8")
    return 0 if all(bar.met for bar in judged) else 1


class Runner:
    """Hands tasks to the pool, and tells on the terminal what has come of each."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def submit(self, name: str, task: Callable[..., Any], setting: Setting, *rest: Any) -> Future[Any]:
        future = self._pool.submit(task, setting, *rest)
        future.add_done_callback(lambda done: _tell(f"{setting.name}, {name}", done))
        return future


def _tell(name: str, done: Future[Any]) -> None:
    if done.cancelled() or done.exception() is not None:
        return
    found = done.result()
    if isinstance(found, Row):
        found = f"k {found.replicas}, {found.usd_per_hour:.2f} $/h, {found.met:.2%} met, worst {found.worst:.2%}"
    elif isinstance(found, Least):
        found = f"k {found.replicas}, {found.usd_per_hour:.2f} $/h"
    print(f"{time.strftime('%H:%M:%S')} {name}: {found}", file=sys.stderr, flush=True)


class Asked:
    """One trace on its way through the pool: what is certain to be wanted goes in first."""

    def __init__(self, runner: Runner, setting: Setting, most: int, *, counts: bool) -> None:
        self._setting = setting
        self._counts = counts
        self._advised: tuple[int, list[float]] = runs.advised(setting)
        self._least = runner.submit("bound", runs.least, setting)
        counted = sorted({*range(most + 1), self._advised[0]})
        self._ours = {count: runner.submit(f"ours with {count}", runs.ours, setting, count) for count in counted}
        self._others: dict[str, Future[Row | None]] = {}

    def ask_peak(self, runner: Runner) -> None:
        """How many replicas would serve all of it."""
        self._peak: Future[Row] = runner.submit("all dedicated", runs.peak, self._setting)

    def ask_rule(self, runner: Runner, rule: str) -> None:
        """The best of another rule, where the bound leaves room for it."""
        self._others[rule] = runner.submit(rule, RULES[rule], self._setting, self._least.result())

    def traffic(self) -> report.Traffic:
        """All of it, once it is there."""
        advised, bills = self._advised
        return report.Traffic(
            name=self._setting.name,
            counts=self._counts,
            least=self._least.result(),
            advised=advised,
            bills=bills,
            ours={count: future.result() for count, future in self._ours.items()},
            peak=self._peak.result(),
            others={rule: future.result() for rule, future in self._others.items()},
        )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.regret", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("traces", metavar="TRACE[@RATE]", nargs="*", help="a file that `spillway replay` reads")
    parser.add_argument("--apart", metavar="TRACE[@RATE]", action="append", default=[], help="shown, but no bar's")
    parser.add_argument("--robust", metavar="TRACE[@RATE]:REPLICAS", action="append", default=[], help="in trouble")
    parser.add_argument("--policy", metavar="FILE", type=Path, default=POLICY, help="default: tests/bench/regret.yaml")
    parser.add_argument("--chunk", metavar="TOKENS", type=int, help="another `max_batched_tokens` for the engines")
    parser.add_argument("--tokens-per-s", metavar="N", type=float, help="apart: TTFT objective + in / N seconds")
    parser.add_argument("--rules", metavar="A,B", default=",".join(RULES), help=f"some of {','.join(RULES)}")
    parser.add_argument("--most", metavar="K", type=int, default=4, help="ours with 0 to so many replicas (default 4)")
    parser.add_argument("--processes", metavar="N", type=int, default=3, help="default 3")
    parser.add_argument("--json", metavar="FILE", type=Path, help="where everything goes")
    options = parser.parse_args(arguments)
    options.rules = [rule for rule in options.rules.split(",") if rule]
    if unknown := set(options.rules) - set(RULES):
        parser.error(f"no rule is called `{min(unknown)}`; there are {', '.join(RULES)}")
    if not options.traces and not options.apart and not options.robust:
        parser.error("say at least one trace")

    def setting(text: str) -> Setting:
        path, _, rate = text.partition("@")
        return Setting(path=Path(path), policy=options.policy, rate=float(rate or 1), chunk=options.chunk)

    options.traces = [setting(one) for one in options.traces]
    options.apart = [replace(setting(one), tokens_per_s=options.tokens_per_s) for one in options.apart]
    options.robust = [(setting(one.rpartition(":")[0]), int(one.rpartition(":")[2])) for one in options.robust]
    return options


if __name__ == "__main__":
    sys.exit(main())
