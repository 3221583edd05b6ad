"""A Service followed through an API server that breaks off, forgets, refuses, stalls and comes back."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from proxy.discovery import api_client, kubernetes_source
from proxy.policy.discovery import KubernetesService
from tests.apiserver import ApiServer, Object, Refusal, endpoint, endpoint_slice, status
from tests.discovery.following import QUICK, Following, following, target
from tests.redis.certificates import make_authority


def one(address: str, name: str = "one", **more: Any) -> Any:
    return endpoint_slice(name, endpoint(address, address, **more))


def begun(server: ApiServer) -> None:
    server.put(one("10.0.0.1"))


def lists(of: Following) -> int:
    return sum("watch" not in query for query in of.server.asked)


def watches(of: Following) -> list[str]:
    return [query["resourceVersion"] for query in of.server.asked if "watch" in query]


async def watches_it(of: Following) -> None:
    await of.until(lambda: len(of.server.watches) == 1)


async def sees(of: Following, address: str) -> None:
    """A change is told to whoever follows, whatever happened before."""
    of.server.put(one(address))
    await of.until(lambda: of.hosts() == {address})


async def test_a_list_then_a_watch_from_its_version(tmp_path: Path) -> None:
    async with following(tmp_path, begin=begun) as of:
        assert of.hosts() == {"10.0.0.1"}
        await watches_it(of)
        assert of.server.asked[0] == {"labelSelector": "kubernetes.io/service-name=vllm", "limit": "100"}
        watch = of.server.asked[1]
        assert (watch["resourceVersion"], watch["allowWatchBookmarks"]) == ("1001", "true")
        assert 7 <= int(watch["timeoutSeconds"]) <= QUICK.watch_s
        await sees(of, "10.0.0.2")
        of.server.delete("one")
        await of.until(lambda: of.hosts() == set())
        assert lists(of) == 1


async def test_other_services_are_none_of_its_business(tmp_path: Path) -> None:
    async with following(tmp_path, begin=begun) as of:
        of.server.put(endpoint_slice("other", endpoint("9", "10.0.0.9"), service="other"))
        await sees(of, "10.0.0.2")


async def test_a_watch_is_begun_anew_when_its_time_is_over(tmp_path: Path) -> None:
    async with following(tmp_path, begin=begun, timings=replace(QUICK, watch_s=1.0)) as of:
        await of.until(lambda: len(watches(of)) == 2)
        assert (lists(of), of.found.up, of.found.trouble) == (1, True, "")
        await sees(of, "10.0.0.2")


async def test_a_bookmark_is_where_the_next_watch_begins(tmp_path: Path) -> None:
    async with following(tmp_path, begin=begun) as of:
        await watches_it(of)
        of.server.elsewhere(500)
        of.server.bookmark()
        of.server.compact()
        of.server.end()
        await of.until(lambda: len(watches(of)) == 2)
        assert (watches(of), lists(of)) == (["1001", "1501"], 1)


async def test_a_broken_connection_costs_nothing_that_happened_meanwhile(tmp_path: Path) -> None:
    async with following(tmp_path, begin=begun) as of:
        for number in range(2, 12):
            await watches_it(of)
            of.server.cut()
            await sees(of, f"10.0.0.{number}")
        assert lists(of) == 1


async def test_an_event_that_breaks_off_in_the_middle_is_heard_again(tmp_path: Path) -> None:
    async with following(tmp_path, begin=begun) as of:
        await watches_it(of)
        of.server.faults.cut_in_line = True
        await sees(of, "10.0.0.2")
        assert (lists(of), watches(of)) == (1, ["1001", "1001"])


@pytest.mark.parametrize("as_event", [True, False])
async def test_a_version_that_is_too_old_means_to_list_again(tmp_path: Path, as_event: bool) -> None:
    async with following(tmp_path, begin=begun) as of:
        await watches_it(of)
        of.server.faults.gone_as_event = as_event
        of.server.stall()
        of.server.delete("one")
        of.server.put(one("10.0.0.2", "two"))
        of.server.compact()
        of.server.cut()
        await of.until(lambda: of.hosts() == {"10.0.0.2"})
        assert lists(of) == 2


@pytest.mark.parametrize(
    ("end", "listed"),
    [
        (status(410, "Expired", "too old resource version: 1 (2)"), 2),
        (status(500, "InternalError", "etcdserver: no leader"), 1),
    ],
    ids=["410", "500"],
)
async def test_a_watch_that_is_ended_with_410_means_to_list_again(end: Object, listed: int, tmp_path: Path) -> None:
    async with following(tmp_path, begin=begun) as of:
        await watches_it(of)
        of.server.end_watches(end)
        await of.until(lambda: len(watches(of)) == 2)
        assert lists(of) == listed
        await sees(of, "10.0.0.2")


async def test_a_server_that_has_gone_back_in_time_is_listed_again(tmp_path: Path) -> None:
    async with following(tmp_path, begin=begun) as of:
        await watches_it(of)
        of.server.version = 100  # as after it was restored from a backup
        of.server.cut()
        await of.until(lambda: lists(of) == 2)
        await sees(of, "10.0.0.2")


@pytest.mark.parametrize(("code", "again"), [(429, 1), (500, 1), (503, 1), (403, 2), (401, 2)])
async def test_a_refusal_is_waited_out(tmp_path: Path, code: int, again: int) -> None:
    async with following(tmp_path, begin=begun) as of:
        await watches_it(of)
        of.server.faults.refusals = [Refusal(code=code, times=1, only="watch")]
        of.server.cut()
        await sees(of, "10.0.0.2")
        assert lists(of) == again


async def test_the_server_is_left_alone_for_as_long_as_it_asks_for(tmp_path: Path) -> None:
    async with following(tmp_path, begin=begun) as of:
        await watches_it(of)
        of.server.faults.refusals = [Refusal(code=429, times=1, retry_after_s=1)]
        loop = asyncio.get_running_loop()
        cut_at = loop.time()
        of.server.cut()
        of.server.put(one("10.0.0.2"))
        await of.until(lambda: of.hosts() == {"10.0.0.2"})
        assert loop.time() - cut_at >= 1.0


async def test_what_is_wrong_is_said_and_what_is_known_serves_on(tmp_path: Path) -> None:
    async with following(tmp_path, begin=begun) as of:
        await watches_it(of)
        of.server.faults.refusals = [Refusal(code=403, times=10_000)]
        of.server.cut()
        await of.until(lambda: not of.found.up)
        assert of.found.trouble.startswith("the service account may not `list` and `watch`")
        assert of.hosts() == {"10.0.0.1"}
        of.server.faults.refusals.clear()
        await of.until(lambda: of.found.up and not of.found.trouble)


async def test_without_the_right_to_watch_lists_keep_it_right(tmp_path: Path) -> None:
    def begin(server: ApiServer) -> None:
        begun(server)
        server.faults.refusals = [Refusal(code=403, times=10_000, only="watch")]

    async with following(tmp_path, begin=begin) as of:
        await sees(of, "10.0.0.2")
        await of.until(lambda: not of.found.up)
        assert "may not" in of.found.trouble


async def test_the_token_may_be_another_one_any_time(tmp_path: Path) -> None:
    async with following(tmp_path, begin=begun) as of:
        await watches_it(of)
        of.server.tokens = {"rotated"}
        of.server.cut()
        await of.until(lambda: "does not accept the token" in of.found.trouble)
        (of.access.account / "token").write_text("rotated")
        await sees(of, "10.0.0.2")


async def test_so_may_the_authority(tmp_path: Path) -> None:
    async with following(tmp_path, begin=begun) as of:
        await watches_it(of)
        trusted = (of.access.account / "ca.crt").read_bytes()
        other = tmp_path / "other"
        other.mkdir()
        (of.access.account / "ca.crt").write_bytes(make_authority(other).ca.cert.read_bytes())
        of.server.cut()
        await of.until(lambda: "certificate verify failed" in of.found.trouble)
        (of.access.account / "ca.crt").write_bytes(trusted)
        await sees(of, "10.0.0.2")


async def test_outside_a_cluster_it_is_said_what_is_missing(tmp_path: Path) -> None:
    async with following(tmp_path, begin=begun) as of:
        await watches_it(of)
        (of.access.account / "ca.crt").unlink()
        of.server.cut()
        await of.until(lambda: "automountServiceAccountToken" in of.found.trouble)
        assert of.hosts() == {"10.0.0.1"}


async def test_a_connection_that_is_dead_and_looks_alive_is_noticed(tmp_path: Path) -> None:
    async with following(tmp_path, begin=begun, timings=replace(QUICK, watch_s=0.2, grace_s=0.1)) as of:
        await watches_it(of)
        of.server.stall()
        of.server.put(one("10.0.0.2"))
        await of.until(lambda: of.found.trouble == "the API server neither says anything nor ends the watch")
        await of.until(lambda: of.hosts() == {"10.0.0.2"})


async def test_a_server_that_accepts_and_says_nothing_is_not_waited_for(tmp_path: Path) -> None:
    async with following(tmp_path, begin=begun, timings=replace(QUICK, answer_s=0.2)) as of:
        await of.server.down()
        accepted: list[asyncio.StreamWriter] = []
        silent = await asyncio.start_server(lambda _, writer: accepted.append(writer), "127.0.0.1", of.server.port)
        await of.until(lambda: not of.found.up)
        assert of.hosts() == {"10.0.0.1"}
        silent.close()
        for writer in accepted:
            writer.transport.abort()
        await of.server.up()
        await sees(of, "10.0.0.2")


async def test_a_watch_that_always_ends_at_once_is_not_tried_without_a_pause(tmp_path: Path) -> None:
    def begin(server: ApiServer) -> None:
        begun(server)
        server.faults.refusals = [Refusal(code=200, times=10_000, only="watch")]  # a status object is no event

    async with following(tmp_path, begin=begin) as of:
        await of.until(lambda: not of.found.up)
        asked = len(of.server.asked)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await of.until(lambda: len(of.server.asked) >= asked + 10)
        assert loop.time() - began >= 5 * QUICK.refused_pause_s / 4
        # Each list that is answered in between has it go well again for a moment.
        await of.until(lambda: "before its time" in of.found.trouble)


def many(server: ApiServer) -> None:
    for number in range(25):
        server.put(one(f"10.0.1.{number}", f"slice-{number:02}"))


async def test_a_long_list_comes_in_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_source, "PAGE", 10)
    async with following(tmp_path, begin=many) as of:
        assert len(of.hosts()) == 25
        assert [query.get("continue") for query in of.server.asked[:3]] == [None, "1025-slice-10", "1025-slice-20"]


async def test_pages_that_expire_are_asked_for_in_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_source, "PAGE", 10)

    def begin(server: ApiServer) -> None:
        many(server)
        server.faults.expire_pages = True

    async with following(tmp_path, begin=begin) as of:
        assert len(of.hosts()) == 25
        assert ["limit" in query for query in of.server.asked[:3]] == [True, True, False]


async def test_an_answer_without_end_is_not_read_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_client, "MAX_BODY_BYTES", 1000)
    async with following(tmp_path, begin=many, first_answer_s=0.1) as of:
        await of.until(lambda: lists(of) >= 3)
        assert of.discovery.found() == {}


async def test_frames_may_be_cut_anywhere(tmp_path: Path) -> None:
    async with following(tmp_path, begin=begun, draw=random.Random(5)) as of:
        for number in range(2, 30):
            await sees(of, f"10.0.0.{number}")
        assert lists(of) == 1


async def test_two_targets_of_one_service_are_one_watch(tmp_path: Path) -> None:
    ports = (("http", 8000), ("grpc", 9000))
    targets = [
        target(name, KubernetesService(service="vllm", namespace="inference", port=name)) for name in ("http", "grpc")
    ]

    def begin(server: ApiServer) -> None:
        server.put(endpoint_slice("one", endpoint("1", "10.0.0.1"), ports=ports))

    async with following(tmp_path, *targets, begin=begin) as of:
        found = of.discovery.found()
        assert {name: one.urls for name, one in found.items()} == {
            "http": ("http://10.0.0.1:8000/v1",),
            "grpc": ("http://10.0.0.1:9000/v1",),
        }
        assert lists(of) == 1
