"""Pods come and go, and the policy that is served has them as replicas."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

import pytest
from proxy.cluster.names import Addresses, NotResolved
from proxy.discovery.discovery import Discovery, Found
from proxy.pods import Pods
from proxy.policy.discovery import DnsService
from proxy.policy.model import Lane, Snapshot
from proxy.routing.decide import Router

from tests.harness import dedicated, proxy, snapshot_of
from tests.scripted import CHAT_REPLY, reply, scripted

SERVICE = DnsService(host="vllm.gpu.svc", port=8000)
STAND_IN = "http://vllm.gpu.svc:8000/v1"
OWN = replace(dedicated("own", STAND_IN), discovery=SERVICE)
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


class Resolver:
    """A name whose addresses change; `None` is silence."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: tuple[str, ...] | None = addresses

    def __call__(self, host: str) -> Addresses:
        if self.addresses is None:
            raise NotResolved("no answer")
        return Addresses(ipv4=frozenset(self.addresses))


class Served:
    """What would be served, one policy after the other."""

    def __init__(self) -> None:
        self.routers: asyncio.Queue[Router] = asyncio.Queue()

    def __call__(self, router: Router) -> None:
        self.routers.put_nowait(router)

    async def urls(self) -> tuple[str, ...]:
        async with asyncio.timeout(10):
            return (await self.routers.get()).snapshot.targets["own"].urls


def pods(snapshot: Snapshot, served: Served, resolver: Resolver) -> Pods:
    return Pods(snapshot, served, find=partial(Discovery, lookup=resolver, dns_every_s=0.01))


def at(*addresses: str) -> tuple[str, ...]:
    return tuple(f"http://{address}:8000/v1" for address in addresses)


async def test_what_is_found_is_served(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "proxy.pods")
    served, resolver = Served(), Resolver("10.0.0.2", "10.0.0.1")
    watching = pods(snapshot_of(OWN), served, resolver)
    await watching.start()
    try:
        assert await served.urls() == at("10.0.0.1", "10.0.0.2")
        resolver.addresses = ("10.0.0.2", "10.0.0.3")
        assert await served.urls() == at("10.0.0.2", "10.0.0.3")
        assert caplog.messages == ["replicas found of `own`: 2", "replicas found of `own`: 2"]
    finally:
        await watching.aclose()


async def test_a_mistake_of_ours_is_logged_and_the_next_change_is_served(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    served, resolver = Served(), Resolver("10.0.0.1")
    watching = pods(snapshot_of(OWN), served, resolver)
    await watching.start()
    try:
        await served.urls()
        with monkeypatch.context() as broken:
            broken.setattr("proxy.pods.Router", {}.__getitem__)
            resolver.addresses = ("10.0.0.2",)
            async with asyncio.timeout(10):
                while not caplog.records:
                    await asyncio.sleep(0.001)
        (record,) = caplog.records
        assert (record.levelno, record.exc_info is not None) == (logging.ERROR, True)
        resolver.addresses = ("10.0.0.3",)
        assert await served.urls() == at("10.0.0.3")
    finally:
        await watching.aclose()


async def test_another_policy_has_the_replicas_from_its_first_request_on() -> None:
    served, resolver = Served(), Resolver("10.0.0.1")
    watching = pods(snapshot_of(OWN), served, resolver)
    await watching.start()
    try:
        await served.urls()
        resolver.addresses = None
        edited = Router(replace(snapshot_of(replace(OWN, region="eu-west-1")), digest="b" * 64))
        watching.adopt(edited)
        assert served.routers.qsize() == 1
        router = await served.routers.get()
        assert router.snapshot.digest == "b" * 64
        assert router.snapshot.targets["own"] == replace(OWN, region="eu-west-1", urls=at("10.0.0.1"))
    finally:
        await watching.aclose()


async def test_a_policy_is_made_ready_with_what_is_known_and_no_more() -> None:
    served = Served()
    watching = pods(snapshot_of(OWN), served, Resolver("10.0.0.1"))
    await watching.start()
    try:
        await served.urls()
        ready = watching.ready(snapshot_of(replace(OWN, region="eu-west-1")))
        assert ready.snapshot.targets["own"].urls == at("10.0.0.1")
        watching.adopt(ready)
        assert await served.routers.get() is ready
        moved = replace(OWN, urls=("http://other.svc:8000/v1",), discovery=replace(SERVICE, host="other.svc"))
        ready = watching.ready(snapshot_of(moved))
        watching.adopt(ready)
        assert await served.routers.get() is ready
        assert ready.snapshot.targets["own"].urls == ("http://other.svc:8000/v1",)
    finally:
        await watching.aclose()


async def test_a_policy_that_lists_its_replicas_is_served_as_it_is_prepared() -> None:
    served = Served()
    plain = Router(snapshot_of(dedicated("own", STAND_IN)))
    watching = pods(plain.snapshot, served, Resolver())
    await watching.start()
    watching.adopt(plain)
    assert await served.routers.get() is plain
    assert served.routers.empty()
    await watching.aclose()


async def test_prometheus_is_told_whether_the_places_answer() -> None:
    served, resolver = Served(), Resolver("10.0.0.1")
    watching = pods(snapshot_of(OWN, dedicated("fixed", STAND_IN)), served, resolver)
    before = {one.name: one.samples for one in watching.metrics()}
    assert [one.value for one in before["spillway_discovery_up"]] == [0.0]
    assert before["spillway_discovery_age_seconds"] == []
    await watching.start()
    await served.urls()
    after = {one.name: one.samples for one in watching.metrics()}
    assert [(one.labels, one.value) for one in after["spillway_discovery_up"]] == [({"target": "own"}, 1.0)]
    (age,) = after["spillway_discovery_age_seconds"]
    assert 0 <= age.value < 10
    await watching.aclose()


async def test_what_is_known_of_pods_or_why_nothing_is() -> None:
    served, resolver = Served(), Resolver()
    resolver.addresses = None
    watching = pods(snapshot_of(OWN, dedicated("fixed", STAND_IN)), served, resolver)
    assert watching.found() == {"own": ""}
    starting = asyncio.create_task(watching.start())
    try:
        async with asyncio.timeout(10):
            while watching.found() != {"own": "no answer"}:
                await asyncio.sleep(0.001)
        resolver.addresses = ("10.0.0.1",)
        await starting
        await served.urls()
        (found,) = watching.found().values()
        assert isinstance(found, Found)
        assert (found.urls, found.up, found.trouble) == (at("10.0.0.1"), True, "")
    finally:
        await watching.aclose()


async def test_a_request_goes_to_the_pod_behind_the_name() -> None:
    async with scripted([reply(CHAT_REPLY)]) as pod:
        port = urlsplit(pod.url).port or 0
        found = DnsService(host="localhost", port=port)
        target = replace(dedicated("own", f"http://localhost:{port}/v1"), discovery=found)
        async with proxy(snapshot_of(target)) as spillway:
            answer = await spillway.post("/v1/chat/completions", ASK)
            assert (answer.status, answer.headers["x-spillway-lane"]) == (200, Lane.DEDICATED)
            served = spillway.spillway._router.snapshot.targets["own"]
            assert served.urls == (f"http://127.0.0.1:{port}/v1",)
