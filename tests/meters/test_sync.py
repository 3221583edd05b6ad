"""The background task: pushes, pulls, outlives its store, and flushes at the end."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from proxy.meters.counters import Counters
from proxy.meters.embedded import EmbeddedStore
from proxy.meters.gauges import Gauges
from proxy.meters.gpu_hours import GpuClock
from proxy.meters.ledger import Ledger
from proxy.meters.part import Ask, Heard, Moment
from proxy.meters.slot import MAX_CELLS
from proxy.meters.store import Store, StoreError
from proxy.meters.summary import Tally, summarise
from proxy.meters.sync import PUSHES_PER_SYNC, Sync
from proxy.policy.discovery import replica_key
from proxy.policy.model import Candidate, Snapshot
from tests.meters.conftest import PATIENCE_S, until
from tests.meters.examples import LLAMA, ROUTE, TOGETHER, facts, outcome

INTERVAL_S = 0.02
SNAPSHOT = Snapshot(
    digest="0" * 64,
    source="test",
    targets={"llama-eu": LLAMA, "together": TOGETHER},
    models={"llama-70b": (Candidate(target=LLAMA, model="llama"), Candidate(target=TOGETHER, model="llama"))},
    routes=(),
)


class Proxy:
    """What the sync is wired to in one process."""

    def __init__(self, url: str, namespace: str) -> None:
        self.ledger = Ledger()
        self.in_flight: dict[str, int] = {}
        self.others: Mapping[str, int] = {}
        self.synced = asyncio.Event()
        self.gauges = Gauges(lambda: self.in_flight, self._absorb)
        self.sync = Sync(
            Store(url, namespace, PATIENCE_S, learn_s=0.0),
            Counters(secrets.token_hex(8), self.ledger),
            [self.gauges, GpuClock(SNAPSHOT.targets.values, self.gauges.everywhere)],
            interval_s=INTERVAL_S,
        )

    def _absorb(self, others: Mapping[str, int]) -> None:
        self.others = dict(others)
        self.synced.set()

    async def next_sync(self) -> None:
        self.synced.clear()
        async with asyncio.timeout(PATIENCE_S):
            await self.synced.wait()


@asynccontextmanager
async def running(url: str, namespace: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(url, namespace)
    proxy.sync.start()
    try:
        yield proxy
    finally:
        await proxy.sync.aclose()


async def tally(url: str, namespace: str) -> Tally:
    store = Store(url, namespace, PATIENCE_S)
    try:
        return summarise(await store.read_totals()).all()
    finally:
        await store.aclose()


async def test_counts_reach_the_store_by_themselves(store_url: str, namespace: str) -> None:
    async with running(store_url, namespace) as proxy:
        proxy.ledger.settle(facts(), ROUTE, outcome())
        await proxy.next_sync()
        await proxy.next_sync()
        assert (await tally(store_url, namespace))["requests"] == 1
        assert proxy.sync.connected
        assert proxy.sync.lag_s < 5.0


async def test_what_is_known_is_told_without_asking_while_the_store_is_there(store_url: str, namespace: str) -> None:
    sync = Proxy(store_url, namespace).sync
    assert sync.known_report(SNAPSHOT) is None
    async with running(store_url, namespace) as proxy:
        await until(lambda: proxy.sync.known_report(SNAPSHOT) is not None)
        known = proxy.sync.known_report(SNAPSHOT)
        assert known is not None
        assert [one.target for one in known.total.targets] == list(SNAPSHOT.targets)
        assert proxy.sync.known_report(SNAPSHOT) is known  # summed up once for all who ask
        proxy.sync.connected = False
        assert proxy.sync.known_report(SNAPSHOT) is None
    await sync.aclose()


async def test_closing_flushes_what_was_counted_last(store_url: str, namespace: str) -> None:
    async with running(store_url, namespace) as proxy:
        await proxy.next_sync()
        for _ in range(10):
            proxy.ledger.settle(facts(), ROUTE, outcome())
    assert (await tally(store_url, namespace))["requests"] == 10


class Marks:
    """A journal that counts up, and remembers what it was told."""

    def __init__(self) -> None:
        self.marked: list[int] = []
        self.stored: list[int] = []

    def mark(self, at_ms: int = 0) -> int:
        self.marked.append(at_ms)
        return len(self.marked)

    def checkpoint(self, mark: int) -> None:
        self.stored.append(mark)


class Unsettled:
    """A part that has something to tell, twice."""

    name = "gauges"

    def __init__(self) -> None:
        self.told_times = 0

    @property
    def settled(self) -> bool:
        return self.told_times > 1

    def ask(self, moment: Moment) -> Ask:
        return Gauges(dict, lambda _: None).ask(moment)

    def told(self, reply: Any, heard: Heard, moment: Moment) -> None:
        self.told_times += 1

    def unheard(self, moment: Moment) -> None:
        raise AssertionError("the store is there")


async def test_the_journal_is_told_once_everything_up_to_its_mark_is_stored(store: Store) -> None:
    journal, ledger, part = Marks(), Ledger(), Unsettled()
    sync = Sync(store, Counters("one", ledger), [part], journal=journal, durable=[part])
    ledger.settle(facts(), ROUTE, outcome())
    await sync.sync()
    assert (journal.marked, journal.stored) == ([0], [])
    await sync.sync()
    assert journal.stored == [2]
    assert journal.marked[1] > 0


async def test_a_mark_that_did_not_arrive_is_not_taken_for_stored(tmp_path: Path) -> None:
    journal = Marks()
    sync = Sync(Store(f"unix://{tmp_path}/nobody.sock"), Counters("one", Ledger()), journal=journal)
    with pytest.raises(StoreError):
        await sync.sync()
    assert (len(journal.marked), journal.stored) == (1, [])


async def test_the_store_s_clock_is_told_between_replies(store: Store, raw: Any) -> None:
    now = 1000.0
    sync = Sync(store, Counters("one", Ledger()), clock=lambda: now)
    assert sync.store_ms(now) is None
    before, _ = await raw.time()
    await sync.sync()
    after, _ = await raw.time()
    told = sync.store_ms(now + 7.5)
    assert told is not None
    assert before * 1000 <= told - 7500 <= (after + 1) * 1000


async def test_closing_flushes_however_many_series_there_are(store_url: str, namespace: str) -> None:
    many = MAX_CELLS * (PUSHES_PER_SYNC + 1)
    proxy = Proxy(store_url, namespace)
    for number in range(many):
        proxy.ledger.settle(facts(f"model-{number}"), ROUTE, outcome())
    await proxy.sync.aclose()
    assert (await tally(store_url, namespace))["requests"] == many


async def test_processes_learn_what_the_others_have_in_flight(store_url: str, namespace: str) -> None:
    async with running(store_url, namespace) as one, running(store_url, namespace) as two:
        one.in_flight = {"llama-eu/0": 3, "llama-eu/1": 0}
        two.in_flight = {"llama-eu/0": 1}
        await until(lambda: two.others == {"llama-eu/0": 3} and one.others == {"llama-eu/0": 1})
        await one.sync.aclose()
        await until(lambda: two.others == {})


async def test_gpu_time_accrues_once_for_two_processes_and_shows_what_was_busy(store_url: str, namespace: str) -> None:
    loop = asyncio.get_running_loop()
    async with running(store_url, namespace) as one, running(store_url, namespace) as two:
        began = loop.time()
        one.in_flight = {replica_key(LLAMA.name, LLAMA.urls[0]): 1}
        await one.next_sync()
        first = await one.sync.report(SNAPSHOT)
        await until(lambda: loop.time() - began > 0.5)
        await asyncio.gather(one.next_sync(), two.next_sync())
        last = await two.sync.report(SNAPSHOT)
        elapsed_s = loop.time() - began
    row, before = last.total.targets[0], first.total.targets[0]
    assert row.gpu_hours is not None and row.replica_hours is not None and before.replica_hours is not None
    accrued_s = (row.replica_hours - before.replica_hours) * 3600
    assert 0.25 * 2 < accrued_s <= (elapsed_s + 0.5) * 2
    assert row.gpu_hours == pytest.approx(4 * row.replica_hours)
    assert row.busy_share is not None
    assert 0.2 < row.busy_share <= 0.5


async def test_a_store_that_goes_away_and_comes_back_misses_nothing(data_dir: Path, caplog) -> None:
    embedded = EmbeddedStore(data_dir)
    embedded.start()
    async with running(embedded.url, "away") as proxy:
        proxy.ledger.settle(facts(), ROUTE, outcome())
        await until(lambda: proxy.sync.connected)
        embedded.stop()
        await until(lambda: not proxy.sync.connected)
        lag_s = proxy.sync.lag_s
        for _ in range(100):
            proxy.ledger.settle(facts(), ROUTE, outcome())
        embedded.start()
        await until(lambda: proxy.sync.connected)
        await proxy.next_sync()
        assert (await tally(embedded.url, "away"))["requests"] == 101
        assert lag_s > 0.0
    embedded.stop()
    told = [record.getMessage() for record in caplog.records if record.name == "proxy.meters.sync"]
    assert len(told) == 2
    assert told[0].startswith("metering to memory only: no connection to the store at ")
    assert told[1].startswith("the store is back after ")


async def test_no_store_at_all_costs_nothing_but_freshness(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/nobody.sock"
    proxy = Proxy(url, "nobody")
    proxy.sync.start()
    await asyncio.sleep(0)
    assert proxy.ledger.settle(facts(), ROUTE, outcome()).nano_usd > 0
    assert not proxy.sync.connected
    assert proxy.sync.last_sync_at is None
    await proxy.sync.aclose()


async def test_a_fault_inside_is_logged_with_its_trace_and_survived(
    store_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Mapping[str, int]:
        raise RuntimeError("no gauges today")

    async with running(store_url, namespace) as proxy:
        await until(lambda: proxy.sync.connected)
        working: Callable[[], Mapping[str, int]] = proxy.gauges._show
        proxy.gauges._show = broken
        await until(lambda: not proxy.sync.connected)
        proxy.gauges._show = working
        await until(lambda: proxy.sync.connected)
    faults = [record for record in caplog.records if "no gauges today" in record.getMessage()]
    assert len(faults) == 1
    assert faults[0].exc_info is not None
    assert faults[0].levelno == logging.WARNING


async def test_a_silent_process_that_was_folded_goes_on_under_a_new_id(store_url: str, namespace: str) -> None:
    proxy = Proxy(store_url, namespace)
    store = Store(store_url, namespace, PATIENCE_S)
    for _ in range(3):
        proxy.ledger.settle(facts(), ROUTE, outcome())
        await proxy.sync.sync()
        assert await store.fold_dead(0.0) == 1
    proxy.ledger.settle(facts(), ROUTE, outcome())
    await proxy.sync.aclose()
    assert (await tally(store_url, namespace))["requests"] == 4
    await store.aclose()


async def test_the_last_minutes_are_reported_apart(store_url: str, namespace: str) -> None:
    async with running(store_url, namespace) as earlier:
        earlier.ledger.settle(facts(), ROUTE, outcome())
    async with running(store_url, namespace) as proxy:
        await proxy.next_sync()
        await proxy.next_sync()
        proxy.ledger.settle(facts(), ROUTE, outcome())
        await proxy.next_sync()
        await proxy.next_sync()
        report = await proxy.sync.report(SNAPSHOT)
    assert report.recent is not None
    assert (report.recent.requests, report.total.requests) == (1, 2)
