"""Which processor core each part of a benchmark runs on, and what else ran there meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Layout:
    """One core each for the upstream, the system under test, the generator and this driver, as far as they go."""

    upstream: int
    system: int
    generator: int
    driver: int
    compromise: str = ""

    @classmethod
    def over(cls, cores: Iterable[int]) -> Layout:
        """The best use of these cores: the system under test shares its own last, then the generator."""
        match sorted(cores)[:4]:
            case [upstream, system, generator, driver]:
                return cls(upstream, system, generator, driver)
            case [upstream, system, generator]:
                return cls(upstream, system, generator, upstream, "3 cores: the driver shares the upstream's")
            case [rest, system]:
                return cls(
                    rest,
                    system,
                    rest,
                    rest,
                    "2 cores: upstream, generator and driver share one, so they may be the limit",
                )
            case [only]:
                return cls(
                    only, only, only, only, "1 core: everything shares it; no figure compares with another machine's"
                )
            case _:
                raise ValueError("a benchmark needs a core to run on")


def pinned(core: int, command: list[str]) -> list[str]:
    """The command that runs `command` on one core only. `taskset` execs it, so the process id stays the same."""
    return ["taskset", "--cpu-list", str(core), *command]


@dataclass(frozen=True, slots=True)
class CoreTimes:
    """Seconds of a core since boot: busy with any process, and stolen by the hypervisor for another machine."""

    busy_s: float
    stolen_s: float

    @classmethod
    def of(cls, core: int) -> CoreTimes:
        """Read from /proc/stat: user nice system idle iowait irq softirq steal."""
        for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
            name, *fields = line.split()
            if name == f"cpu{core}":
                user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(int, fields)
                return cls((user + nice + system + irq + softirq) / TICKS_PER_S, steal / TICKS_PER_S)
        raise ValueError(f"/proc/stat has no core {core}")
