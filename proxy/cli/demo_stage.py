"""The demo's set: two simulators in this process, and the real proxy as a process of its own, on free ports.

Theory of operation
-------------------
Everything the demo writes lives in one temporary folder: policy, embedded store, the proxy's log. The proxy is started
as a user would start it, in a session of its own so that Ctrl-C in the terminal reaches the demo alone, which then
stops it in order; it is tied to the demo, so that not even `kill -9` of the demo leaves it behind (Linux).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from proxy.meters import tethered
from proxy.meters.report import MeterReport
from proxy.settings import admin_token
from proxy.simulator.engine import EngineSimulator
from proxy.simulator.profile import PROFILES
from proxy.simulator.provider import ProviderSimulator, Terms

MODEL = "simulated-llama"
MAX_IN_FLIGHT = 16

_PROFILE = replace(PROFILES["70b-fp8-2xh100"], max_seqs=MAX_IN_FLIGHT, max_requests=2 * MAX_IN_FLIGHT)
_TERMS = Terms(ttft_median_s=0.3, ttft_p99_s=0.9)
_API_KEY = "simulated-key"
_IMPORTED_FROM = str(Path(tethered.__file__).parents[2])
_STARTED = re.compile(r"at http://[^/]*:(\d+)/v1, metrics and health at http://[^/]*:(\d+)")

POLICY = """\
version: 1
targets:
  simulated-engine:
    lane: dedicated                  # your own GPUs, paid by the hour: used first
    engine: vllm
    url: {engine}
    model: {model}
    gpus: {{type: H100, count: 2, usd_per_hour: 2.99}}
    max_in_flight: {max_in_flight}                 # from here on, requests spill
  simulated-provider:
    lane: shared                     # an API, paid by the token
    provider: openai
    url: {provider}
    model: {model}
    api_key: ${{SIMULATED_API_KEY}}
    price: {{input: 0.72, output: 0.72}}
models:
  {model}: [simulated-engine, simulated-provider]
"""


class StageError(Exception):
    """The proxy did not start, or did not last; the text has its own last words."""


@dataclass(frozen=True, slots=True)
class RunningProxy:
    """The proxy's process and its ports."""

    process: asyncio.subprocess.Process
    log: Path
    port: int
    admin_port: int

    async def lost(self) -> None:
        """Raises `StageError` when the process ends."""
        status = await self.process.wait()
        raise StageError(f"the proxy ended with status {status}:\n{_said(self.log)[-2000:]}")


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that is running."""

    engine: EngineSimulator
    provider: ProviderSimulator
    proxy: RunningProxy

    @property
    def url(self) -> str:
        """The proxy's OpenAI base URL."""
        return f"http://127.0.0.1:{self.proxy.port}/v1"

    @property
    def console_url(self) -> str:
        """The proxy's console, for a browser."""
        return f"http://127.0.0.1:{self.proxy.admin_port}/"

    async def meters(self) -> MeterReport | None:
        """What the proxy's own meters say; None when it does not answer just now."""
        with contextlib.suppress(OSError, TimeoutError, msgspec.MsgspecError):
            async with asyncio.timeout(2.0):
                return MeterReport.from_json(await _get(self.proxy.admin_port, "/admin/meters"))
        return None


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """Start everything, and stop it in reverse. Raises `StageError`."""
    with TemporaryDirectory(prefix="spillway-demo-", ignore_cleanup_errors=True) as folder:
        async with (
            EngineSimulator(_PROFILE, model=MODEL, natural_tokens=1000) as engine,
            ProviderSimulator(_TERMS, model=MODEL, api_key=_API_KEY, natural_tokens=1000) as provider,
        ):
            policy = _write_policy(Path(folder), engine.url, provider.url)
            async with _proxy(policy, Path(folder)) as proxy:
                yield Stage(engine, provider, proxy)


@asynccontextmanager
async def _proxy(policy: Path, folder: Path) -> AsyncIterator[RunningProxy]:
    """Start the real proxy as a process of its own, and stop it."""
    serve = [sys.executable, "-m", "proxy", "serve", "--policy", str(policy), "--port", "0", "--admin-port", "0"]
    tether = [sys.executable, "-I", "-S", str(Path(tethered.__file__)), str(os.getpid())]
    env = {name: value for name, value in os.environ.items() if not name.startswith("SPILLWAY_")}
    env |= {"SPILLWAY_DATA_DIR": str(folder / "data"), "SIMULATED_API_KEY": _API_KEY, "PYTHONPATH": _IMPORTED_FROM}
    log = folder / "proxy.log"
    with log.open("wb") as words, (folder / "requests.log").open("wb") as requests:
        process = await asyncio.create_subprocess_exec(
            *tether,
            *serve,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=requests,
            stderr=words,
            start_new_session=True,
        )
    try:
        yield RunningProxy(process, log, *await _ports(process, log))
    finally:
        await _stop(process)


async def _ports(process: asyncio.subprocess.Process, log: Path, within_s: float = 20.0) -> tuple[int, int]:
    """The ports that the proxy says it listens on, once it is ready there."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while process.returncode is None:
                found = _STARTED.search(_said(log))
                with contextlib.suppress(OSError):
                    if found is not None and await _get(int(found[1]), "/readyz"):
                        return int(found[1]), int(found[2])
                await asyncio.sleep(0.02)
    raise StageError(f"the proxy did not start:\n{_said(log)[-2000:]}")


def _write_policy(folder: Path, engine: str, provider: str) -> Path:
    policy = folder / "policy.yaml"
    policy.write_text(POLICY.format(engine=engine, provider=provider, model=MODEL, max_in_flight=MAX_IN_FLIGHT))
    return policy


def _said(log: Path) -> str:
    return log.read_text(errors="replace")


async def _stop(process: asyncio.subprocess.Process, within_s: float = 10.0) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGINT)  # somebody waits at a terminal: idle connections are not waited for
    try:
        async with asyncio.timeout(within_s):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _get(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        lines = [f"GET {path} HTTP/1.1", "host: 127.0.0.1", "connection: close"]
        if (token := admin_token(os.environ)) is not None:
            lines.append(f"authorization: Bearer {token}")
        writer.write("\r\n".join([*lines, "", ""]).encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    if not head.startswith(b"HTTP/1.1 200"):
        raise OSError(f"`{path}` is not answered")
    return body
