"""The view put together: one for all who ask, of this moment, with money that nobody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import msgspec
import pytest
from proxy.discovery.discovery import Found
from proxy.engines import Engines
from proxy.live import board as boards
from proxy.live.board import Board, Sources
from proxy.live.view import LiveView
from proxy.metering import Metering
from proxy.meters.gpu_hours import GpuRow, GpuTotals
from proxy.meters.report import MeterReport
from proxy.meters.standing import BudgetStanding, Standing, State
from proxy.meters.store_error import StoreUnavailable
from proxy.policy.model import Enforce, Per, Snapshot
from proxy.policy.status import PolicyStatus
from tests.harness import dedicated, proxy, shared, snapshot_of
from tests.live.test_money import USD, metered
from tests.scripted import CHAT_REPLY, reply, scripted
from tests.telemetry.requests import outcome, record

POLICY = snapshot_of(dedicated("gpu", "http://gpu/v1"), shared("api", "http://api/v1"))
ASK = {"model": "m", "messages": []}


class Meters:
    """What the board asks of `Metering`."""

    def __init__(self) -> None:
        self.report: MeterReport | None = metered()
        self.away = False
        self.reads = 0

    def known_report(self) -> MeterReport | None:
        return self.report

    def degraded(self) -> dict[str, str]:
        return {"meters": "away"} if self.away else {}

    def standing(self) -> Standing:
        one = BudgetStanding(
            name="growth",
            per=Per.DAY,
            limit_nano_usd=100,
            spent_nano_usd=90,
            held_nano_usd=10,
            free_nano_usd=0,
            enforce=Enforce.HARD,
        )
        return Standing(budgets=(one,))

    async def hours(self, from_s: float, to_s: float) -> tuple[list[Any], list[GpuRow]]:
        self.reads += 1
        if self.away:
            raise StoreUnavailable("away")
        return [], [GpuRow(int(from_s), "gpu", GpuTotals(nano_usd=7 * USD, busy_nano_usd=4 * USD))]


class Scene:
    """A board, and what it is told."""

    def __init__(self) -> None:
        self.meters = Meters()
        self.snapshot: Snapshot = POLICY
        self.draining = False
        self.flushed = 0
        self.found: dict[str, Found | str] = {}
        sources = Sources(
            snapshot=lambda: self.snapshot,
            policy=lambda: PolicyStatus(revision="abc", loaded_at=1.0),
            draining=lambda: self.draining,
            survey=lambda now: {},
            uptimes=dict,
            waiting=lambda: 3,
            lag_s=lambda: 0.001,
            found=lambda: self.found,
            flush=self.flush,
        )
        self.board = Board(sources, cast("Metering", self.meters), Engines(()), worker=2)

    def flush(self) -> None:
        self.flushed += 1

    def view(self) -> LiveView:
        return msgspec.json.decode(self.board.view(), type=LiveView)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(boards, "TICK_S", 0.02)
    made = Scene()
    yield made
    made.board.close()


def test_the_view_of_a_moment(scene: Scene) -> None:
    scene.board.note(record(outcome()))
    found = scene.view()
    assert [one.target for one in found.decisions] == ["gpu"]
    assert [one.name for one in found.targets] == ["gpu", "api"]
    assert (found.policy.revision, found.health.status, found.worker) == ("abc", "ready", 2)
    assert (found.waiting_room_here, found.event_loop_lag_s_here) == (3, 0.001)
    assert [(one.name, one.state, one.used_share) for one in found.budgets] == [("growth", State.EXHAUSTED, 0.9)]
    assert found.money is not None
    assert found.money.dedicated_nano_usd_per_h == pytest.approx(6 * USD)


def test_it_is_made_once_for_all_who_ask_within_a_tick(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    first = scene.board.view()
    scene.board.note(record(outcome()))
    assert all(scene.board.view() is first for _ in range(100))
    assert scene.flushed == 1
    monkeypatch.setattr(boards, "FRESH_S", 0.0)
    assert scene.board.view() != first


def test_without_the_store_money_is_unknown_and_the_rest_is_not(scene: Scene) -> None:
    scene.meters.report = None
    scene.meters.away = True
    scene.draining = True
    found = scene.view()
    assert (found.money, found.processes) == (None, None)
    assert (found.health.status, found.health.degraded) == ("draining", {"meters": "away"})


async def test_today_is_read_for_who_comes_first_and_not_for_each(scene: Scene) -> None:
    found = msgspec.json.decode(await scene.board.freshened(), type=LiveView)
    assert found.money is not None
    assert found.money.today is not None
    assert (found.money.today.provisioned_nano_usd, found.money.today.idle_nano_usd) == (7 * USD, 3 * USD)
    await asyncio.gather(*[scene.board.freshened() for _ in range(10)])
    assert scene.meters.reads == 1


async def test_a_store_that_is_away_is_not_asked_by_each(scene: Scene) -> None:
    scene.meters.away = True
    for _ in range(3):
        found = msgspec.json.decode(await scene.board.freshened(), type=LiveView)
    assert found.money is not None
    assert found.money.today is None
    assert scene.meters.reads == 1


async def test_a_tick_wakes_all_who_wait_and_the_end_ends_them(scene: Scene) -> None:
    scene.board.start()
    assert await asyncio.gather(*[scene.board.next() for _ in range(3)]) == [True] * 3
    waiting = asyncio.gather(*[scene.board.next() for _ in range(3)])
    await asyncio.sleep(0)
    scene.board.close()
    assert await waiting == [False] * 3
    assert await scene.board.next() is False


async def test_the_history_is_kept_though_nobody_looks(scene: Scene) -> None:
    scene.board.start()
    scene.board.note(record(outcome(ttft_s=0.1)))
    for _ in range(6):
        await scene.board.next()
    found = scene.view().history
    assert len(found.at) == 3
    assert found.dedicated_requests_per_s[0] > 0
    assert found.ttft_p99_s[:2] == (0.1, None)
    assert found.dedicated_nano_usd_per_h[0] == pytest.approx(6 * USD)
    assert scene.meters.reads == 0


async def test_another_policy_is_followed(scene: Scene) -> None:
    scene.board.start()
    scene.board.note(record(outcome(ttft_s=0.1)))
    await scene.board.next()
    await scene.board.next()
    assert scene.board.recent.target("gpu") is not None
    scene.snapshot = replace(snapshot_of(shared("api", "http://api/v1")), digest="e" * 64)
    await scene.board.next()
    assert scene.board.recent.target("gpu") is None


async def test_a_proxys_own_requests_are_shown_at_once() -> None:
    async with scripted([reply(CHAT_REPLY)]) as up, proxy(snapshot_of(dedicated("gpu", up.url))) as spillway:
        await spillway.post("/v1/chat/completions", ASK, {"x-request-id": "asked-by-the-test"})
        got = await spillway.get("/admin/live", admin=True)
        (decision,) = got.json["decisions"]
        assert (decision["target"], decision["outcome"], decision["route"]) == ("gpu", "ok", "default")
        assert got.json["targets"][0]["replicas"][0]["host"] == up.url.removeprefix("http://").removesuffix("/v1")


def test_what_is_known_of_pods_is_shown_by_target(scene: Scene) -> None:
    assert [one.found for one in scene.view().targets] == [None, None]
