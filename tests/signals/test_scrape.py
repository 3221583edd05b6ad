"""The scraper asks each engine that has metrics, about once a second, and bears whatever it answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
from proxy.policy.model import Engine, Secret, Target
from proxy.signals.engine_metrics import EngineReading
from proxy.signals.scrape import SILENT_AFTER, ScrapeFailed, Scraper, metrics_url
from proxy.signals.scrape_client import HttpFetch, opener
from proxy.simulator.engine import EngineSimulator
from proxy.simulator.profile import PROFILES
from tests.routing.policies import dedicated, shared
from tests.signals import engine_pages as pages

PATIENCE_S = 10.0
OFTEN_S = 0.002
VLLM = replace(dedicated(replicas=2), engine=Engine.VLLM)


class Engines:
    """Stands for the HTTP client: a page, a status or a failure by URL; a thing that is not there answers 404."""

    def __init__(self, **answers: bytes | int | ScrapeFailed) -> None:
        self.answers: dict[str, bytes | int | ScrapeFailed] = dict(answers)
        self.asked: list[tuple[str, str | None]] = []
        self.open_clients = 0
        self.connect_s = 0.07
        self._moved = asyncio.Event()

    async def get(self, url: str, key: str | None, feed: Callable[[bytes], None]) -> int:
        await asyncio.sleep(0)
        self.asked.append((url, key))
        self._moved.set()
        answer = self.answers.get(url, 404)
        if isinstance(answer, ScrapeFailed):
            raise answer
        if isinstance(answer, int):
            return answer
        for start in range(0, len(answer), 100):
            feed(answer[start : start + 100])
        return 200

    def open(self) -> Engines:
        self.open_clients += 1
        return self

    async def aclose(self) -> None:
        self.open_clients -= 1

    async def until(self, done: Callable[[], bool]) -> None:
        """Returns once something that an engine is asked for has made it so."""
        async with asyncio.timeout(PATIENCE_S):
            while not done():
                self._moved.clear()
                await self._moved.wait()

    def times(self, url: str) -> int:
        return sum(asked == url for asked, _ in self.asked)


Readings = list[tuple[str, str, EngineReading]]


@contextlib.asynccontextmanager
async def scraping(engines: Engines, *targets: Target) -> AsyncIterator[tuple[Scraper, Readings]]:
    seen: Readings = []
    scraper = Scraper(
        targets, lambda *one: seen.append(one), open_fetch=engines.open, every_s=OFTEN_S, draw=lambda: 0.5
    )
    scraper.start()
    try:
        yield scraper, seen
    finally:
        await scraper.aclose()


def where(target: Target, replica: int = 0, path: str = "/metrics") -> str:
    return metrics_url(target.urls[replica], path)


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("http://gpu:8000/v1", "http://gpu:8000/metrics"),
        ("http://gpu:8000/v1/", "http://gpu:8000/metrics"),
        ("https://gateway/llama/v1", "https://gateway/llama/metrics"),
        ("http://gpu:8000", "http://gpu:8000/metrics"),
        ("http://gpu/v1beta", "http://gpu/v1beta/metrics"),
    ],
)
def test_metrics_are_beside_the_api(base: str, url: str) -> None:
    assert metrics_url(base, "/metrics") == url


async def test_every_replica_is_asked_again_and_again() -> None:
    engines = Engines(**{where(VLLM, index): pages.VLLM for index in (0, 1)})
    async with scraping(engines, VLLM, shared(), replace(dedicated(), name="plain")) as (scraper, seen):
        await engines.until(lambda: all(engines.times(where(VLLM, index)) >= 3 for index in (0, 1)))
        standings = list(scraper.standings())
    assert {(name, url) for name, url, _ in seen} == {(VLLM.name, url) for url in VLLM.urls}
    assert {reading.requests for _, _, reading in seen} == {9}
    assert {url for url, _ in engines.asked} == {where(VLLM), where(VLLM, 1)}
    assert [(one.replica, one.failures, one.trouble, one.connect_s) for one in standings] == [
        (0, 0, "", 0.07),
        (1, 0, "", 0.07),
    ]
    assert all(one.reading is not None for one in standings)
    assert engines.open_clients == 0


async def test_the_key_of_the_target_is_shown_and_told_nobody(caplog: pytest.LogCaptureFixture) -> None:
    target = replace(VLLM, api_key=Secret("sk-engine"), urls=VLLM.urls[:1])
    engines = Engines(**{where(target): 401})
    async with scraping(engines, target) as (scraper, _):
        await engines.until(lambda: engines.times(where(target)) > SILENT_AFTER)
        (standing,) = scraper.standings()
    assert engines.asked[0][1] == "sk-engine"
    assert "answers 401" in standing.trouble
    assert "answers 401" in caplog.text
    assert "sk-engine" not in caplog.text + standing.trouble


async def test_an_engine_that_fails_is_asked_more_rarely_and_the_others_are_not() -> None:
    engines = Engines(**{where(VLLM): ScrapeFailed("gone"), where(VLLM, 1): pages.VLLM})
    async with scraping(engines, VLLM) as (scraper, seen):
        await engines.until(lambda: engines.times(where(VLLM, 1)) >= 20)
        broken, well = scraper.standings()
    assert 2 <= engines.times(where(VLLM)) <= 8
    assert (broken.trouble, broken.reading, well.trouble) == ("gone", None, "")
    assert {url for _, url, _ in seen} == {VLLM.urls[1]}


async def test_a_failure_is_logged_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    target = replace(VLLM, urls=VLLM.urls[:1])
    engines = Engines(**{where(target): ScrapeFailed("connection refused")})
    async with scraping(engines, target) as (_, seen):
        await engines.until(lambda: engines.times(where(target)) >= SILENT_AFTER + 2)
        engines.answers[where(target)] = pages.VLLM
        before = engines.times(where(target))
        await engines.until(lambda: engines.times(where(target)) >= before + 3)
    assert seen
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        f"no metrics of `{target.name}`",
        f"`{target.name}` publishes its metrics again",
    ]


async def test_an_engine_without_metrics_is_told_how_to_have_them() -> None:
    target = replace(VLLM, engine=Engine.SGLANG, urls=VLLM.urls[:1])
    engines = Engines()
    async with scraping(engines, target) as (scraper, seen):
        await engines.until(lambda: engines.times(where(target)) >= 2)
        (standing,) = scraper.standings()
    assert not seen
    assert standing.trouble == f"{where(target)} answers 404 (hint: start SGLang with `--enable-metrics`)"


async def test_a_page_of_something_else_is_no_reading() -> None:
    engines = Engines(**{where(VLLM): b"<html>\nhello\n</html>", where(VLLM, 1): b"[]"})
    async with scraping(engines, VLLM) as (scraper, seen):
        await engines.until(lambda: min(engines.times(where(VLLM, index)) for index in (0, 1)) >= 2)
        html, empty = scraper.standings()
    assert "it tells of no requests (hint: is it a vLLM?" in html.trouble
    assert (empty.trouble, empty.reading, seen) == ("", None, [])


async def test_tensorrt_llm_is_asked_where_it_answers() -> None:
    target = replace(VLLM, engine=Engine.TRTLLM, urls=VLLM.urls[:1])
    best, other = where(target, path="/prometheus/metrics"), where(target)
    engines = Engines(**{other: pages.TRTLLM_STEPS})
    async with scraping(engines, target) as (_, seen):
        await engines.until(lambda: engines.times(other) >= 3)
    assert engines.times(best) == 1
    assert {reading.running for _, _, reading in seen} == {4}


async def test_another_policy_changes_who_is_asked() -> None:
    other = replace(VLLM, name="other", urls=("http://other:8000/v1",))
    engines = Engines(**{where(VLLM, index): pages.VLLM for index in (0, 1)} | {where(other): pages.VLLM})
    async with scraping(engines, VLLM) as (scraper, _):
        await engines.until(lambda: min(engines.times(where(VLLM, index)) for index in (0, 1)) >= 2)
        scraper.adopt([replace(VLLM, urls=VLLM.urls[::-1][:1]), other])
        gone = engines.times(where(VLLM))
        kept = {(one.target, one.replica, one.url): one.reading is not None for one in scraper.standings()}
        await engines.until(lambda: engines.times(where(other)) >= 2 and engines.times(where(VLLM, 1)) >= 4)
        assert engines.times(where(VLLM)) <= gone + 1
        assert engines.open_clients == 2
        scraper.adopt([])
        assert list(scraper.standings()) == []
    assert kept == {(VLLM.name, 0, VLLM.urls[1]): True, ("other", 0, other.urls[0]): False}


async def test_another_key_is_another_engine() -> None:
    target = replace(VLLM, urls=VLLM.urls[:1])
    engines = Engines(**{where(target): pages.VLLM})
    async with scraping(engines, target) as (scraper, _):
        await engines.until(lambda: engines.times(where(target)) >= 2)
        scraper.adopt([replace(target, api_key=Secret("sk-new"))])
        await engines.until(lambda: (where(target), "sk-new") in engines.asked)
        after = engines.asked[engines.asked.index((where(target), "sk-new")) :]
        assert {key for _, key in after} == {"sk-new"}


async def test_a_mistake_of_ours_is_logged_and_ends_no_other_task(caplog: pytest.LogCaptureFixture) -> None:
    engines = Engines(**{where(VLLM, index): pages.VLLM for index in (0, 1)})
    seen: list[str] = []

    def on_reading(target: str, url: str, reading: EngineReading) -> None:
        seen.append(url)
        if url == VLLM.urls[0]:
            raise KeyError("oh")

    scraper = Scraper([VLLM], on_reading, open_fetch=engines.open, every_s=OFTEN_S)
    scraper.start()
    await engines.until(lambda: engines.times(where(VLLM, 1)) >= 5)
    await scraper.aclose()
    assert seen.count(VLLM.urls[0]) == 1
    assert f"reading the metrics of `{VLLM.name}` failed" in caplog.text


async def test_nothing_is_asked_before_the_start_nor_after_the_end() -> None:
    engines = Engines()
    scraper = Scraper([VLLM], lambda *one: None, open_fetch=engines.open, every_s=OFTEN_S)
    await scraper.aclose()
    scraper.adopt([VLLM])
    assert engines.asked == []


async def test_a_simulated_engine_over_http() -> None:
    seen: asyncio.Queue[EngineReading] = asyncio.Queue()
    async with EngineSimulator(PROFILES["8b-fp8-1xh100"]) as engine:
        target = replace(VLLM, urls=(engine.url,))
        scraper = Scraper([target], lambda target, url, reading: seen.put_nowait(reading), every_s=OFTEN_S)
        scraper.start()
        async with asyncio.timeout(PATIENCE_S):
            first, second = await seen.get(), await seen.get()
        await scraper.aclose()
    assert (first.running, first.waiting, first.kv_use) == (0, 0, 0.0)
    assert first.as_of < second.as_of
    assert first.ttft is not None
    assert first.ttft.count == 0


class Server:
    """Answers each request on a connection with the same bytes, or never."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.connections: list[asyncio.Task[None]] = []

    def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(self.answer)
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def served(answer: bytes) -> AsyncIterator[tuple[Server, str]]:
    server = Server(answer)
    async with await asyncio.start_server(server, "127.0.0.1", 0) as listening:
        yield server, f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/metrics"
        await asyncio.gather(*server.connections)


