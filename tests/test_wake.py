"""Sleeping deployments are woken once, by whoever comes first, and asked until they are up."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from proxy.policy.discovery import DnsService
from proxy.policy.model import Secret, Target
from proxy.policy.wake import HttpWake, KubernetesWake, Wake, WakeMethod, Workload
from proxy.wake import TRIES, WANTED_S, WakeFailed, Waker, call, is_up

from tests.harness import dedicated

HOOK = HttpWake(url="http://hook/wake")
GPU = dedicated("gpu", "http://one/v1", "http://two/v1", wake=HOOK)
OTHER = dedicated("other", "http://three/v1")
PATIENCE_S = 10.0


class Place:
    """Where everything is: which URLs answer, who claims what, what was called and found."""

    def __init__(self) -> None:
        self.up: set[str] = set()
        self.called: list[Wake] = []
        self.failures = 0
        self.claimed: set[str] = set()
        self.found: list[tuple[str, str, bool]] = []
        self.changed = asyncio.Event()
        self.now = time.monotonic
        self.loop = asyncio.get_running_loop()

    def find(self, target: str, url: str, now: float, *, present: bool) -> None:
        self.found.append((target, url, present))
        self.changed.set()

    async def claim(self, name: str, for_s: float) -> bool:
        new = name not in self.claimed
        self.claimed.add(name)
        return new

    async def release(self, name: str) -> None:
        self.claimed.discard(name)
        self.changed.set()

    def call(self, wake: Wake) -> None:
        self.called.append(wake)
        self.loop.call_soon_threadsafe(self.changed.set)
        if len(self.called) <= self.failures:
            raise WakeFailed("it answers 500")

    def is_up(self, target: Target, url: str) -> bool:
        return url in self.up

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def waker(place: Place, *targets: Target, **given: Any) -> AsyncIterator[Waker]:
    made = Waker(
        targets or (GPU, OTHER), place.find, place, call=place.call, is_up=place.is_up, every_s=0.01, backoff_s=0.01,
        **given,
    )  # fmt: skip
    made.start()
    try:
        yield made
    finally:
        await made.aclose()


async def test_it_is_woken_once_however_many_need_it_and_asked_until_it_is_up() -> None:
    place = Place()
    async with waker(place) as one, waker(place) as two:
        for _ in range(50):
            one.needs("gpu", time.monotonic())
            two.needs("gpu", time.monotonic())
            await asyncio.sleep(0)
        await place.until(lambda: len(place.found) >= 12)
        assert not any(present for *_, present in place.found)
        place.up = {"http://two/v1"}
        await place.until(lambda: not place.claimed)
        assert place.called == [HOOK]
        assert ("gpu", "http://two/v1", True) in place.found
        assert one.calls + two.calls == {("gpu", "heard"): 1}


async def test_a_target_whose_replicas_are_found_is_up_when_one_is_and_answers() -> None:
    """Nobody is asked while there is nobody to ask; the policy that is adopted next has the pod."""
    place = Place()
    asleep = replace(GPU, urls=(), discovery=DnsService(host="gpu.svc", port=8000))
    async with waker(place, asleep) as woken:
        woken.needs("gpu", time.monotonic())
        await place.until(lambda: bool(place.called))
        assert (place.called, place.found) == ([HOOK], [])
        place.up = {"http://pod/v1"}
        woken.adopt([replace(asleep, urls=("http://pod/v1",))])
        await place.until(lambda: not place.claimed)
        assert place.found[-1] == ("gpu", "http://pod/v1", True)
        assert place.called == [HOOK]


async def test_what_is_up_is_not_woken() -> None:
    place = Place()
    place.up = {"http://one/v1"}
    async with waker(place) as one:
        one.needs("gpu", time.monotonic())
        await place.until(lambda: len(place.found) == 2)
        assert place.found == [("gpu", "http://one/v1", True), ("gpu", "http://two/v1", False)]
        one.needs("gpu", time.monotonic())
        await asyncio.sleep(0)
        assert len(place.found) == 2  # it was up a moment ago
    assert place.called == []


async def test_a_hook_that_fails_is_tried_again_a_few_times(caplog: pytest.LogCaptureFixture) -> None:
    place = Place()
    place.failures = 2
    async with waker(place) as one:
        one.needs("gpu", time.monotonic())
        await place.until(lambda: len(place.called) == 3)
        place.up = {"http://one/v1"}
        await place.until(lambda: not place.claimed)
        assert one.calls == {("gpu", "failed"): 2, ("gpu", "heard"): 1}
    assert "`gpu` sleeps, and its wake hook failed: it answers 500" in caplog.text


async def test_a_hook_that_never_works_is_left_to_others() -> None:
    place = Place()
    place.failures = 99
    async with waker(place) as one:
        one.needs("gpu", time.monotonic())
        await place.until(lambda: len(place.called) == TRIES and not place.claimed)
    assert len(place.called) == TRIES


async def test_a_target_that_nobody_needs_any_more_is_not_asked_any_more() -> None:
    place = Place()
    clock = [0.0]
    async with waker(place, clock=lambda: clock[0]) as one:
        one.needs("gpu", 0.0)
        await place.until(lambda: len(place.found) >= 4)
        task = one._sleepers["gpu"].task
        assert task is not None
        clock[0] = WANTED_S
        async with asyncio.timeout(PATIENCE_S):
            await task
    assert not place.up


async def test_a_policy_without_it_lets_it_sleep() -> None:
    place = Place()
    async with waker(place) as one:
        one.needs("gpu", time.monotonic())
        one.needs("other", time.monotonic())
        one.needs("unheard of", time.monotonic())
        task = one._sleepers["gpu"].task
        assert task is not None
        one.adopt([OTHER])
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        one.needs("gpu", time.monotonic())
        assert one._sleepers == {}
    assert {name for name, *_ in place.found} <= {"gpu"}


async def test_a_mistake_of_ours_is_logged_and_the_next_need_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    place = Place()

    def broken(target: Target, url: str) -> bool:
        raise LookupError("a mistake")

    place.is_up = broken  # type: ignore[method-assign]
    async with waker(place) as one:
        one.needs("gpu", time.monotonic())
        task = one._sleepers["gpu"].task
        assert task is not None
        await asyncio.gather(task, return_exceptions=True)
        assert one._sleepers["gpu"].task is None
    assert "waking `gpu` came to an end: a mistake" in caplog.text


class _Handler(BaseHTTPRequestHandler):
    def _answer(self) -> None:
        server: Any = self.server
        server.asked.append((self.command, self.path, self.headers.get("Authorization")))
        self.send_response(server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_PUT = do_POST = _answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def server() -> Iterator[Any]:
    serving: Any = HTTPServer(("127.0.0.1", 0), _Handler)
    serving.asked, serving.status = [], 200
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield serving
    serving.shutdown()
    thread.join()
    serving.server_close()


def test_a_hook_over_http(server: Any) -> None:
    url = f"http://127.0.0.1:{server.server_address[1]}/wake/llama"
    call(HttpWake(url=url, method=WakeMethod.PUT))
    assert server.asked == [("PUT", "/wake/llama", None)]
    server.status = 302
    with pytest.raises(WakeFailed, match="it answers 302"):
        call(HttpWake(url=url))
    with pytest.raises(WakeFailed, match="no answer"):
        call(HttpWake(url="http://127.0.0.1:1/"))


def test_outside_a_cluster_nothing_is_scaled() -> None:
    with pytest.raises(WakeFailed, match="automountServiceAccountToken"):
        call(KubernetesWake(workload=Workload.DEPLOYMENT, name="vllm", namespace="inference"))


def test_an_engine_is_up_when_it_answers(server: Any) -> None:
    base = f"http://127.0.0.1:{server.server_address[1]}/v1"
    assert is_up(replace(GPU, api_key=Secret("sk-ours")), base)
    assert server.asked == [("GET", "/v1/models", "Bearer sk-ours")]
    server.status = 404
    assert is_up(GPU, base)
    server.status = 503
    assert not is_up(GPU, base)
    assert not is_up(GPU, "http://127.0.0.1:1/v1")
