"""Fixtures of the suites against a real engine. Engines and proxies start at most once a session, when asked for."""

import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.engine import spillway as proxies
from tests.engine import vllm
from tests.engine.processes import free_port, serving
from tests.engine.spillway import Spillway
from tests.engine.vllm import Engine

StartSpillway = Callable[[str], Spillway]
"""Starts a proxy under the given policy text; it ends with the test."""

ENGINES = {
    "engine": ["--max-num-seqs=16", "--max-num-queued-reqs=64", *vllm.GENERATE, *vllm.GUARDED],
    "small_engine": ["--max-num-seqs=2", "--max-num-queued-reqs=2", *vllm.GENERATE],
    "chunked_engine": ["--max-num-seqs=32", "--max-num-batched-tokens=512"],
    "embedding_engine": vllm.EMBED,
}
"""The flags of each engine, by the name of its fixture."""

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


def pytest_configure(config: pytest.Config) -> None:
    # A test run that is told to end takes its servers down with it, as one that is interrupted does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config.addinivalue_line("markers", "engine: needs a real vLLM, installed by `python -m tests.engine.install`")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not {"engines", "engine"}.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("engine")


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the servers of this session write what they print."""
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="session")
def engines(request: pytest.FixtureRequest, logs: Path) -> Iterator[dict[str, Engine]]:
    """Those of `ENGINES` that this session's tests ask for, started side by side: each takes half a minute of one
    core."""
    asked = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    contexts = {name: vllm.engine(logs, name, *flags) for name, flags in ENGINES.items() if name in asked}
    with ExitStack() as stack:
        with ThreadPoolExecutor() as pool:
            starting = {name: pool.submit(stack.enter_context, context) for name, context in contexts.items()}
        yield {name: future.result() for name, future in starting.items()}


@pytest.fixture(scope="session")
def engine(engines: dict[str, Engine]) -> Engine:
    """A vLLM with room for everybody who has its key."""
    return engines["engine"]


@pytest.fixture(scope="session")
def small_engine(engines: dict[str, Engine]) -> Engine:
    """A vLLM that takes two requests and refuses the third. It asks for no key."""
    return engines["small_engine"]


@pytest.fixture(scope="session")
def chunked_engine(engines: dict[str, Engine]) -> Engine:
    """A vLLM whose steps are short, because it reads prompts in small chunks. It asks for no key."""
    return engines["chunked_engine"]


@pytest.fixture(scope="session")
def embedding_engine(engines: dict[str, Engine]) -> Engine:
    """A vLLM that serves the tiny model as an embedding model."""
    return engines["embedding_engine"]


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


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[str]:
    """The API root of a simulated provider."""
    port = free_port()
    root = f"http://127.0.0.1:{port}"
    command: list[str | Path] = [sys.executable, "-m", "proxy", "simulate", "provider", "--port", str(port)]
    command += ["--model", "simulated", "--ttft", "0.05"]
    with serving(command, ready=f"{root}/v1/models", log=tmp_path / "provider.log", deadline_s=30, env={}):
        yield f"{root}/v1"


def client(url: str, key: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=60, trust_env=False)
