"""`spillway demo` as a user runs it: in a terminal, interrupted, or for a time."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

DEMO = [sys.executable, "-m", "proxy", "demo"]
SHOW_CURSOR, LEAVE_ALTERNATE_SCREEN = b"\x1b[?25h", b"\x1b[?1049l"


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the demo keeps its temporary folder, so that its traces can be looked for."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def running_in(folder: Path) -> list[int]:
    """Processes whose command line mentions the folder (Linux)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(folder) in words:
            found.append(int(path.parent.name))
    return found


def test_a_timed_run_shows_spill_and_return_and_leaves_nothing_behind(scratch: Path) -> None:
    ran = subprocess.run([*DEMO, "--seconds", "20"], check=False, capture_output=True, text=True, timeout=90)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "SIMULATED" in ran.stdout
    assert re.search(r"s  spilling begins: dedicated at capacity: 16 of 16 in flight", ran.stdout)
    assert re.search(r"at \d+\.\d s traffic is back on the dedicated GPUs", ran.stdout)
    assert " 0 failed" in ran.stdout
    assert list(scratch.iterdir()) == []
    assert running_in(scratch) == []


def test_ctrl_c_in_a_terminal_restores_it_and_leaves_nothing_behind(scratch: Path) -> None:
    """The signal goes to the whole foreground group, as a terminal sends it."""
    pid, terminal = pty.fork()
    if pid == 0:  # in the child
        os.execv(sys.executable, DEMO)
    shown = b""
    with os.fdopen(terminal, "rb", buffering=0) as screen:
        interrupted = False
        while True:
            try:
                piece = screen.read(65536)
            except OSError:  # EIO: the other side is closed (Linux)
                break
            if not piece:
                break
            shown += piece
            if not interrupted and b"simulated-engine" in shown:
                os.killpg(os.getpgid(pid), signal.SIGINT)
                interrupted = True
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert b"SIMULATED" in shown
    assert b"Traceback" not in shown
    after = shown[shown.rindex(LEAVE_ALTERNATE_SCREEN) :]
    assert SHOW_CURSOR in shown[shown.rindex(b"\x1b[?25l") :]
    assert b"requests answered, 0 failed" in after
    assert list(scratch.iterdir()) == []
    assert running_in(scratch) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a process to its parent")
def test_kill_9_takes_the_proxy_and_its_store_along(scratch: Path) -> None:
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        while "dedicated" not in demo.stdout.readline():
            assert demo.poll() is None
        proxy_and_store = [os.pidfd_open(pid) for pid in running_in(scratch)]
        assert len(proxy_and_store) >= 2
        demo.kill()
    for process in proxy_and_store:
        ended, _, _ = select.select([process], [], [], 10.0)
        os.close(process)
        assert ended
