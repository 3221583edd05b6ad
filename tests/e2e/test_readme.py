"""Follows README.md from top to bottom in a fresh copy of the project, typing what it says and nothing else.

Only addresses are changed: ports are free ones, and the two upstreams of `policies/default.yaml` are the simulators.
The page's own `make demo` and `make test` are left to .ci/run, which runs exactly those.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from proxy.simulator.engine import EngineSimulator
from proxy.simulator.profile import PROFILES
from proxy.simulator.provider import ProviderSimulator, Terms
from tests.readme import ROOT, Block, block, blocks

LEFT_BEHIND = shutil.ignore_patterns(".git", ".venv*", "__pycache__", ".*_cache", "dist", "data", "node_modules")
QUICK_ENGINE = replace(PROFILES["8b-fp8-1xh100"], step_s=1e-3)
QUICK_PROVIDER = Terms(ttft_median_s=0.01, ttft_p99_s=0.02, tokens_per_s=10_000)
READY_S = 20.0


class Reader:
    """Somebody with one terminal for the page's commands and another for the server."""

    def __init__(self, folder: Path, addresses: dict[str, str]) -> None:
        self.folder = folder
        self._addresses = addresses
        home = folder.parent / "home"
        home.mkdir()
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TMPDIR")}
        kept |= {
            name: value for name, value in os.environ.items() if "CERT" in name or name.startswith(("PIP_", "UV_"))
        }
        self.env = kept | {"HOME": str(home), "CI": "true"}
        self._server: asyncio.subprocess.Process | None = None
        self.log = folder.parent / "server.log"

    def here(self, text: str) -> str:
        """`text` with this machine's addresses."""
        for written, actual in self._addresses.items():
            text = text.replace(written, actual)
        return text

    async def type(self, one: Block) -> str:
        """Run one block to its end and keep what it exports; returns its output."""
        script = self.folder.parent / "block"
        script.write_text(self.here(one.text))
        kept = self.folder.parent / "environment"
        command = f". {script}" if one.language == "sh" else f"python {script}"
        shell = await self._spawn(f"set -e\n{command}\nenv -0 > {kept}", asyncio.subprocess.PIPE)
        output, _ = await shell.communicate()
        assert shell.returncode == 0, f"README.md:{one.line} ended with {shell.returncode}:\n{output.decode()}"
        self.env = dict(pair.split("=", 1) for pair in kept.read_text().split("\0") if "=" in pair)
        return output.decode()

    async def start(self, one: Block, ready_url: str) -> None:
        """Run one block in the other terminal until its server is ready."""
        with self.log.open("wb") as log:
            self._server = await self._spawn(f"exec {self.here(one.text)}", log.fileno())
        async with asyncio.timeout(READY_S):
            while not await asyncio.to_thread(answers, ready_url):
                assert self._server.returncode is None, f"README.md:{one.line} ended:\n{self.log.read_text()}"

    async def stop(self) -> int:
        """End the server in the other terminal, if it is still there; its exit status."""
        if self._server is None:
            return 0
        if self._server.returncode is None:
            self._server.terminate()
        return await self._server.wait()

    async def _spawn(self, script: str, out: int) -> asyncio.subprocess.Process:
        streams = {"stdin": asyncio.subprocess.DEVNULL, "stdout": out, "stderr": asyncio.subprocess.STDOUT}
        return await asyncio.create_subprocess_exec("bash", "-c", script, cwd=self.folder, env=self.env, **streams)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1.0) as reply:
            return reply.status == 200
    except urllib.error.HTTPError:
        return False
    except OSError:
        return False


def free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


@asynccontextmanager
async def reader(tmp_path: Path) -> AsyncIterator[tuple[Reader, str]]:
    data, admin = free_ports(2)
    folder = tmp_path / "spillway"
    shutil.copytree(ROOT, folder, ignore=LEFT_BEHIND)
    engine = EngineSimulator(QUICK_ENGINE, model="openai/gpt-oss-20b")
    provider = ProviderSimulator(QUICK_PROVIDER, model="gpt-4.1-mini", api_key="sk-your-key")
    async with engine, provider:
        policy = folder / "policies" / "default.yaml"
        text = policy.read_text().replace("localhost:8000", f"localhost:{engine.port}")
        policy.write_text(text.replace("provider: openai\n", f"provider: openai\n    url: {provider.url}\n"))
        somebody = Reader(folder, {"localhost:8080": f"localhost:{data}"})
        somebody.env |= {
            "SPILLWAY_PORT": str(data),
            "SPILLWAY_ADMIN_PORT": str(admin),
            "SPILLWAY_ADMIN_URL": f"http://localhost:{admin}",
            "PYTHON": "",
        }
        await (await somebody._spawn("git init -q .", asyncio.subprocess.DEVNULL)).wait()
        try:
            yield somebody, f"http://127.0.0.1:{data}/readyz"
        finally:
            await somebody.stop()


def shape(value: object) -> object:
    """The keys of a JSON value, all the way down."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items()}
    if isinstance(value, list):
        return [shape(one) for one in value[:1]]
    return None


async def test_a_reader_can_follow_the_page(tmp_path: Path) -> None:
    async with reader(tmp_path) as (somebody, ready_url):
        for one in blocks():
            if one.notes.get("run") == "background":
                await somebody.start(one, ready_url)
            elif one.notes.get("run") == "once":
                output = await somebody.type(one)
                wanted = one.notes.get("expect", "")
                assert wanted in output, f"README.md:{one.line} printed no `{wanted}`:\n{output}"
        assert await somebody.stop() == 0
    lines = [json.loads(line) for line in somebody.log.read_text().splitlines() if line.startswith("{")]
    assert {line["attempts"][0]["lane"] for line in lines} == {"dedicated", "shared"}
    assert shape(lines[-1]) == shape(json.loads(block("shows", "log line").text))
