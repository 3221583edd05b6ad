"""Follows README.md from top to bottom in a fresh copy of the project, typing what it says and nothing else.

Only addresses are changed: ports are free ones (on that of Redis nobody listens, which a proxy survives), and OpenAI is
the simulated provider.
The page's own `make demo` and `make test` are left to .ci/run, which runs exactly those.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from proxy.simulator.provider import ProviderSimulator, Terms
from tests.readme import ROOT, Block, block, blocks

LEFT_BEHIND = shutil.ignore_patterns(".git", ".venv*", "__pycache__", ".*_cache", "dist", "data", "node_modules")
QUICK = Terms(ttft_median_s=0.01, ttft_p99_s=0.02, tokens_per_s=10_000)
LISTENING_S = 20.0
PORTS = ("6379", "8000", "8080", "8081", "9090", "9091")


class Reader:
    """Somebody with one terminal for the page's commands and others for its servers."""

    def __init__(self, folder: Path, ports: dict[str, int]) -> None:
        self.folder = folder
        self._ports = ports
        self._servers: list[asyncio.subprocess.Process] = []
        home = folder.parent / "home"
        home.mkdir()
        kept = ("PATH", "LANG", "TMPDIR", "PIP_", "UV_", "SSL_", "REQUESTS_CA_BUNDLE")
        self.env = {name: value for name, value in os.environ.items() if name.startswith(kept)}
        self.env |= {
            "HOME": str(home),
            "SPILLWAY_PORT": str(ports["8080"]),
            "SPILLWAY_ADMIN_PORT": str(ports["9090"]),
            "SPILLWAY_ADMIN_URL": f"http://localhost:{ports['9090']}",
        }

    async def type(self, one: Block) -> str:
        """Run one block to its end and keep what it exports; returns its output."""
        script, kept = self.folder.parent / "block", self.folder.parent / "environment"
        script.write_text(self._here(one.text))
        command = f". {script}" if one.language == "sh" else f"python {script}"
        shell = await self._spawn(f"set -e\n{command}\nenv -0 > {kept}", asyncio.subprocess.PIPE)
        output, _ = await shell.communicate()
        assert shell.returncode == 0, f"README.md:{one.line} ended with {shell.returncode}:\n{output.decode()}"
        self.env = dict(pair.split("=", 1) for pair in kept.read_text().split("\0") if "=" in pair)
        return output.decode()

    async def start(self, one: Block) -> None:
        """Run one block in a terminal of its own, until its server listens."""
        port, log_path = self._ports[one.notes["port"]], self.log_of(one.notes["port"])
        with log_path.open("wb") as log:
            server = await self._spawn(f"exec {self._here(one.text)}", log.fileno())
        self._servers.append(server)
        async with asyncio.timeout(LISTENING_S):
            while not await asyncio.to_thread(listens, port):
                assert server.returncode is None, f"README.md:{one.line} ended:\n{log_path.read_text()}"

    def log_of(self, port: str) -> Path:
        """What the server of the page's `port` printed."""
        return self.folder.parent / f"{port}.log"

    async def stop(self) -> list[int]:
        """End the servers; their exit statuses."""
        for server in self._servers:
            if server.returncode is None:
                server.terminate()
        return [await server.wait() for server in self._servers]

    def _here(self, text: str) -> str:
        """`text` with the ports that are free here."""
        for written, port in self._ports.items():
            text = re.sub(rf"(?<=localhost:){written}\b|(?<=port ){written}\b", str(port), text)
        return text

    async def _spawn(self, script: str, out: int) -> asyncio.subprocess.Process:
        streams = {"stdin": asyncio.subprocess.DEVNULL, "stdout": out, "stderr": asyncio.subprocess.STDOUT}
        return await asyncio.create_subprocess_exec("bash", "-c", script, cwd=self.folder, env=self.env, **streams)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


def free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def copied(folder: Path) -> Path:
    """The project as a clone would have it, changes that are not committed included."""
    shutil.copytree(ROOT, folder, ignore=LEFT_BEHIND)
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    return folder


@asynccontextmanager
async def reader(tmp_path: Path) -> AsyncIterator[Reader]:
    """Somebody before a fresh copy of the project. The simulated provider stands in for OpenAI."""
    folder = copied(tmp_path / "spillway")
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    async with ProviderSimulator(QUICK, model="gpt-4.1-mini", api_key="sk-your-key") as provider:
        policy = folder / "policies" / "default.yaml"
        text = policy.read_text().replace("provider: openai\n", f"provider: openai\n    url: {provider.url}\n")
        policy.write_text(text.replace("localhost:8000", f"localhost:{ports['8000']}"))
        somebody = Reader(folder, ports)
        try:
            yield somebody
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
    async with reader(tmp_path) as somebody:
        for one in blocks():
            if one.notes.get("run") == "background":
                await somebody.start(one)
            elif one.notes.get("run") == "once":
                output = await somebody.type(one)
                wanted = one.notes.get("expect", "")
                assert wanted in output, f"README.md:{one.line} printed no `{wanted}`:\n{output}"
        assert await somebody.stop() == [0, 0, 0]
    lines = [json.loads(line) for line in somebody.log_of("8080").read_text().splitlines() if line.startswith("{")]
    assert [line["attempts"][0]["lane"] for line in lines] == ["dedicated", "dedicated", "shared"]
    # The line that is shown spilled over; this one's caller has asked for the lane.
    assert lines[-1].pop("lane_override") == "shared"
    assert shape(lines[-1]) == shape(json.loads(block("shows", "log line").text))
