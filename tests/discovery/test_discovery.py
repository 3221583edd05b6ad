"""Sources and targets: who is followed, what is kept when the policy changes, and when somebody is told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from proxy.cluster.names import Addresses, NotResolved
from proxy.discovery.discovery import TOGETHER_S, Discovery
from proxy.discovery.dns_source import DnsSource
from proxy.discovery.listing import NO_SLICES
from proxy.policy.discovery import DnsService, KubernetesService
from tests.apiserver import endpoint, endpoint_slice
from tests.discovery.following import VLLM, following, target, until

LLAMA = target("llama", DnsService(host="llama", port=8000))
QWEN = target("qwen", DnsService(host="qwen", port=8000))


class Names:
    """A resolver, and what it knows."""

    def __init__(self, **known: Iterable[str]) -> None:
        self.known = {name: set(addresses) for name, addresses in known.items()}
        self.asked: list[str] = []

    def __call__(self, host: str) -> Addresses:
        self.asked.append(host)
        if host not in self.known:
            raise NotResolved("no answer: try again")
        return Addresses(ipv4=frozenset(self.known[host]))


class Told:
    """Counts how often it was told."""

    times = 0

    def __call__(self) -> None:
        self.times += 1


def discovery(names: Names, *targets: Any, told: Told | None = None) -> Discovery:
    return Discovery(targets, told or Told(), lookup=names, dns_every_s=0.002)


def urls(of: Discovery) -> dict[str, tuple[str, ...]]:
    return {name: found.urls for name, found in of.found().items()}


def url(address: str) -> str:
    return f"http://{address}:8000/v1"


async def test_replicas_are_found_before_it_has_started() -> None:
    one = discovery(Names(llama=["10.0.0.2", "10.0.0.1"]), LLAMA, target("fixed", None))
    assert (one.targets, one.found()) == (("llama",), {})
    await one.start()
    assert urls(one) == {"llama": (url("10.0.0.1"), url("10.0.0.2"))}
    found = one.found()["llama"]
    assert (found.up, found.trouble, found.terminating, found.unready) == (True, "", 0, 0)
    await one.aclose()


async def test_who_does_not_answer_is_not_waited_for_any_longer() -> None:
    one = discovery(Names(llama=["10.0.0.1"]), LLAMA, QWEN)
    began = asyncio.get_running_loop().time()
    await one.start(first_answer_s=0.05)
    assert 0.04 <= asyncio.get_running_loop().time() - began < 2.0
    assert set(one.found()) == {"llama"}
    await one.aclose()


async def test_proxies_that_began_at_different_times_number_replicas_alike() -> None:
    names, told = Names(llama=["10.0.0.5", "10.0.0.7"]), Told()
    older, newer = discovery(names, LLAMA, told=told), discovery(names, LLAMA)
    await older.start()
    await until(lambda: told.times == 1)
    names.known["llama"] = {"10.0.0.7", "10.0.0.9", "10.0.0.1"}
    await until(lambda: told.times == 2)
    await newer.start()
    expected = {"llama": tuple(map(url, ("10.0.0.1", "10.0.0.7", "10.0.0.9")))}
    assert (urls(older), urls(newer)) == (expected, expected)
    await older.aclose()
    await newer.aclose()


async def test_changes_that_come_together_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.discovery.discovery.TOGETHER_S", 0.3)
    names, told = Names(llama=["10.0.0.1"], qwen=["10.0.1.1"]), Told()
    one = discovery(names, LLAMA, QWEN, told=told)
    await one.start()
    await until(lambda: told.times == 1)
    names.known = {"llama": {"10.0.0.2"}, "qwen": {"10.0.1.2"}}
    await until(lambda: urls(one) == {"llama": (url("10.0.0.2"),), "qwen": (url("10.0.1.2"),)})
    await until(lambda: told.times == 2)
    await asyncio.sleep(0.4)
    assert told.times == 2
    await one.aclose()


async def test_a_pod_that_is_gone_for_a_moment_keeps_its_place_and_nobody_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = (url("10.0.0.1"), url("10.0.0.2"))
    async with following(tmp_path) as of:
        of.server.put(endpoint_slice("one", endpoint("1", "10.0.0.1"), endpoint("2", "10.0.0.2")))
        await of.until(lambda: bool(of.told) and of.told[-1]["a"].urls == both)
        told = len(of.told)
        monkeypatch.setattr("proxy.discovery.discovery.TOGETHER_S", 0.5)
        of.server.put(endpoint_slice("one", endpoint("2", "10.0.0.2")))
        await of.until(lambda: of.hosts() == {"10.0.0.2"})
        of.server.put(endpoint_slice("two", endpoint("1", "10.0.0.1")))
        await of.until(lambda: of.found.urls == both)
        await asyncio.sleep(0.6)
        assert len(of.told) == told


async def test_another_policy_keeps_what_is_known_of_sources_that_stay() -> None:
    names = Names(llama=["10.0.0.1"], qwen=["10.0.1.1"])
    one = discovery(names, LLAMA)
    await one.start()
    del names.known["llama"]
    one.adopt([target("llama-2", DnsService(host="llama", port=9000)), QWEN])
    assert urls(one) == {"llama-2": ("http://10.0.0.1:9000/v1",)}
    await until(lambda: "qwen" in one.found())
    await one.aclose()


async def test_sources_that_are_gone_are_not_asked_any_more() -> None:
    names = Names(llama=["10.0.0.1"], qwen=["10.0.1.1"])
    one = discovery(names, LLAMA, QWEN)
    await one.start()
    one.adopt([QWEN])
    assert set(one.found()) == {"qwen"}
    await until(lambda: names.asked[-20:] == ["qwen"] * 20)
    await one.aclose()


async def test_nobody_is_told_that_a_policy_was_adopted_that_changes_nothing() -> None:
    names, told = Names(llama=["10.0.0.1"]), Told()
    one = discovery(names, LLAMA, told=told)
    await one.start()
    await until(lambda: told.times == 1)
    for _ in range(3):
        one.adopt([LLAMA])
        await asyncio.sleep(TOGETHER_S)
    assert told.times == 1
    await one.aclose()


async def test_after_the_end_nobody_is_told_or_asked() -> None:
    names, told = Names(llama=["10.0.0.1"]), Told()
    one = discovery(names, LLAMA, told=told)
    await one.start()
    await one.aclose()
    await one.aclose()
    before, asked = told.times, len(names.asked)
    await asyncio.sleep(2 * TOGETHER_S)
    assert told.times == before
    assert len(names.asked) <= asked + 1  # a thread may just have been about to ask


async def test_a_target_may_be_looked_for_elsewhere(tmp_path: Path) -> None:
    async with following(tmp_path, lookup=Names(llama=["10.0.9.9"])) as of:
        of.server.put(endpoint_slice("one", endpoint("1", "10.0.0.1")))
        await of.until(lambda: of.hosts() == {"10.0.0.1"})
        of.discovery.adopt([target("a", DnsService(host="llama", port=8000))])
        await of.until(lambda: of.hosts() == {"10.0.9.9"})
        await of.until(lambda: not of.server.watches)


async def test_who_is_looked_for_elsewhere_is_told_of_though_the_same_are_found_there() -> None:
    names, told = Names(llama=["10.0.0.1"]), Told()
    one = discovery(names, LLAMA, told=told)
    await one.start()
    await until(lambda: told.times == 1)
    one.adopt([target("llama", DnsService(host="renamed", port=8000))])
    assert urls(one) == {}
    names.known["renamed"] = {"10.0.0.1"}
    await until(lambda: urls(one) == {"llama": (url("10.0.0.1"),)})
    await until(lambda: told.times == 2)
    await one.aclose()


async def test_a_watch_outlives_a_policy(tmp_path: Path) -> None:
    async with following(tmp_path) as of:
        await of.until(lambda: len(of.server.watches) == 1)
        (watch,) = of.server.watches
        of.discovery.adopt([target("a", VLLM), target("b", KubernetesService(service="vllm", namespace="inference"))])
        of.server.put(endpoint_slice("one", endpoint("1", "10.0.0.1")))
        await of.until(lambda: of.hosts("a") == of.hosts("b") == {"10.0.0.1"})
        assert of.server.watches == {watch}


async def test_pods_are_counted_and_trouble_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with following(tmp_path) as of:
        assert of.found.trouble == NO_SLICES
        of.server.put(endpoint_slice("other", endpoint("1", "10.0.0.1"), service="other"))
        assert caplog.messages == [f"the replicas of `a`: {NO_SLICES}"]
        leaving = endpoint("2", "10.0.0.2", ready=False, serving=True, terminating=True)
        loading = endpoint("3", "10.0.0.3", ready=False)
        of.server.put(endpoint_slice("one", endpoint("1", "10.0.0.1"), leaving, loading))
        await of.until(lambda: of.hosts() == {"10.0.0.1"})
        found = of.found
        assert (found.terminating, found.unready, found.trouble, found.up) == (1, 1, "", True)


async def test_a_mistake_of_ours_is_logged_and_begun_anew(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("proxy.discovery.discovery.AGAIN_S", 0.01)
    names = Names(llama=["10.0.0.1"])
    turn, failed = DnsSource._turn, []

    async def fails_once(self: DnsSource) -> None:
        if not failed:
            failed.append(True)
            raise KeyError("a mistake")
        await turn(self)

    monkeypatch.setattr(DnsSource, "_turn", fails_once)
    one = discovery(names, LLAMA)
    await one.start()
    assert urls(one) == {"llama": (url("10.0.0.1"),)}
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "a mistake" in caplog.text
    await one.aclose()


async def test_who_has_no_such_target_pays_nothing() -> None:
    one = discovery(Names(), target("fixed", None))
    tasks = asyncio.all_tasks()
    await one.start()
    assert (one.found(), asyncio.all_tasks()) == ({}, tasks)
    await one.aclose()
