"""The load is what it says it is: bodies have their size, and the two C tools count what was really sent."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench import load
from tests.bench.installs import compiled
from tests.bench.processes import Tree
from tests.bench.systems import free_port

pytestmark = pytest.mark.skipif(
    not (shutil.which("gcc") and shutil.which("taskset")), reason="needs gcc and taskset, as the benchmark does"
)


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[int]:
    port = free_port()
    tree = Tree([compiled("mock_upstream.c"), str(port)], log=tmp_path / "upstream.log")
    deadline_s = time.monotonic() + 5
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except ConnectionRefusedError:
            assert time.monotonic() < deadline_s, tree.last_words()
    yield port
    tree.end()


def generate(port: int, folder: Path, request: bytes, **options: Any) -> dict[str, Any]:
    generator = load.Generator(compiled("load_generator.c"), core=min(os.sched_getaffinity(0)), folder=folder)
    result, _ = generator.run(port=port, headers=(), request=request, watch=load.nothing, **options)
    return result


@pytest.mark.parametrize("size_bytes", [256, 1024, 8192, 102_400])
def test_a_body_has_exactly_the_size_that_was_asked_for(size_bytes: int) -> None:
    request = load.body(size_bytes, stream=True)
    assert len(request) == size_bytes
    assert json.loads(request)["stream_options"] == {"include_usage": True}


def test_closed_load_counts_whole_answers(upstream: int, tmp_path: Path) -> None:
    result = generate(upstream, tmp_path, load.body(1024), mode="closed", connections=4, warmup_s=0.05, seconds=0.2)
    assert result["errors"] == 0
    assert result["answers"] == result["latency_us"]["count"] > 0


def test_open_load_arrives_at_the_rate_that_was_asked_for(upstream: int, tmp_path: Path) -> None:
    result = generate(upstream, tmp_path, load.body(1024), mode="open", rate=500, warmup_s=0.1, seconds=0.4)
    assert result["errors"] == 0
    assert result["answers"] + result["open"] + result["waiting"] == pytest.approx(200, abs=20)


def test_every_event_of_every_stream_is_seen_once(upstream: int, tmp_path: Path) -> None:
    request = load.body(1024, stream=True, events=50, pace_us=2000)
    options: dict[str, Any] = {"mode": "stream", "connections": 3, "ramp": 0.01, "once": 1, "events": 50}
    result = generate(upstream, tmp_path, request, warmup_s=0, seconds=0.6, **options)
    assert (result["errors"], result["answers"], result["open"]) == (0, 3, 0)
    assert result["transit_us"]["count"] == 150
    assert result["first_token_us"]["count"] == 3


def test_a_stream_that_lost_events_is_an_error(upstream: int, tmp_path: Path) -> None:
    request = load.body(1024, stream=True, events=49, pace_us=1000)
    options: dict[str, Any] = {"mode": "stream", "connections": 1, "ramp": 0.01, "once": 1, "events": 50}
    result = generate(upstream, tmp_path, request, warmup_s=0, seconds=0.3, **options)
    assert (result["errors"], result["answers"]) == (1, 0)
    assert result["first_error"].endswith("49 events")


def test_an_answer_that_is_not_a_success_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    result = generate(port, tmp_path, load.body(1024), mode="closed", connections=1, warmup_s=0, seconds=0.1)
    assert (result["errors"], result["answers"]) == (1, 0)
    assert result["first_error"].startswith("connect refused")
