"""Instructions per request and per event, from the processor's own counters: they hardly depend on the machine's mood.

Attaching stalls the machine for a moment, so this is a run of its own and no latency is taken from it.
"""

from __future__ import annotations

import subprocess

from tests.bench.installs import MissingError, program
from tests.bench.load import Watch
from tests.bench.processes import Tree

EVENTS = {"instructions:u": "user", "instructions:k": "kernel"}


def instructions_per_s(tree: Tree) -> Watch[dict[str, float]]:
    """Watch the instructions a second of `tree`, in user space and in the kernel, in the middle of the window.

    Raises (when the load runs):
        MissingError: there is no perf, it may not be used, or the machine (most virtual ones) has no counters.
    """
    perf = program("perf", package="linux-perf")

    def watch(warmup_s: float, seconds: float) -> dict[str, float]:
        counted_s = seconds / 2
        pids = ",".join(map(str, tree.pids()))
        command = [perf, "stat", "-x", ",", "-e", ",".join(EVENTS), "-p", pids, "--", "sleep"]
        subprocess.run(["sleep", str(warmup_s + seconds / 4)], check=True)
        done = subprocess.run([*command, str(counted_s)], capture_output=True, text=True, check=False)
        return {space: count / counted_s for space, count in counts(done.stderr).items()}

    return watch


def counts(report: str) -> dict[str, float]:
    """The counts in the output of `perf stat -x ,`, by the space they were counted in.

    Raises:
        MissingError: an event is not counted on this machine, with perf's own word for it.
    """
    found = {}
    for line in report.splitlines():
        value, _, event, *_ = [*line.split(","), "", ""]
        if event in EVENTS:
            if not value.isdigit():
                raise MissingError(f"perf says `{value}` of {event}: the machine shows no instruction counter")
            found[EVENTS[event]] = float(value)
    if len(found) != len(EVENTS):
        raise MissingError(f"perf counted nothing: {report.strip().rpartition(chr(10))[2] or 'no output'}")
    return found
