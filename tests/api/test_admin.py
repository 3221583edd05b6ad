"""The admin port: for operators, and for nobody who comes by the data port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import msgspec
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from proxy.api.admin import admin_app
from proxy.api.health import Health
from proxy.engines import LatencyReport
from proxy.meters.aggregates import Grain
from proxy.meters.standing import BudgetStanding, Standing
from proxy.meters.store_error import StoreUnavailable
from proxy.policy.model import Enforce, Engine, Per
from proxy.simulator.engine import EngineSimulator
from proxy.simulator.profile import PROFILES
from starlette.requests import Request
from starlette.responses import Response
from tests.harness import Reply, dedicated, proxy, request_bytes, shared, snapshot_of
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


async def test_metrics_are_openmetrics_for_who_asks_so() -> None:
    """As Prometheus does."""
    accepted = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
    async with proxy(snapshot_of(shared("api", "http://127.0.0.1:1/v1"))) as spillway:
        got = await spillway.get("/metrics", {"accept": accepted}, admin=True)
    assert got.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family.type for family in parse_openmetrics(got.body.decode())}
    assert families["spillway_requests"] == "counter"


async def test_meters_without_a_store_are_an_error_not_zeros() -> None:
    async with proxy(POLICY) as spillway:
        got = await spillway.get("/admin/meters", admin=True)
    assert (got.status, got.json["error"]["code"]) == (503, "store_unavailable")


STANDING = Standing(
    budgets=(
        BudgetStanding(
            name="growth-spill",
            per=Per.DAY,
            limit_nano_usd=500,
            spent_nano_usd=100,
            held_nano_usd=50,
            free_nano_usd=350,
            enforce=Enforce.HARD,
        ),
    ),
    degraded={"meters": "away"},
)


class Admin:
    """The admin application by itself: `document` is the report, `lines` the ledger."""

    def __init__(self, document: bytes | None = None, *lines: bytes | Exception) -> None:
        self.asked: list[tuple[int, int, Grain]] = []
        self._lines = lines
        app = admin_app(
            lambda openmetrics: (),
            Health(dict, object),
            self._report,
            bytes,
            cast(Any, self),
            standing=lambda: STANDING,
            usage=self._usage,
            demand=self._demand,
        )
        self._document = document
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://admin")

    async def answer(self, request: Request) -> Response:
        return Response()

    async def _report(self) -> bytes | None:
        return self._document

    def _demand(self, from_s: int, to_s: int) -> AsyncIterator[bytes]:
        return self._usage(from_s, to_s, Grain.HOUR)

    async def _usage(self, from_s: int, to_s: int, grain: Grain) -> AsyncIterator[bytes]:
        self.asked.append((from_s, to_s, grain))
        for line in self._lines:
            if isinstance(line, Exception):
                raise line
            yield line


async def test_both_ends_of_a_dedicated_target_stand_side_by_side() -> None:
    async with EngineSimulator(PROFILES["8b-fp8-1xh100"], model="up") as engine:
        policy = snapshot_of(dedicated("gpu", engine.url, engine=Engine.VLLM), shared("api", "http://127.0.0.1:1/v1"))
        async with proxy(policy) as spillway, asyncio.timeout(10):
            messages = [{"role": "user", "content": "hi"}]
            ask = {"model": "m", "messages": messages, "max_tokens": 4, "stream": True}
            assert (await spillway.post("/v1/chat/completions", ask)).status == 200
            while True:
                report = msgspec.json.decode(
                    (await spillway.get("/admin/latency", admin=True)).body, type=LatencyReport
                )
                (target,) = report.targets
                (replica,) = target.replicas
                if target.seen.ttft is not None and replica.age_s is not None:
                    break
                await asyncio.sleep(0.02)
            metrics = (await spillway.get("/metrics", admin=True)).body.decode()
    assert (target.target, target.engine, replica.running, replica.trouble) == ("gpu", "vllm", 0, "")
    assert target.seen.ttft.samples == 1
    assert 'spillway_engine_requests{replica="0",state="running",target="gpu"} 0.0' in metrics


async def test_the_report_comes_with_how_budgets_stand_and_what_is_degraded() -> None:
    got = await Admin(b'{"version":1}').client.get("/admin/meters")
    assert (got.status_code, got.json()["version"]) == (200, 1)
    assert msgspec.json.decode(got.content, type=Standing) == STANDING


async def test_how_budgets_stand_is_known_without_the_store() -> None:
    got = await Admin().client.get("/admin/meters")
    assert (got.status_code, got.json()["error"]["code"]) == (503, "store_unavailable")
    assert msgspec.json.decode(got.content, type=Standing) == STANDING


async def test_the_ledger_is_sent_in_lines_for_whole_hours() -> None:
    admin = Admin(None, b'{"type":"target"}\n', b'{"type":"usage"}\n', b'{"type":"complete","rows":1}\n')
    got = await admin.client.get("/admin/meters/rows?from=3601&to=7300.5&grain=minute")
    assert (got.status_code, got.headers["content-type"]) == (200, "application/jsonl")
    assert [json.loads(line)["type"] for line in got.text.splitlines()] == ["target", "usage", "complete"]
    await admin.client.get("/admin/meters/rows?from=0&to=3600")
    assert admin.asked == [(3600, 10_800, Grain.MINUTE), (0, 3600, Grain.HOUR)]


async def test_demand_is_sent_in_lines_for_whole_hours() -> None:
    admin = Admin(None, b'{"type":"watched"}\n', b'{"type":"bins"}\n')
    got = await admin.client.get("/admin/demand?from=3601&to=7300.5")
    assert [json.loads(line)["type"] for line in got.text.splitlines()] == ["watched", "bins"]
    assert admin.asked == [(3600, 10_800, Grain.HOUR)]
    assert (await Admin(None, StoreUnavailable("gone")).client.get("/admin/demand?from=0&to=1")).status_code == 503
    assert (await admin.client.get("/admin/demand?from=2&to=b")).status_code == 400


async def test_a_ledger_that_cannot_be_read_says_so_at_once_or_at_its_end() -> None:
    away = StoreUnavailable("no answer")
    got = await Admin(None, b'{"type":"target"}\n', away).client.get("/admin/meters/rows?from=0&to=1")
    assert (got.status_code, got.json()["error"]["code"]) == (503, "store_unavailable")
    later = Admin(None, b'{"type":"target"}\n', b'{"type":"usage"}\n', away)
    got = await later.client.get("/admin/meters/rows?from=0&to=1")
    assert got.status_code == 200
    assert json.loads(got.text.splitlines()[-1]) == {"type": "failed", "message": "no answer"}


@pytest.mark.parametrize(
    "query",
    [
        "",
        "from=0",
        "from=a&to=1",
        "from=0&to=1&grain=day",
        "from=7200&to=0",
        "from=0&to=1e9",
        "from=0&to=inf",
        "from=nan&to=1",
    ],
)
async def test_a_span_that_makes_no_sense_is_refused(query: str) -> None:
    admin = Admin()
    got = await admin.client.get(f"/admin/meters/rows?{query}")
    assert (got.status_code, got.json()["error"]["code"], admin.asked) == (400, "invalid_request", [])


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


@pytest.mark.parametrize(
    "path",
    ["/metrics", "/admin/meters", "/admin/meters/rows?from=0&to=1", "/admin/demand?from=0&to=1", "/admin/policy"],
)
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
