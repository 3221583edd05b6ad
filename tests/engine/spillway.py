"""The real proxy, as its users start it: `python -m proxy serve` in a process of its own."""

import hashlib
import json
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tests.engine import vllm
from tests.engine.processes import free_port, serving

T = TypeVar("T")

START_DEADLINE_S = 30.0
KEY = "sk-spillway-tests"
TENANTS = f"""
tenants:
  tests: {{keys: ["sha256:{hashlib.sha256(KEY.encode()).hexdigest()}"]}}
"""


@dataclass(frozen=True)
class Spillway:
    """A running proxy. `url` is its API root, `admin` the address of its second port."""

    root: str
    admin: str
    log: Path

    @property
    def url(self) -> str:
        return f"{self.root}/v1"

    def records(self) -> list[dict[str, Any]]:
        """The JSON lines of its log so far."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def record_of(self, request_id: str, deadline_s: float = 5.0) -> dict[str, Any]:
        """The log line of one request; it may be written just after the client has its answer."""
        return until(
            lambda: next((line for line in self.records() if line.get("request_id") == request_id), None),
            f"no log line for request `{request_id}`",
            deadline_s,
        )

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's series that carry these labels, read now; 0 when there is none yet."""
        page = httpx.get(f"{self.admin}/metrics", timeout=10).text
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(
            float(line.rpartition(" ")[2])
            for line in page.splitlines()
            if line.startswith((f"{name}{{", f"{name} ")) and all(label in line for label in wanted)
        )


@contextmanager
def spillway(folder: Path, policy: str) -> Iterator[Spillway]:
    """A proxy under this policy (tenants are added), with its data in `folder`; `${ENGINE_KEY}` is the engine's key."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "policy.yaml"
    path.write_text(textwrap.dedent(policy) + TENANTS)
    port, admin_port = free_port(), free_port()
    command: list[str | Path] = [sys.executable, "-m", "proxy", "serve", "--policy", path]
    command += ["--host", "127.0.0.1", "--port", str(port), "--admin-port", str(admin_port)]
    root, admin = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}"
    log = folder / "spillway.log"
    env = {"SPILLWAY_DATA_DIR": str(folder / "data"), "ENGINE_KEY": vllm.KEY}
    with serving(command, ready=f"{root}/healthz", log=log, deadline_s=START_DEADLINE_S, env=env):
        yield Spillway(root, admin, log)


def until(observe: Callable[[], T | None], complaint: str, deadline_s: float) -> T:
    """Observes until there is something to see, and returns that."""
    deadline = time.monotonic() + deadline_s
    while not (seen := observe()):
        assert time.monotonic() < deadline, complaint
        time.sleep(0.02)
    return seen
