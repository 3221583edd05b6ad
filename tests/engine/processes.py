"""Starts a server in a process group of its own, waits until it answers, and ends the whole group afterwards."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

POLL_S = 0.1
GRACE_S = 10.0


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(
    command: list[str | Path], *, ready: str, log: Path, deadline_s: float, env: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs `command` until the block ends; enters the block once a GET of `ready` gives 200.

    Its output goes to `log`, whose end is in the error when the process dies or is not ready in time.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | dict(env),
            start_new_session=True,
        )
    try:
        await_ready(process, ready, log, deadline_s)
        yield process
    finally:
        end_group(process)


def await_ready(process: subprocess.Popen[bytes], url: str, log: Path, deadline_s: float) -> None:
    deadline = time.monotonic() + deadline_s
    while not answers(url):
        if process.poll() is not None:
            raise RuntimeError(f"`{process.args!r}` ended with {process.returncode}:\n{tail(log)}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"`{url}` does not answer after {deadline_s:.0f} s:\n{tail(log)}")
        time.sleep(POLL_S)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def tail(log: Path, characters: int = 4000) -> str:
    return log.read_text(errors="replace")[-characters:]


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Asks the group to end, then insists; vLLM's engine core is a child that can outlive its server."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
