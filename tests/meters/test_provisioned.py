"""How many replicas there are: as the policy says, or as whoever it says to ask last answered."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from proxy.meters import provisioned
from proxy.meters.kubernetes import Cluster, CountUnknown
from proxy.meters.provisioned import STALE_AFTER_S, NoAddresses, Provisioned, addresses
from proxy.policy.gpus import DnsReplicas, KubernetesReplicas
from tests.meters.conftest import until
from tests.meters.examples import LLAMA, TOGETHER
from tests.meters.gpu_cluster import H100

HOST = DnsReplicas(host="vllm.inference.svc")
SERVICE = KubernetesReplicas(service="vllm", namespace="inference")
BY_DNS = replace(LLAMA, gpus=replace(H100, replicas=HOST))
BY_CLUSTER = replace(LLAMA, name="other", gpus=replace(H100, replicas=SERVICE))


class Answers(Cluster):
    """Answers as it is told, to DNS names and Services alike."""

    def __init__(self, *answers: int | Exception) -> None:
        self.asked = 0
        self._answers = answers

    def replicas(self, service: object) -> int:
        answer = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        if isinstance(answer, Exception):
            raise answer
        return answer


@asynccontextmanager
async def running(*fleet: Any, **options: Any) -> AsyncIterator[Provisioned]:
    counts = Provisioned(lambda: fleet, **{"every_s": 0.005, **options})
    counts.start()
    yield counts
    await counts.aclose()


def test_the_policys_own_count_needs_nobody() -> None:
    counts = Provisioned(lambda: [LLAMA, TOGETHER])
    three = replace(LLAMA, gpus=replace(H100, replicas=3))
    assert [counts.replicas(target) for target in (LLAMA, three, replace(LLAMA, gpus=None))] == [2, 3, 2]
    assert (counts.age_s(LLAMA), counts.stale()) == (0.0, ())


def test_before_the_first_answer_there_is_no_count() -> None:
    counts = Provisioned(lambda: [BY_DNS])
    assert (counts.replicas(BY_DNS), counts.age_s(BY_DNS), counts.stale()) == (None, None, ("llama-eu",))


async def test_names_and_services_are_asked_again_and_again() -> None:
    names, cluster = Answers(3, 3, 4), Answers(1, 0)
    async with running(BY_DNS, BY_CLUSTER, LLAMA, resolve=names.replicas, cluster=cluster) as counts:
        await until(lambda: counts.replicas(BY_DNS) == 4 and counts.replicas(BY_CLUSTER) == 0)
        assert counts.stale() == ()


async def test_an_error_keeps_the_last_count_and_its_age_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, provisioned.__name__)
    now = [1000.0]
    names = Answers(3, CountUnknown("no answer: try again"))
    async with running(BY_DNS, resolve=names.replicas, clock=lambda: now[0]) as counts:
        await until(lambda: names.asked > 5)
        now[0] += STALE_AFTER_S + 1.0
        assert counts.replicas(BY_DNS) == 3
        assert counts.age_s(BY_DNS) == STALE_AFTER_S + 1.0
        assert counts.stale() == ("llama-eu",)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [
        "the DNS name `vllm.inference.svc` does not say how many replicas there are, 3 as before: no answer: try again"
    ]


async def test_a_name_that_is_gone_is_believed_after_a_while() -> None:
    gone = NoAddresses("`vllm.inference.svc` has no addresses")
    names = Answers(3, gone, 3, gone, gone, gone)
    seen = []
    async with running(BY_DNS, resolve=names.replicas) as counts:
        while counts.replicas(BY_DNS) != 0:
            seen.append((names.asked, counts.replicas(BY_DNS)))
            await asyncio.sleep(0)
        assert counts.stale() == ()
    assert {replicas for asked, replicas in seen if 1 < asked < 6} == {3}


async def test_a_name_that_never_had_an_address_may_be_wrong() -> None:
    names = Answers(NoAddresses("`vllm.inference.svc` has no addresses"))
    async with running(BY_DNS, resolve=names.replicas) as counts:
        await until(lambda: names.asked > 5)
        assert counts.replicas(BY_DNS) is None


async def test_who_does_not_answer_is_not_asked_twice_and_holds_up_nobody(caplog: pytest.LogCaptureFixture) -> None:
    release, asked = threading.Event(), []

    def hang(name: DnsReplicas) -> int:
        asked.append(name)
        release.wait(30.0)
        return 1

    async with running(BY_DNS, BY_CLUSTER, resolve=hang, cluster=Answers(2)) as counts:
        await until(lambda: counts.replicas(BY_CLUSTER) == 2 and "no answer yet" in caplog.text)
        assert (counts.replicas(BY_DNS), asked) == (None, [HOST])
        await counts.aclose()
        release.set()


async def test_a_source_that_leaves_the_policy_is_forgotten() -> None:
    fleet = [BY_DNS]
    counts = Provisioned(lambda: fleet, resolve=Answers(3).replicas, every_s=0.005)
    counts.start()
    await until(lambda: counts.replicas(BY_DNS) == 3)
    fleet.clear()
    await until(lambda: counts.replicas(BY_DNS) is None)
    await counts.aclose()


def resolving(monkeypatch: pytest.MonkeyPatch, answer: Callable[[], list[Any]]) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: answer())


def entry(family: int, address: str) -> tuple[Any, ...]:
    return (family, socket.SOCK_STREAM, 6, "", (address, 0))


def test_addresses_are_counted_once_and_those_of_two_families_as_one_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    four = [entry(socket.AF_INET, f"10.0.0.{pod}") for pod in (1, 2, 2, 3)]
    six = [entry(socket.AF_INET6, f"fd00::{pod}") for pod in (1, 2)]
    resolving(monkeypatch, lambda: four + six)
    assert addresses(HOST) == 3


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (socket.gaierror(socket.EAI_NONAME, "name not known"), NoAddresses),
        (socket.gaierror(socket.EAI_AGAIN, "try again"), CountUnknown),
        (UnicodeError("label too long"), CountUnknown),
    ],
)
def test_a_name_without_addresses_is_told_from_a_resolver_without_an_answer(
    monkeypatch: pytest.MonkeyPatch, error: Exception, expected: type[Exception]
) -> None:
    def fail() -> list[Any]:
        raise error

    resolving(monkeypatch, fail)
    with pytest.raises(CountUnknown) as unknown:
        addresses(HOST)
    assert type(unknown.value) is expected


def test_localhost_is_one_address() -> None:
    assert addresses(DnsReplicas(host="localhost")) == 1
