"""The schedule: which load each system gets, in which order, and which figures come out of it.

Every system is started once for the loads and then stopped with SIGSTOP; one is continued at a time. A repetition goes
through all of them, and every other one backwards, so that a drift of the machine falls on all alike.
"""

# ruff: noqa: T201 - a command prints
from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.bench.audit import shortfall
from tests.bench.counters import instructions_per_s
from tests.bench.installs import MissingError
from tests.bench.load import Generator, Seen, Watch, body, core_share, memory, nothing
from tests.bench.processes import Tree
from tests.bench.results import Results
from tests.bench.systems import SYSTEMS, Surroundings, System

FIXED_RATE_S = 200
OVER_CAPACITY = 0.8  # of the system's own maximum: beyond it an open-loop latency is a queue's length
SIZES_BYTES = {"8k": 8 * 1024, "100k": 100 * 1024}
CONNECTIONS = 64
IDLE_PACE_US = 1_000_000
IDLE_RAMP_S = 1.0
COUNTED_S = 2.0
STREAM_RAMP_S = 1.0  # as long as a stream lasts, so that they are spread evenly and stay so


@dataclass(frozen=True, slots=True)
class Effort:
    """How long each part of a repetition lasts, in seconds, and how many repetitions there are."""

    repetitions: int
    starts: int
    warmup_s: float
    closed_s: float
    sizes_s: float
    fixed_s: float
    stream_s: float
    idle_s: float
    instructions: bool = False


FULL = Effort(repetitions=3, starts=3, warmup_s=0.4, closed_s=2.0, sizes_s=1.0, fixed_s=2.0, stream_s=3.0, idle_s=2.5)
QUICK = Effort(repetitions=1, starts=1, warmup_s=0.3, closed_s=1.5, sizes_s=0.5, fixed_s=1.0, stream_s=1.5, idle_s=1.5)


@dataclass(slots=True)
class Running:
    """A started system; `tree` is None for the direct path."""

    system: System
    tree: Tree | None

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """Continued for as long as the block lasts."""
        if self.tree is None:
            yield
            return
        self.tree.resume()
        try:
            yield
        finally:
            self.tree.suspend()


