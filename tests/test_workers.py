"""The parent's view of its workers: their metrics as one, and what a silent worker means. Processes: e2e/test_crash."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from proxy.api.explain import MAX_BODY_BYTES
from proxy.policy.problem import PolicyError
from proxy.policy.source import Source, read_source
from proxy.settings import Settings
from proxy.workers import LastGood, Worker, merged_admin, sound

from tests.harness import Reply, listening, read_reply, request_bytes

METRICS = """\
# HELP spillway_requests_total Requests
# TYPE spillway_requests_total counter
spillway_requests_total{route="default"} %(count)s
# HELP spillway_wait_seconds Waits
# TYPE spillway_wait_seconds histogram
spillway_wait_seconds_bucket{le="1.0"} %(count)s
spillway_wait_seconds_bucket{le="+Inf"} %(count)s
spillway_wait_seconds_count %(count)s
spillway_wait_seconds_sum 0.5
"""


@contextlib.asynccontextmanager
async def worker(folder: Path, number: int, answers: dict[str, tuple[int, str]] | None) -> AsyncIterator[Worker]:
    """A worker whose admin application says what it is told to; with None, nothing listens there."""
    path = folder / f"{number}.sock"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked = head.split()[1]
        if head.startswith("POST "):
            length = int(head.lower().partition("content-length: ")[2].split()[0])
            asked = f"{asked} {(await reader.readexactly(length)).decode()}"
        status, body = (answers or {}).get(asked, (404, "{}"))
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
        writer.close()

    with socket.socket() as data:
        data.bind(("127.0.0.1", 0))
        one = Worker(LastGood(Source("", (), "")), Settings(policy=folder), "unix:///nowhere", data, path)
        if answers is None:
            yield one
            return
        async with await asyncio.start_unix_server(answer, str(path)):
            yield one


async def asked(folder: Path, path: str, *said: dict[str, tuple[int, str]] | None, body: bytes = b"") -> Reply:
    """What the parent makes of what its workers say."""
    async with contextlib.AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(worker(folder, n, one)) for n, one in enumerate(said)]
        port = await stack.enter_async_context(listening(merged_admin(workers), "httptools"))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_bytes("POST" if body else "GET", path, body))
        got = await read_reply(reader)
        writer.close()
        return got


def samples(got: Reply) -> dict[tuple[str, str], float]:
    families: Any = text_string_to_metric_families(got.body.decode())
    return {(one.name, one.labels["worker"]): one.value for family in families for one in family.samples}


async def test_metrics_of_all_workers_are_one_exposition(tmp_path: Path) -> None:
    said = [{"/metrics": (200, METRICS % {"count": count})} for count in (3, 4)]
    got = await asked(tmp_path, "/metrics", *said)
    assert got.body.count(b"# TYPE spillway_requests_total counter") == 1
    found = samples(got)
    assert (found["spillway_requests_total", "0"], found["spillway_requests_total", "1"]) == (3, 4)
    assert (found["spillway_wait_seconds_count", "0"], found["spillway_wait_seconds_sum", "1"]) == (3, 0.5)
    assert b'le="+Inf"' in got.body


async def test_a_worker_that_is_away_does_not_hide_the_others(tmp_path: Path) -> None:
    got = await asked(tmp_path, "/metrics", None, {"/metrics": (200, METRICS % {"count": 4})})
    assert got.status == 200
    assert {number for _, number in samples(got)} == {"1"}


async def test_ready_means_all_of_them(tmp_path: Path) -> None:
    mixed, elsewhere = tmp_path / "mixed", tmp_path / "elsewhere"
    mixed.mkdir()
    elsewhere.mkdir()
    ready, draining = (200, '{"status": "ready"}'), (503, '{"status": "draining"}')
    assert (await asked(tmp_path, "/readyz", {"/readyz": ready}, {"/readyz": ready})).json == {"status": "ready"}
    assert (await asked(elsewhere, "/readyz", None, {"/readyz": ready})).status == 503
    assert (await asked(mixed, "/readyz", {"/readyz": ready}, {"/readyz": draining})).status == 503


async def test_a_worker_that_refused_a_policy_is_the_one_to_tell_of(tmp_path: Path) -> None:
    fine = (200, '{"status":"ready","policy":{"error":null}}')
    refused = (200, '{"status":"ready","policy":{"error":{"problems":["p:1:1: x"]}}}')
    got = await asked(tmp_path, "/readyz", {"/readyz": fine}, {"/readyz": refused}, {"/readyz": fine})
    assert got.json["policy"]["error"] == {"problems": ["p:1:1: x"]}


async def test_the_policy_is_that_of_a_worker_that_refused_one(tmp_path: Path) -> None:
    fine, refused = (200, '{"error":null}'), (200, '{"error":{"problems":["p:1:1: x"]}}')
    said = [{"/admin/policy": one} for one in (fine, refused)]
    assert (await asked(tmp_path, "/admin/policy", None, *said)).json["error"] == {"problems": ["p:1:1: x"]}


TARGET = "{lane: dedicated, engine: vllm, url: 'http://a/v1', model: a}"


def test_a_worker_is_not_started_again_with_a_policy_that_no_worker_would_adopt(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(f"version: 1\ntargets:\n  a: {TARGET}\nmodels:\n  m: [a]\n")
    source = read_source(path)
    assert sound("127.0.0.1", source) is source
    with pytest.raises(PolicyError, match="without `tenants`"):
        sound("0.0.0.0", source)
    path.write_text("version: 1\n")
    with pytest.raises(PolicyError):
        sound("127.0.0.1", read_source(path))


async def test_alive_depends_on_nobody(tmp_path: Path) -> None:
    assert (await asked(tmp_path, "/healthz", None, None)).status == 200


async def test_the_meters_are_those_of_any_worker_that_answers(tmp_path: Path) -> None:
    got = await asked(tmp_path, "/admin/meters", None, {"/admin/meters": (200, '{"total": 1}')})
    assert (got.status, got.json) == (200, {"total": 1})


async def test_a_question_is_put_to_one_worker_which_is_named(tmp_path: Path) -> None:
    said = {'/admin/explain {"a":1}': (200, '{"policy": "p"}')}
    got = await asked(tmp_path, "/admin/explain", None, said, said, body=b'{"a":1}')
    assert (got.status, got.json) == (200, {"worker": 1, "policy": "p"})


async def test_a_question_that_makes_no_sense_is_refused_by_the_worker(tmp_path: Path) -> None:
    said = {"/admin/explain {}": (400, '{"error": {"code": "invalid_request"}}')}
    got = await asked(tmp_path, "/admin/explain", said, body=b"{}")
    assert (got.status, got.json) == (400, {"error": {"code": "invalid_request"}})


async def test_a_question_that_nobody_answers(tmp_path: Path) -> None:
    assert (await asked(tmp_path, "/admin/explain", None, None, body=b"{}")).status == 503


async def test_a_question_that_is_too_long_reaches_no_worker(tmp_path: Path) -> None:
    got = await asked(tmp_path, "/admin/explain", None, body=b"x" * (MAX_BODY_BYTES + 1))
    assert (got.status, got.json["error"]["code"]) == (413, "request_too_large")


async def test_what_the_parent_does_not_have_is_said_in_json(tmp_path: Path) -> None:
    missing, wrong = await asked(tmp_path, "/nothing", None), await asked(tmp_path, "/admin/explain", None)
    assert (missing.status, missing.json["error"]["code"]) == (404, "unknown_url")
    assert (wrong.status, wrong.json["error"]["code"]) == (405, "method_not_allowed")


async def test_the_policy_is_that_of_any_worker_that_answers(tmp_path: Path) -> None:
    got = await asked(tmp_path, "/admin/policy", None, {"/admin/policy": (200, '{"generation": 2}')})
    assert (got.status, got.json) == (200, {"generation": 2})


LEDGER = "/admin/meters/rows?from=0&to=3600&grain=hour"


async def test_the_ledger_comes_from_the_first_worker_that_is_there(tmp_path: Path) -> None:
    lines = '{"type":"target"}\n{"type":"complete","rows":0}\n'
    got = await asked(tmp_path, LEDGER, None, {LEDGER: (200, lines)}, {LEDGER: (200, "other")})
    assert (got.status, got.body.decode(), got.complete) == (200, lines, True)


async def test_a_ledger_that_is_refused_is_refused_by_the_parent_too(tmp_path: Path) -> None:
    got = await asked(tmp_path, LEDGER, {LEDGER: (503, '{"error":{}}')})
    assert (got.status, got.json) == (503, {"error": {}})


async def test_without_any_worker_there_is_no_ledger(tmp_path: Path) -> None:
    assert (await asked(tmp_path, LEDGER, None, None)).status == 503
