"""Run by the interpreter in question: prints as JSON what it is, how it was built, and how fast it is."""

# ruff: noqa: T201 - a command prints
from __future__ import annotations

import json
import platform
import sys
import sysconfig
import time


def optimised() -> str:
    """Whether this build was optimised by profile. Debian does it in its own rules: configure never says so there."""
    if "--enable-optimizations" in str(sysconfig.get_config_var("CONFIG_ARGS")):
        return "yes"
    if sys.base_prefix == "/usr" and "dtrace" in str(sysconfig.get_config_var("CONFIG_ARGS")):
        return "yes, by the distribution"
    return "no"


def loop_ms() -> float:
    """The best of seven runs of a loop of calls, dictionary and integer work, in milliseconds."""
    best_s = float("inf")
    for _ in range(7):
        counts: dict[int, int] = {}
        begun_s = time.perf_counter()
        for number in range(100_000):
            counts[number & 255] = counts.get(number & 255, 0) + len(str(number))
        best_s = min(best_s, time.perf_counter() - begun_s)
    return best_s * 1000


if __name__ == "__main__":
    base = getattr(sys, "_base_executable", sys.executable)
    print(
        json.dumps({"base": base, "version": platform.python_version(), "optimised": optimised(), "loop_ms": loop_ms()})
    )
