"""A name that is resolved from time to time, by resolvers that fail, hang, or forget it for a moment."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from proxy.cluster.names import Addresses, NotResolved
from proxy.discovery.dns_source import DnsSource
from proxy.discovery.known_addresses import GONE_AFTER
from proxy.policy.discovery import DnsService
from tests.discovery.following import until

SERVICE = DnsService(host="vllm", port=8000)
GONE = NotResolved("`vllm` has no addresses", gone=True)
AWAY = NotResolved("no answer: try again")


def four(*addresses: str) -> Addresses:
    return Addresses(ipv4=frozenset(addresses))


class Resolver:
    """Answers as it is told, the last answer for ever."""

    def __init__(self, *answers: Addresses | NotResolved) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, host: str) -> Addresses:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, NotResolved):
            raise answer
        return answer


@asynccontextmanager
async def asking(lookup: Callable[[str], Addresses], **options: float) -> AsyncIterator[tuple[DnsSource, list[int]]]:
    """A source that runs, and how many replicas it had whenever it said that something is new."""
    heard: list[int] = []

    def hear() -> None:
        heard.append(len(hosts(source)))

    with ThreadPoolExecutor(2) as threads:
        source = DnsSource("vllm", hear, threads=threads, lookup=lookup, **{"every_s": 0.002, **options})  # type: ignore[arg-type]
        task = asyncio.create_task(source.run())
        try:
            yield source, heard
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def hosts(source: DnsSource) -> set[str]:
    listing = source.listing(SERVICE)
    assert listing is not None
    return set(listing.urls)


async def test_whoever_comes_and_goes() -> None:
    resolver = Resolver(four("10.0.0.1"), four("10.0.0.1"), four("10.0.0.1", "10.0.0.2"), four("10.0.0.2"))
    async with asking(resolver) as (source, heard):
        await until(lambda: len(heard) == 3)
        assert heard == [1, 2, 1]
        assert hosts(source) == {"http://10.0.0.2:8000/v1"}
        assert source.standing.up


async def test_before_the_first_answer_nothing_is_known() -> None:
    async with asking(Resolver(AWAY)) as (source, heard):
        await until(lambda: source.standing.failures > 3)
        assert source.listing(SERVICE) is None
        assert (heard, source.standing.trouble) == ([], "no answer: try again")


async def test_a_resolver_that_fails_keeps_what_was_known() -> None:
    async with asking(Resolver(four("10.0.0.1"), AWAY)) as (source, _):
        await until(lambda: source.standing.failures > 5)
        assert hosts(source) == {"http://10.0.0.1:8000/v1"}
        assert not source.standing.up


async def test_a_name_that_is_forgotten_for_a_moment_keeps_its_addresses() -> None:
    answers = [four("10.0.0.1"), *[GONE] * (GONE_AFTER - 1), four("10.0.0.1"), GONE, four("10.0.0.1", "10.0.0.2")]
    async with asking(Resolver(*answers)) as (_, heard):
        await until(lambda: len(heard) == 2)
        assert heard == [1, 2]


async def test_a_name_that_stays_gone_is_gone() -> None:
    async with asking(Resolver(four("10.0.0.1"), GONE)) as (source, heard):
        await until(lambda: heard == [1, 0])
        listing = source.listing(SERVICE)
        assert listing is not None
        assert (
            listing.trouble == "`vllm` has no addresses (hint: is it a headless Service, and does anything of it run?)"
        )
        assert source.standing.up


async def test_that_nothing_of_it_runs_yet_is_an_answer_too() -> None:
    async with asking(Resolver(GONE, GONE, four("10.0.0.1"))) as (source, heard):
        await source.standing.answered.wait()
        await until(lambda: heard == [0, 1])


async def test_a_resolver_that_hangs_is_not_asked_again_and_is_down() -> None:
    free, asked = threading.Event(), 0

    def hangs(host: str) -> Addresses:
        nonlocal asked
        asked += 1
        if asked == 2:
            free.wait(10.0)
        return four(f"10.0.0.{asked}")

    async with asking(hangs, answer_s=0.01) as (source, _):
        await until(lambda: not source.standing.up and source.standing.as_of > 0.0)
        assert (asked, hosts(source)) == (2, {"http://10.0.0.1:8000/v1"})
        assert source.standing.trouble == "no answer within 0.01 s"
        free.set()
        await until(lambda: source.standing.up)
