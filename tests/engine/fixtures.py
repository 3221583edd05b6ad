"""Fixtures shared by the suites against a real engine. Engines and proxies are started at most once a session, when first asked for."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.engine import spillway as proxies
from tests.engine import vllm
from tests.engine.spillway import Spillway
from tests.engine.vllm import Engine

StartSpillway = Callable[[str], Spillway]
"""Starts a proxy under the given policy text; it ends with the test."""

ONE_ENGINE = """
version: 1
targets:
  engine:
    lane: dedicated
    engine: vllm
    url: {url}
    model: tiny
    api_key: ${{ENGINE_KEY}}
    region: eu-west-1
    retention: zero
    gpus: {{type: CPU, count: 1, usd_per_hour: 1.20}}
models:
  tiny: [engine]
"""


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the servers of this session write what they print."""
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="session")
def engine(logs: Path) -> Iterator[Engine]:
    """A vLLM with room for everybody who has its key."""
    flags = ["--max-num-seqs=16", "--max-num-queued-reqs=64", *vllm.GENERATE, *vllm.GUARDED]
    with vllm.engine(logs, "vllm", *flags) as running:
        yield running


@pytest.fixture(scope="session")
def small_engine(logs: Path) -> Iterator[Engine]:
    """A vLLM that takes two requests and refuses the third. It asks for no key."""
    with vllm.engine(logs, "vllm-small", "--max-num-seqs=2", "--max-num-queued-reqs=2", *vllm.GENERATE) as running:
        yield running


@pytest.fixture(scope="session")
def embedding_engine(logs: Path) -> Iterator[Engine]:
    """A vLLM that serves the tiny model as an embedding model."""
    with vllm.engine(logs, "vllm-embed", *vllm.EMBED) as running:
        yield running


@pytest.fixture(scope="session")
def spillway(logs: Path, engine: Engine) -> Iterator[Spillway]:
    """A proxy in front of `engine`."""
    with proxies.spillway(logs / "spillway", ONE_ENGINE.format(url=engine.url)) as running:
        yield running


@pytest.fixture
def start_spillway(tmp_path: Path) -> Iterator[StartSpillway]:
    with ExitStack() as stack:
        yield lambda policy: stack.enter_context(proxies.spillway(tmp_path / "spillway", policy))


@pytest.fixture(scope="session")
def direct(engine: Engine) -> Iterator[httpx.Client]:
    """A client of the engine itself."""
    with client(engine.url, vllm.KEY) as http:
        yield http


@pytest.fixture(scope="session")
def proxied(spillway: Spillway) -> Iterator[httpx.Client]:
    """A client of the proxy in front of it."""
    with client(spillway.url, proxies.KEY) as http:
        yield http


def client(url: str, key: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=60, trust_env=False)
