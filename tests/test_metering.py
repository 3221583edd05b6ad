"""All that counts and holds money in one process, started, served from and closed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from proxy.metering import Metering
from proxy.meters import sync
from proxy.meters.demand_rows import AppHour, DemandHour, Watched, read_demand_line
from proxy.meters.embedded import EmbeddedStore
from proxy.meters.usage_rows import Complete
from proxy.policy.model import ANONYMOUS, Budget, Cap, Endpoint, Enforce, Per, Snapshot
from proxy.routing.decide import Router
from proxy.routing.facts import Facts
from proxy.routing.outcome import Outcome, Usage
from proxy.routing.plan import Attempt, Cause, Plan
from proxy.routing.work import work_us
from proxy.settings import Settings
from proxy.telemetry.records import Record

from tests.harness import shared, snapshot_of
from tests.meters.examples import LLAMA, TOGETHER, facts, outcome

USD = 10**9
NOWHERE = "unix:///nonexistent"
PATIENCE_S = 10.0
CAP = Budget(name="cap", caps=(Cap(USD, Per.TOTAL), Cap(USD // 2, Per.MONTH)))
SOFT = replace(CAP, enforce=Enforce.SOFT)


class OneEach:
    def tokens(self, target: str, events: int) -> int:
        return events


def policy(*budgets: Budget) -> Snapshot:
    return replace(snapshot_of(shared("api", "http://127.0.0.1:1/v1")), budgets=budgets)


@pytest.fixture
def store_url(tmp_path: Path) -> Iterator[str]:
    with EmbeddedStore(tmp_path / "store") as store:
        yield store.url


@contextlib.asynccontextmanager
async def metering(snapshot: Snapshot, store_url: str, data_dir: Path) -> AsyncIterator[Metering]:
    """One that has started, and is closed in the end."""
    settings = Settings(policy=Path("unused"), data_dir=data_dir)
    lawful = Router(snapshot).lawful_set
    made = Metering(snapshot, settings, store_url, OneEach(), dict, lambda others: None, lawful)
    await made.start()
    try:
        yield made
    finally:
        await made.aclose()


def sample(made: Metering, name: str) -> dict[tuple[str, ...], float]:
    """A metric's values, by their labels' values."""
    families = {family.name: family for family in made.metrics()}
    return {
        tuple(one.labels.values()): one.value for one in families[name].samples if not one.name.endswith("_created")
    }


async def test_the_first_leases_are_there_before_the_first_request(store_url: str, tmp_path: Path) -> None:
    async with metering(policy(CAP), store_url, tmp_path) as made:
        assert made.purse.funds(0.0)["cap"].free_nano_usd > 0
        async with asyncio.timeout(PATIENCE_S):
            while made.degraded():
                await asyncio.sleep(0)


async def test_without_a_store_it_starts_all_the_same_and_says_what_is_wrong(tmp_path: Path) -> None:
    async with asyncio.timeout(PATIENCE_S):
        async with metering(policy(CAP), NOWHERE, tmp_path) as made:
            assert made.purse.funds(0.0)["cap"].free_nano_usd == 0
            assert set(made.degraded()) == {"meters"}
            assert "out of reach" in made.degraded()["meters"]
            assert await made.report() is None
            assert sample(made, "spillway_redis_up") == {(): 0.0}


async def test_a_journal_that_cannot_be_is_told(store_url: str, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    async with metering(policy(), store_url, blocked) as made:
        assert "journal" in made.degraded()
        assert made.standing().journal is None
        assert sample(made, "spillway_journal_on_disk") == {(): 0.0}


async def test_how_it_stands_is_told_by_budget_and_window(store_url: str, tmp_path: Path) -> None:
    async with metering(policy(CAP), store_url, tmp_path) as made:
        for term in made.purse.funds(0.0).terms_named("cap"):
            term.settle(0, 1_000_000)
        standing = made.standing()
        assert [(one.name, one.per, one.spent_nano_usd) for one in standing.budgets] == [
            ("cap", Per.TOTAL, 1_000_000),
            ("cap", Per.MONTH, 1_000_000),
        ]
        assert standing.journal is not None
        assert 0 < standing.journal.size_bytes <= standing.journal.max_bytes
        assert sample(made, "spillway_budget_limit_usd") == {("cap", "total"): 1.0, ("cap", "month"): 0.5}
        assert sample(made, "spillway_budget_spent_usd") == {("cap", "total"): 0.001, ("cap", "month"): 0.001}
        assert all(held > 0 for held in sample(made, "spillway_budget_held_usd").values())


async def test_an_alert_is_counted_and_warned_of(
    store_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with metering(policy(SOFT), store_url, tmp_path) as made:
        for term in made.purse.funds(0.0).terms_named("cap"):
            term.settle(0, 420_000_000)
        async with asyncio.timeout(PATIENCE_S):
            while len(sample(made, "spillway_budget_alerts")) < 2:
                await asyncio.sleep(0.01)
        assert sample(made, "spillway_budget_alerts") == {("cap", "month", "50"): 1.0, ("cap", "month", "80"): 1.0}
    assert "budget cap has spent 80 % of its limit: $0.42 of $0.50, per month" in caplog.text


async def test_another_policy_keeps_what_is_held(store_url: str, tmp_path: Path) -> None:
    async with metering(policy(CAP), store_url, tmp_path) as made:
        (total, _) = made.purse.funds(0.0).terms_named("cap")
        assert total.set_aside(1000, 0.0, begun=False)
        made.adopt(policy(replace(CAP, caps=(Cap(2 * USD, Per.TOTAL),))))
        assert made.purse.funds(0.0).terms_named("cap") == (total,)
        assert (total.held, total.limit) == (1000, 2 * USD)


async def test_the_next_start_finds_what_was_spent(store_url: str, tmp_path: Path) -> None:
    async with metering(policy(CAP), store_url, tmp_path) as made:
        for term in made.purse.funds(0.0).terms_named("cap"):
            term.settle(0, 30_000_000)
    async with metering(policy(CAP), store_url, tmp_path) as made:
        assert made.purse.funds(0.0)["cap"].spent_nano_usd == 30_000_000


async def test_what_is_asked_for_is_metered_whoever_serves_it(store_url: str, tmp_path: Path) -> None:
    snapshot = policy()
    (target,) = snapshot.targets.values()
    facts = Facts(request_id="r", tenant=ANONYMOUS, model="m", endpoint=Endpoint.CHAT)
    attempt = Attempt(target=target, replica=0, model="m", ordinal=0, cause=Cause.PREFERRED, reason="test")
    usage = Usage(input_tokens=1000, output_tokens=100)
    outcome = Outcome(attempt=attempt, status=200, failure=None, committed=True, total_s=1.0, usage=usage)
    plan = Plan(route="default", attempts=(attempt,))
    async with metering(snapshot, store_url, tmp_path) as made:
        made.note(Record(snapshot, facts, plan, (outcome,), (), None, 0.0, 1.0), time.monotonic())
    async with metering(snapshot, store_url, tmp_path) as made:
        now = int(time.time())
        lines = b"".join([portion async for portion in made.demand(now - now % 3600 - 3600, now + 3600)])
    rows = [read_demand_line(line) for line in lines.splitlines()]
    watched, bins, app, complete = rows
    assert isinstance(watched, Watched) and isinstance(bins, DemandHour) and isinstance(app, AppHour)
    assert now - 60.0 < watched.from_s <= watched.to_s < now + 60.0
    assert (bins.target, bins.model, sum(bins.bins)) == ("", "m", 1)
    assert app.sums["work_us"] == work_us(usage)
    assert complete == Complete(rows=2)


GPUS = "spillway_gpu_seconds", "spillway_gpu_cost_usd", "spillway_usd_per_mtok", "spillway_saving_usd_per_hour"


async def test_what_gpus_cost_is_told_as_the_report_has_it(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From what the last sync brought, without asking the store again."""
    monkeypatch.setattr(sync, "SAMPLE_EVERY_S", 0.05)
    async with metering(snapshot_of(LLAMA, TOGETHER), store_url, tmp_path) as made:
        made.ledger.settle(facts("m"), "default", outcome(LLAMA))
        async with asyncio.timeout(PATIENCE_S):
            while not sample(made, "spillway_saving_usd_per_hour"):
                await asyncio.sleep(0.01)
        known = made.known_report()
        assert known is not None and known.recent is not None and known.recent.seconds
        (llama, _) = known.recent.targets
        saving = sample(made, "spillway_saving_usd_per_hour")
        seconds, dollars = sample(made, "spillway_gpu_seconds"), sample(made, "spillway_gpu_cost_usd")
    assert llama.saving_nano_usd is not None
    assert saving["llama-eu",] == pytest.approx(llama.saving_nano_usd / USD * 3600 / known.recent.seconds)
    for by_kind in (seconds, dollars):
        parts = by_kind["llama-eu", "attributed"] + by_kind["llama-eu", "idle"]
        assert 0 < parts == pytest.approx(by_kind["llama-eu", "provisioned"])


async def test_what_nobody_knows_is_absent_and_not_zero(tmp_path: Path) -> None:
    async with metering(snapshot_of(LLAMA, TOGETHER), NOWHERE, tmp_path) as made:
        assert [sample(made, name) for name in GPUS] == [{}, {}, {}, {}]
