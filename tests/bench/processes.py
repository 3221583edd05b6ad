"""Processes of a benchmark, each as a whole tree: started, stopped, continued, ended, and read for time and memory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench.cores import TICKS_PER_S

MB = 1_000_000
NICE = -15
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MINIMAL_ENVIRONMENT = ("PATH", "HOME", "LANG", "TMPDIR")


@dataclass(frozen=True, slots=True)
class Memory:
    """Megabytes resident: `pss_mb` counts a page that n processes share as 1/n in each, `rss_mb` as one in each."""

    pss_mb: float
    rss_mb: float


class Tree:
    """A process and all its descendants, which count together: an embedded store is part of what a proxy costs."""

    def __init__(
        self, command: list[str], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        """Start `command` with its output appended to `log`, and with only the named variables plus `env` set.

        A caller's PYTHONUNBUFFERED or PYTHONDONTWRITEBYTECODE must not change what is measured.
        """
        inherited = {name: os.environ[name] for name in MINIMAL_ENVIRONMENT if name in os.environ}
        self.log = log
        with log.open("ab") as output:
            self.started_s = time.monotonic()
            self._root = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=inherited | dict(env or {}),
                cwd=cwd,
            )

    @property
    def pid(self) -> int:
        return self._root.pid

    @property
    def exit_status(self) -> int | None:
        """None while the root process runs."""
        return self._root.poll()

    def pids(self) -> list[int]:
        """The root first, then its descendants."""
        found = [self.pid]
        for pid in found:
            found.extend(_children(pid))
        return found

    def cpu_s(self) -> float:
        """User plus system time of every process of the tree that is alive, in seconds."""
        return sum(_cpu_ticks(pid) for pid in self.pids()) / TICKS_PER_S

    def waited_s(self) -> float:
        """How long its threads have stood ready without a core, in seconds: what other programs took from it."""
        return sum(_waited_ns(pid) for pid in self.pids()) / 1e9

    def memory(self) -> Memory:
        pids = self.pids()
        return Memory(pss_mb=sum(map(_pss_bytes, pids)) / MB, rss_mb=sum(map(_rss_bytes, pids)) / MB)

    def wait_quiet(self, *, limit_s: float = 5.0, calm_s: float = 0.1) -> None:
        """Return when the tree has used almost no CPU for `calm_s`: what the last load left has been worked off."""
        deadline_s = time.monotonic() + limit_s
        before_s = self.cpu_s()
        while time.monotonic() < deadline_s:
            time.sleep(calm_s)
            now_s = self.cpu_s()
            if now_s - before_s <= 0.1 * calm_s + 1 / TICKS_PER_S:
                return
            before_s = now_s

    def share_priority(self) -> None:
        """Give our nice value to sessions that descendants began: each would have a share of the core by itself."""
        nice = os.getpriority(os.PRIO_PROCESS, 0)
        if nice < 0:
            for pid in self.pids():
                _set_session_nice(nice, pid)

    def suspend(self) -> None:
        """Stop every process, the root first, so that it starts no more while the others are found."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def end(self, *, grace_s: float = 10.0) -> None:
        """Ask the root to end, and kill what is left of the tree after `grace_s`."""
        born = {pid: _birth_ticks(pid) for pid in self.pids()}
        self.resume()
        self._root.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._root.wait(grace_s)
        for pid, ticks in born.items():
            if ticks is not None and _birth_ticks(pid) == ticks:  # alive, and not another process with its number
                os.kill(pid, signal.SIGKILL)
        self._root.wait()

    def last_words(self) -> str:
        """The last lines of its output that say anything, for an error message."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        return " / ".join(lines[-3:]) or "no output"

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _children(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            yield from map(int, (task / "children").read_text(encoding="ascii").split())


@contextlib.contextmanager
def raised_priority() -> Iterator[str]:
    """Run this process, and what it starts meanwhile, ahead of other work where we may; says what was done.

    Linux shares a core among sessions before it shares it among their processes (sched(7), "The autogroup feature"): a
    nice value alone changes nothing against another terminal or service: the session's own has to be lowered as well.
    """
    before = os.getpriority(os.PRIO_PROCESS, 0)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    except PermissionError:
        yield "normal (raising it needs root)"
        return
    session = _set_session_nice(NICE)
    try:
        yield f"nice {NICE}" + ("" if session is None else ", the session too")
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)
        if session is not None:
            _set_session_nice(session)


def _set_session_nice(nice: int, pid: int | str = "self") -> int | None:
    """The nice value that the session of `pid` had before; None where sessions have none, or where we may not."""
    autogroup = Path(f"/proc/{pid}/autogroup")
    try:
        before = int(autogroup.read_text(encoding="ascii").split()[-1])
        autogroup.write_text(str(nice), encoding="ascii")
    except (OSError, ValueError, IndexError):
        return None
    return before


def _stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on: the second, the name in brackets, may hold blanks."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return []


def _cpu_ticks(pid: int) -> int:
    fields = _stat_fields(pid)
    return int(fields[11]) + int(fields[12]) if fields else 0


def _waited_ns(pid: int) -> int:
    """The second figure of each thread's schedstat (kernel documentation, scheduler/sched-stats)."""
    waited = 0
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            waited += int((task / "schedstat").read_text(encoding="ascii").split()[1])
    return waited


def _birth_ticks(pid: int) -> int | None:
    fields = _stat_fields(pid)
    return int(fields[19]) if fields else None


def _rss_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * PAGE_BYTES
    except OSError:
        return 0


def _pss_bytes(pid: int) -> int:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)
