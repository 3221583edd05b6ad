"""`spillway simulate`: each simulator as a process of its own."""

from __future__ import annotations

import asyncio
import signal
import sys
import urllib.request
from asyncio.subprocess import PIPE

import orjson
import pytest
from proxy.cli.command import app
from typer.testing import CliRunner


@pytest.mark.parametrize(
    ("options", "page"),
    [
        (["engine", "--max-num-seqs", "4", "--max-num-queued-reqs", "8", "--profile", "8b-fp8-1xh100"], "/metrics"),
        (["provider", "--rpm", "60", "--input-price", "0.1", "--output-price", "0.32"], "/simulator/totals"),
        (["provider", "--rpm", "60", "--fixed-window", "--period", "10", "--no-limit-headers"], "/simulator/totals"),
    ],
)
async def test_a_simulator_serves_until_ctrl_c(options: list[str], page: str) -> None:
    command = [sys.executable, "-m", "proxy", "simulate", *options, "--port", "0", "--model", "tiny"]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            greeting = (await process.stdout.readline()).decode()
        url = greeting.split("; ")[0].rpartition(" at ")[2]
        assert greeting.startswith("simulated: tiny at http://127.0.0.1:")
        models = await asyncio.to_thread(get, f"{url}/models")
        assert orjson.loads(models)["data"][0]["id"] == "tiny"
        assert await asyncio.to_thread(get, url.removesuffix("/v1") + page)
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as reply:
        body: bytes = reply.read()
    return body


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (["--profile", "gpt-7"], "known: 70b-fp8-2xh100"),
        (["--max-num-seqs", "9000"], "max_seqs"),
    ],
)
def test_a_shape_that_makes_no_sense_is_refused_with_a_hint(options: list[str], hint: str) -> None:
    result = CliRunner().invoke(app, ["simulate", "engine", *options], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert hint in result.output


def test_a_port_in_use_is_said_plainly() -> None:
    with asyncio.Runner() as runner:
        server = runner.run(asyncio.start_server(lambda *_: None, "127.0.0.1", 0))
        port = server.sockets[0].getsockname()[1]
        result = CliRunner().invoke(app, ["simulate", "provider", "--port", str(port)])
        server.close()
    assert (result.exit_code, "cannot listen" in result.output) == (1, True)
