"""A real server for every test of the store: the packaged Valkey, or what `SPILLWAY_TEST_SERVER` names on PATH."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from proxy.meters.binary import find_server, packaged_server
from proxy.meters.embedded import EmbeddedStore
from proxy.meters.store import Store


def _program() -> Path | None:
    named = os.environ.get("SPILLWAY_TEST_SERVER")
    if named is None:
        return packaged_server() or find_server()
    found = shutil.which(named)
    assert found is not None, f"no `{named}` on PATH"
    return Path(found)


# A machine that runs many tests at once may take its time; nothing is ever waited for that long in vain.
PATIENCE_S = 30.0
PROGRAMS = [program for program in [_program()] if program is not None]


@pytest.fixture(scope="module", params=PROGRAMS, ids=lambda program: program.name)
def store_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that a module's tests share; each keeps to a namespace of its own."""
    with EmbeddedStore(tmp_path_factory.mktemp("data"), request.param) as embedded:
        yield embedded.url


@pytest.fixture
def namespace() -> str:
    return secrets.token_hex(4)


@pytest.fixture
async def store(store_url: str, namespace: str) -> AsyncIterator[Store]:
    opened = Store(store_url, namespace, PATIENCE_S)
    yield opened
    await opened.aclose()


@pytest.fixture
async def raw(store_url: str) -> AsyncIterator[Any]:
    """The server, looked at from outside."""
    client = redis.asyncio.Redis.from_url(store_url, decode_responses=True)
    yield client
    await client.aclose()


@pytest.fixture
def raw_now(store_url: str, namespace: str) -> Iterator[Callable[..., Any]]:
    """Runs a script on one key."""
    with redis.Redis.from_url(store_url) as client:
        yield lambda script, *arguments: client.eval(script, 1, namespace, *arguments)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


async def until(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    """Wait for something that another process or task brings about and nothing announces."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


def ended(pid: int) -> bool:
    """Whether the process has ended. One that nobody has reaped yet still answers signals."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except ProcessLookupError:
        return True
    except FileNotFoundError:
        return sys.platform == "linux"
