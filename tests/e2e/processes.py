"""`python -m proxy serve` as a process, with everything it says kept, and what may still be running afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy.simulator.engine import EngineSimulator
from proxy.simulator.profile import PROFILES
from proxy.simulator.provider import ProviderSimulator, Terms
from tests.harness import Reply, read_reply, request_bytes

ROOT = Path(__file__).resolve().parents[2]
MODEL = "simulated-llama"
PROVIDER_KEY, CLIENT_KEY, REDIS_PASSWORD = "sk-canary-provider-71c3", "sk-canary-client-5e20", "canary-redis-9a44"
CANARIES = (PROVIDER_KEY, CLIENT_KEY, REDIS_PASSWORD)
CHAT = "/v1/chat/completions"
STARTED = re.compile(r"at http://[^ ]*:(\d+)/v1, metrics and health at http://[^ ]*:(\d+)")
SIMULATED = PROFILES["70b-fp8-2xh100"]


def ask(tokens: int = 5, **more: Any) -> dict[str, Any]:
    """A chat request that is answered with so many tokens."""
    return {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": tokens, **more}


def engine(**more: Any) -> EngineSimulator:
    """A simulated engine, as fast as it goes."""
    return EngineSimulator(SIMULATED, model=MODEL, **{"speed": 50.0, "natural_tokens": 20, **more})


def provider(**more: Any) -> ProviderSimulator:
    """A simulated provider that asks for the canary key."""
    terms = Terms(ttft_median_s=0.01, ttft_p99_s=0.02, tokens_per_s=more.pop("tokens_per_s", 10_000))
    return ProviderSimulator(terms, model=MODEL, api_key=PROVIDER_KEY, natural_tokens=20, **more)


def write_policy(folder: Path, *, gpu: str | None = None, api: str | None = None, more: str = "") -> Path:
    """A policy with a dedicated target `gpu` and a shared one `api`, whichever has a URL."""
    text = "version: 1\ntargets:\n"
    if gpu:
        text += f"  gpu: {{lane: dedicated, engine: vllm, url: '{gpu}', model: {MODEL},"
        text += " region: eu-west-1, retention: zero}\n"
    if api:
        text += (
            f"  api: {{lane: shared, provider: openai, url: '{api}', model: {MODEL}, api_key: '${{PROVIDER_KEY}}',"
            " region: us, retention: 30d, price: {input: 0.5, output: 1.5}}\n"
        )
    names = [name for name, url in (("gpu", gpu), ("api", api)) if url]
    path = folder / "policy.yaml"
    path.write_text(f"{text}models:\n  m: [{', '.join(names)}]\n{more}")
    return path


@dataclass
class Served:
    """A running proxy."""

    process: asyncio.subprocess.Process
    folder: Path
    started_at: float
    port: int = 0
    admin_port: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def said(self) -> str:
        """Everything on its standard output and standard error so far."""
        return (self.folder / "out").read_text() + (self.folder / "err").read_text()

    async def request(self, method: str, path: str, body: bytes = b"", *, admin: bool = False) -> Reply:
        """One request on a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.admin_port if admin else self.port)
        try:
            writer.write(request_bytes(method, path, body, self.headers))
            return await read_reply(reader)
        finally:
            writer.close()

    async def post(self, body: Mapping[str, Any], path: str = CHAT) -> Reply:
        return await self.request("POST", path, json.dumps(body).encode())

    async def meters(self) -> dict[str, Any]:
        """What the store holds, by target."""
        got = await self.request("GET", "/admin/meters", admin=True)
        return {one["target"]: one for one in got.json["total"]["targets"]} if got.status == 200 else {}

    async def metrics(self) -> str:
        return (await self.request("GET", "/metrics", admin=True)).body.decode()

    async def ready(self) -> Any:
        return (await self.request("GET", "/readyz", admin=True)).json

    async def ended(self, within_s: float = 15.0) -> int:
        """Its exit status."""
        async with asyncio.timeout(within_s):
            return await self.process.wait()

    async def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return await self.ended()


async def spawn(policy: Path, *options: str, env: Mapping[str, str] | None = None, tag: str = "") -> Served:
    """Start a proxy; it may not have started when this returns."""
    folder = policy.parent / f"run{tag}"
    folder.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPILLWAY_", "PYTHON"))}
    kept |= {"PYTHONPATH": str(ROOT), "SPILLWAY_DATA_DIR": str(policy.parent / "data"), "PROVIDER_KEY": PROVIDER_KEY}
    with (folder / "out").open("ab") as out, (folder / "err").open("ab") as err:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *(env or {}).get("INTERPRETER_OPTIONS", "").split(), "-m", "proxy", "serve"),
            *("--policy", str(policy), *options),
            env=kept | dict(env or {}),
            cwd=policy.parent,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    return Served(process, folder, time.monotonic())


@contextlib.asynccontextmanager
async def serving(
    policy: Path, *options: str, env: Mapping[str, str] | None = None, tag: str = ""
) -> AsyncIterator[Served]:
    """A proxy on free ports, ready; killed at the end if it still runs. Nothing of it may be left, and no traceback."""
    served = await spawn(policy, "--port", "0", "--admin-port", "0", *options, env=env, tag=tag)
    try:
        await up(served)
        yield served
    finally:
        if served.process.returncode is None:
            served.process.kill()
            await served.process.wait()
    await left_nothing(policy.parent)
    assert "Traceback" not in served.said, served.said
    assert "httpx: HTTP Request" not in served.said, "the log tells of what is asked of engines every second"
    for canary in CANARIES:
        assert canary not in served.said


async def up(served: Served, within_s: float = 30.0) -> None:
    """Wait until it is ready, and note its ports."""
    async with asyncio.timeout(within_s):
        while True:
            assert served.process.returncode is None, served.said
            found = STARTED.search((served.folder / "err").read_text())
            if found is not None:
                served.port, served.admin_port = int(found[1]), int(found[2])
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    if (await served.request("GET", "/readyz", admin=True)).status == 200:
                        return
            await asyncio.sleep(0.02)


def running_in(folder: Path) -> dict[int, str]:
    """Processes whose command line or environment names the folder (Linux)."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (path / "cmdline").read_bytes()
            if str(folder).encode() in words + (path / "environ").read_bytes() and int(path.name) != os.getpid():
                found[int(path.name)] = words.replace(b"\0", b" ").decode()
    return found


async def left_nothing(folder: Path, within_s: float = 15.0) -> None:
    """Wait until no process of the folder is left."""
    try:
        async with asyncio.timeout(within_s):
            while running_in(folder):
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"left behind: {running_in(folder)}") from None


async def eventually(check: Any, within_s: float = 15.0) -> Any:
    """Await `check()` again and again until it gives something."""
    try:
        async with asyncio.timeout(within_s):
            while not (found := await check()):
                await asyncio.sleep(0.05)
            return found
    except TimeoutError:
        raise AssertionError("it did not come to pass") from None
