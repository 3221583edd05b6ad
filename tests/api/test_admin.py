"""The admin port: for operators, and for nobody who comes by the data port."""

from __future__ import annotations

import asyncio
import json

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.harness import Reply, dedicated, proxy, request_bytes, snapshot_of
from tests.scripted import CHAT_REPLY, reply, scripted
from tests.wire import wire

POLICY = snapshot_of(dedicated("gpu", "http://127.0.0.1:1/v1"))


async def test_metrics_are_prometheus_text() -> None:
    async with scripted([reply(CHAT_REPLY)]) as up, proxy(snapshot_of(dedicated("gpu", up.url))) as spillway:
        await spillway.post("/v1/chat/completions", {"model": "m"})
        got = await spillway.get("/metrics", admin=True)
    assert got.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(got.body.decode())}
    assert sum(sample.value for sample in families["spillway_requests"].samples if sample.name.endswith("_total")) == 1
    assert {name.partition("_")[0] for name in families} == {"spillway"}


async def test_meters_without_a_store_are_an_error_not_zeros() -> None:
    async with proxy(POLICY) as spillway:
        got = await spillway.get("/admin/meters", admin=True)
    assert (got.status, got.json["error"]["code"]) == (503, "store_unavailable")


async def test_the_policy_tells_its_routes_and_their_uptime_once_it_is_known() -> None:
    answers = [*[[reply(CHAT_REPLY)]] * 19, [reply(b"{}", "500 Oops")]]
    async with scripted(*answers) as up, proxy(snapshot_of(dedicated("gpu", up.url))) as spillway:
        before = await spillway.get("/admin/policy", admin=True)
        unknown = await spillway.get("/metrics", admin=True)
        for _ in range(20):
            await spillway.post("/v1/chat/completions", {"model": "m"})
        async with asyncio.timeout(5):  # a reading is up to a quarter of a second old
            while (after := await spillway.get("/admin/policy", admin=True)).json["routes"][0]["uptime"] is None:
                await asyncio.sleep(0.02)
        known = await spillway.get("/metrics", admin=True)
    assert before.json["revision"] == "d" * 12
    assert before.json["generation"] == 1
    assert before.json["routes"] == [{"name": "default", "uptime": None}]
    assert after.json["routes"] == [{"name": "default", "uptime": {"share": 0.95, "known": 1, "targets": 1}}]
    assert uptimes(unknown) == {}
    assert uptimes(known) == {"default": 0.95}


def uptimes(got: Reply) -> dict[str, float]:
    families = {family.name: family for family in text_string_to_metric_families(got.body.decode())}
    return {one.labels["route"]: one.value for one in families["spillway_route_uptime"].samples}


@pytest.mark.parametrize("path", ["/metrics", "/admin/meters", "/admin/policy"])
async def test_the_data_port_has_none_of_it(path: str) -> None:
    async with proxy(POLICY) as spillway:
        assert (await spillway.get(path)).status == 404


async def test_the_admin_port_routes_no_request() -> None:
    async with proxy(POLICY) as spillway, wire(spillway.admin_port) as client:
        await client.send(request_bytes("POST", "/v1/chat/completions", json.dumps({"model": "m"}).encode()))
        assert (await client.reply()).status == 404
        assert await client.still_good()


async def test_a_scraper_keeps_its_connection() -> None:
    async with proxy(POLICY) as spillway, wire(spillway.admin_port) as client:
        for _ in range(3):
            await client.send(request_bytes("GET", "/metrics"))
            assert (await client.reply()).status == 200
