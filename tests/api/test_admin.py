"""The admin port: for operators, and for nobody who comes by the data port."""

from __future__ import annotations

import json

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.harness import dedicated, proxy, request_bytes, snapshot_of
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


@pytest.mark.parametrize("path", ["/metrics", "/admin/meters"])
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