@dataclass(slots=True)
class Bench:
    """One benchmark: it fills `results`."""

    surroundings: Surroundings
    generator: Generator
    effort: Effort
    results: Results
    answers: Counter[str] = field(default_factory=Counter)

    def prepare(self, names: Sequence[str]) -> list[System]:
        """Configure, and where need be install, every system that can be had; leave out the others, with the reason."""
        systems = []
        for name in names:
            try:
                system = SYSTEMS[name](self.surroundings)
            except MissingError as error:
                self.results.leave_out(name, "*", str(error))
                continue
            systems.append(system)
            if system.note:
                self.results.notes[name] = system.note
        return systems

    def run(self, systems: Sequence[System]) -> None:
        """Start every system, then load them in turn."""
        with contextlib.ExitStack() as stack:
            everyone = [running for system in systems if (running := self._start(system, stack))]
            for repetition in range(self.effort.repetitions):
                for running in everyone if repetition % 2 == 0 else reversed(everyone):
                    _tell(f"repetition {repetition + 1} of {self.effort.repetitions}: {running.system.name}")
                    with running.awake(), self._watched_for_waiting(running):
                        self._load(running, everyone)
            for running in everyone:
                with running.awake():
                    self._audit(running)
            if self.effort.instructions:
                for running in everyone:
                    with running.awake():
                        self._count_instructions(running)

    def _start(self, system: System, stack: contextlib.ExitStack) -> Running | None:
        if not system.command:
            return Running(system, None)
        _tell(f"starting {system.name}")
        try:
            tree = self._time_starts(system)
        except MissingError as error:
            self.results.leave_out(system.name, "*", str(error))
            return None
        stack.callback(tree.end)
        running = Running(system, tree)
        self._weigh(running, tree)
        tree.suspend()
        return running

    def _time_starts(self, system: System) -> Tree:
        """Start it, measured, `starts` times; where that is more than once, after once to warm the file cache."""
        if system.starts > 1:
            system.start(self.surroundings)[0].end()
        for last in [False] * (min(system.starts, self.effort.starts) - 1) + [True]:
            tree, start_s = system.start(self.surroundings)
            self.results.add(system.name, start_s=start_s)
            if not last:
                tree.end()
        return tree

    def _weigh(self, running: Running, tree: Tree) -> None:
        """Memory at rest, and what a thousand slow streams add to it once the connections to the upstream are warm."""
        name, streams = running.system.name, running.system.idle_streams
        tree.wait_quiet()
        rest = tree.memory()
        self.results.add(name, idle_pss_mb=rest.pss_mb, idle_rss_mb=rest.rss_mb)
        self._closed(running, 1024, self.effort.warmup_s)
        tree.wait_quiet()
        before = tree.memory()
        result, during = self._generate(
            running,
            body(1024, stream=True, pace_us=IDLE_PACE_US),
            memory(tree),
            warmup_s=IDLE_RAMP_S + 0.5,
            seconds=self.effort.idle_s,
            mode="stream",
            connections=streams,
            ramp=IDLE_RAMP_S,
        )
        if result["events_per_s"] < 0.9 * streams:
            reason = f"only {result['events_per_s']:.0f} events/s flowed in {streams} streams of 1/s"
            self.results.leave_out(name, "streams_pss_mb", reason)
            return
        per_thousand = 1000 / streams
        self.results.add(
            name,
            streams_pss_mb=(during.pss_mb - before.pss_mb) * per_thousand,
            streams_rss_mb=(during.rss_mb - before.rss_mb) * per_thousand,
        )

    def _load(self, running: Running, everyone: Sequence[Running]) -> None:
        """One repetition of every load on one system."""
        name, effort = running.system.name, self.effort
        closed = self._closed(running, 1024, effort.closed_s)
        maximum_s, latency = closed["answers_per_s"], closed["latency_us"]
        self.results.add(name, req_s_1k=maximum_s, closed_p50_us=latency["p50"], closed_p99_us=latency["p99"])
        for label, size_bytes in SIZES_BYTES.items():
            self.results.add(
                name, **{f"req_s_{label}": self._closed(running, size_bytes, effort.sizes_s)["answers_per_s"]}
            )
        if maximum_s * OVER_CAPACITY > FIXED_RATE_S:
            self._at_rate(running, FIXED_RATE_S, "fixed", of=name)
        else:
            self.results.leave_out(name, "fixed_p50_us", f"its maximum is {maximum_s:.0f}/s")
        direct = next((other for other in everyone if other.tree is None), None)
        if running.tree is not None and maximum_s:
            self._at_rate(running, maximum_s / 2, "half", of=name)
            if direct is not None:
                self._at_rate(direct, maximum_s / 2, "half_direct", of=name)
        self._stream(running)

    def _closed(self, running: Running, size_bytes: int, seconds: float) -> dict[str, Any]:
        result, _ = self._generate(
            running, body(size_bytes), nothing, seconds=seconds, mode="closed", connections=CONNECTIONS
        )
        return result

    def _at_rate(self, running: Running, rate_s: float, label: str, *, of: str) -> None:
        """Latency at a fixed rate of arrivals, recorded as a figure of the system `of`."""
        result, _ = self._generate(
            running, body(1024), nothing, seconds=self.effort.fixed_s, mode="open", rate=rate_s, connections=CONNECTIONS
        )
        latency = result["latency_us"]
        self.results.add(of, **{f"{label}_p50_us": latency["p50"], f"{label}_p99_us": latency["p99"]})

    def _stream(self, running: Running) -> None:
        """Streams of 100 events/s each: what flows, how late, and at what cost in CPU."""
        system = running.system
        result, share = self._generate(
            running,
            body(1024, stream=True),
            core_share(running.tree) if running.tree else nothing,
            warmup_s=STREAM_RAMP_S + 0.3,
            seconds=self.effort.stream_s,
            mode="stream",
            connections=system.streams,
            ramp=STREAM_RAMP_S,
        )
        transit, first_token, events_s = result["transit_us"], result["first_token_us"], result["events_per_s"]
        self.results.add(
            system.name,
            events_s=events_s,
            transit_p50_us=transit["p50"],
            transit_p99_us=transit["p99"],
            ttft_p50_us=first_token["p50"],
            ttft_p99_us=first_token["p99"],
        )
        if running.tree and events_s:
            self.results.add(system.name, core_share=share, event_cpu_us=1e6 * share / events_s)

    @contextlib.contextmanager
    def _watched_for_waiting(self, running: Running) -> Iterator[None]:
        """Record the share of its running time that the system waited for its core: the noise it was measured in."""
        tree = running.tree
        if tree is None:
            yield
            return
        waited_s, used_s = tree.waited_s(), tree.cpu_s()
        yield
        waited_s, used_s = tree.waited_s() - waited_s, tree.cpu_s() - used_s
        self.results.add(running.system.name, waited_share=waited_s / (waited_s + used_s))

    def _audit(self, running: Running) -> None:
        system = running.system
        if running.tree is not None and system.admin_port is not None:
            short = shortfall(self.answers[system.name], admin_port=system.admin_port, log=running.tree.log)
            if short:
                self.results.errors.setdefault(system.name, []).append(short)

    def _count_instructions(self, running: Running) -> None:
        """Thousands of instructions a request at full load and an event at the streams' rate, user and kernel apart."""
        if running.tree is None:
            return
        system = running.system
        _tell(f"counting instructions: {system.name}")
        stream: dict[str, Any] = {
            "mode": "stream",
            "connections": system.streams,
            "ramp": STREAM_RAMP_S,
            "warmup_s": STREAM_RAMP_S,
        }
        try:
            watch = instructions_per_s(running.tree)
            requests, per_s = self._generate(
                running, body(1024), watch, seconds=COUNTED_S, mode="closed", connections=CONNECTIONS
            )
            self._add_instructions(system.name, "req", per_s, requests["answers_per_s"])
            events, per_s = self._generate(running, body(1024, stream=True), watch, seconds=COUNTED_S, **stream)
            self._add_instructions(system.name, "event", per_s, events["events_per_s"])
        except MissingError as error:
            self.results.leave_out(system.name, "instructions", str(error))

    def _add_instructions(self, name: str, unit: str, per_s: dict[str, float], units_per_s: float) -> None:
        if units_per_s:
            self.results.add(name, **{f"{unit}_kinstr_{space}": n / units_per_s / 1000 for space, n in per_s.items()})

    def _generate(
        self, running: Running, request: bytes, watch: Watch[Seen], *, warmup_s: float | None = None, **options: Any
    ) -> tuple[dict[str, Any], Seen]:
        """One run of the generator, begun once the system has worked off the one before."""
        if running.tree is not None:
            running.tree.wait_quiet()
        result, seen = self.generator.run(
            port=running.system.port,
            headers=running.system.headers,
            request=request,
            watch=watch,
            warmup_s=self.effort.warmup_s if warmup_s is None else warmup_s,
            **options,
        )
        self.answers[running.system.name] += result["answers"]
        if result["errors"]:
            what = f"{options['mode']} {len(request)} B: {result['errors']} errors, first: {result['first_error']}"
            self.results.errors.setdefault(running.system.name, []).append(what)
        return result, seen


def _tell(progress: str) -> None:
    print(progress, file=sys.stderr, flush=True)
