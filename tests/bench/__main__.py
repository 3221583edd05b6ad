"""The benchmark: Spillway beside nginx, the Rust vllm-router, LiteLLM's proxy, and no proxy at all, on one core each.

    python -m tests.bench                     everything, about five minutes; writes bench-out/bench.json
    python -m tests.bench --quick             one repetition, about a minute: a look, not a figure to quote
    python -m tests.bench --only spillway,nginx
    python -m tests.bench --perf              also instructions per request and per event
    python -m tests.bench --python PATH       another interpreter, which must have Spillway's dependencies

A mock upstream (mock_upstream.c) runs on one core, the system under test alone on the next, the load generator
(load_generator.c) on a third and this driver on a fourth. It needs Linux, gcc, taskset, nginx and, for the first run, a
package index from which vllm-router and litellm[proxy] come into environments of their own in the user's cache folder.
What is missing is named, and its bars are reported as not measured.

The exit status is 0 when every bar passes, 1 when one fails or could not be measured, 2 when nothing could be run.
"""

# ruff: noqa: T201 - a command prints
from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.bench import report
from tests.bench.bars import verdicts
from tests.bench.cores import CoreTimes, Layout, pinned
from tests.bench.installs import Interpreter, MissingError, compiled, program
from tests.bench.load import Generator, children_cpu_s
from tests.bench.measure import FULL, QUICK, Bench
from tests.bench.processes import Tree, raised_priority
from tests.bench.results import Results
from tests.bench.systems import ROOT, SYSTEMS, Surroundings, System, free_port

OUT = ROOT / "bench-out"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for, print the tables, and return the exit status."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whichever way it is ended, nothing it started stays
    try:
        if sys.platform != "linux":
            raise MissingError("the benchmark reads /proc and pins cores, so it needs Linux")
        program("taskset", package="util-linux")
        return _bench(options)
    except MissingError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one short repetition")
    parser.add_argument("--perf", action="store_true", help="also count instructions, where the processor lets us")
    parser.add_argument("--only", metavar="A,B", help=f"some of {','.join(SYSTEMS)}; `direct` is always there")
    parser.add_argument("--json", metavar="FILE", type=Path, default=OUT / "bench.json", help="where every sample goes")
    parser.add_argument(
        "--python", metavar="PATH", default=sys.executable, help="what runs Spillway and, installed anew, LiteLLM"
    )
    options = parser.parse_args(arguments)
    options.systems = [
        name for name in SYSTEMS if name == "direct" or not options.only or name in options.only.split(",")
    ]
    if unknown := set((options.only or "").split(",")) - {*SYSTEMS, ""}:
        parser.error(f"no system is called `{min(unknown)}`; there are {', '.join(SYSTEMS)}")
    return options


def _bench(options: argparse.Namespace) -> int:
    layout = Layout.over(os.sched_getaffinity(0))
    interpreter = Interpreter.at(options.python)
    results = Results()
    with tempfile.TemporaryDirectory(prefix="spillway-bench-") as folder:
        generator = Generator(compiled("load_generator.c"), layout.generator, Path(folder))
        surroundings = Surroundings(free_port(), layout.system, Path(folder), interpreter)
        effort = replace(QUICK if options.quick else FULL, instructions=options.perf)
        bench = Bench(surroundings, generator, effort, results)
        systems = bench.prepare(options.systems)
        about = _about(layout, interpreter, [f"{system.name} {system.version}".strip() for system in systems])
        with raised_priority() as about["priority"]:
            print("\n".join(f"{name}: {value}" for name, value in about.items()), flush=True)
            os.sched_setaffinity(0, {layout.driver})
            about["noise"] = _run_all(bench, systems, layout)
    judged = verdicts(results)
    print(f"noise: {about['noise']}\n\n{report.tables(results, options.systems)}\n\n{report.bars(judged)}")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report.document(results, judged, about), indent=1) + "\n", encoding="utf-8")
    print(f"\nevery sample: {options.json}")
    return 0 if all(verdict.word == "PASS" for verdict in judged) else 1


def _run_all(bench: Bench, systems: Sequence[System], layout: Layout) -> str:
    """Run the benchmark over one upstream; returns how noisy the machine was."""
    noise = Noise(layout)
    where = bench.surroundings
    command = [compiled("mock_upstream.c"), str(where.upstream_port)]
    upstream = Tree(pinned(layout.upstream, command), log=where.folder / "upstream.log")
    try:
        bench.run(systems)
    finally:
        upstream.end()
    return str(noise)


class Noise:
    """What ran on the measuring cores from now on and was not ours. Read it when every process of the run has ended."""

    def __init__(self, layout: Layout) -> None:
        self._cores = {layout.upstream, layout.system, layout.generator}
        self._driver_counts = layout.driver in self._cores
        self._begun = self._read()

    def __str__(self) -> str:
        lasted_s, busy_s, stolen_s, own_s = (now - then for now, then in zip(self._read(), self._begun, strict=True))
        core_s = lasted_s * len(self._cores)
        foreign = max(0.0, busy_s - own_s) / core_s
        stolen = stolen_s / core_s
        return f"in {lasted_s:.0f} s others used {foreign:.1%} of the measuring cores, the hypervisor took {stolen:.1%}"

    def _read(self) -> tuple[float, float, float, float]:
        times = [CoreTimes.of(core) for core in self._cores]
        own_s = children_cpu_s() + (time.process_time() if self._driver_counts else 0.0)
        return time.monotonic(), sum(each.busy_s for each in times), sum(each.stolen_s for each in times), own_s


def _about(layout: Layout, interpreter: Interpreter, versions: Sequence[str]) -> dict[str, Any]:
    cores = f"upstream {layout.upstream}, system {layout.system}, generator {layout.generator}, driver {layout.driver}"
    return {
        "when": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "machine": f"{_cpu_model()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "cores": f"{cores}{'; ' + layout.compromise if layout.compromise else ''}",
        "python": str(interpreter),
        "systems": ", ".join(versions),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    sys.exit(main())