def page(body: bytes, status: bytes = b"200 OK", more: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\n%s\r\n%s" % (status, len(body), more, body)


@contextlib.asynccontextmanager
async def fetching(timeout_s: float = PATIENCE_S, max_bytes: int = 10_000) -> AsyncIterator[HttpFetch]:
    fetch = opener(timeout_s, max_bytes)()
    try:
        yield fetch
    finally:
        await fetch.aclose()


async def test_connections_are_reused_and_pages_asked_for_as_they_are() -> None:
    got: list[bytes] = []
    async with served(page(pages.VLLM)) as (server, url), fetching() as fetch:
        assert [await fetch.get(url, "sk", got.append) for _ in range(3)] == [200, 200, 200]
        assert fetch.connect_s is not None
        assert 0 < fetch.connect_s < PATIENCE_S
    assert len(server.connections) == 1
    assert b"".join(got) == pages.VLLM * 3
    sent = server.requests[0].lower()
    assert b"authorization: bearer sk\r\n" in sent
    assert b"accept-encoding: identity\r\n" in sent


async def test_redirects_are_not_followed_and_their_bodies_not_read() -> None:
    elsewhere = page(b"moved", b"302 Found", b"location: http://127.0.0.1:1/\r\n")
    got: list[bytes] = []
    async with served(elsewhere) as (server, url), fetching() as fetch:
        assert await fetch.get(url, None, got.append) == 302
    assert (got, len(server.requests)) == ([], 1)
    assert b"authorization" not in server.requests[0].lower()


async def test_the_environments_proxy_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with served(page(b"x 1\n")) as (_, url), fetching() as fetch:
        assert await fetch.get(url, None, lambda data: None) == 200


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (page(b"x" * 20_000), "is longer than"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nab", "does not answer within"),
        (b"not http at all\r\n\r\n", "http://127.0.0.1"),
    ],
)
async def test_a_page_that_never_ends_or_is_none_is_given_up(answer: bytes, complaint: str) -> None:
    async with served(answer) as (_, url), fetching(timeout_s=0.2) as fetch:
        with pytest.raises(ScrapeFailed, match=complaint):
            await fetch.get(url, None, lambda data: None)


async def test_nobody_there_is_a_failure_too() -> None:
    async with fetching() as fetch:
        with pytest.raises(ScrapeFailed, match=r"http://127\.0\.0\.1:1/metrics: "):
            await fetch.get("http://127.0.0.1:1/metrics", None, lambda data: None)
