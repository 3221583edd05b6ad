# ruff: noqa: T201 - a command prints
"""What metering costs on the path of a request: `python -m tests.bench.metering`.

The real relay, router, tracker and meters; only the network and the callers are played (`played.py`), and answer at
once. Each way of metering has a relay of its own, and all of them serve in turns, some requests each, so that whatever
else the machine does meets them alike. What a part adds is its median less that of a relay with nothing metered and
nothing limited. A real store is synced with between the rounds, as it is while serving, so leases never run out.

The exit status is 0 when every bar of `missed` is met, else 1.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
from proxy.caller import FixedHeaders
from proxy.deadlines import Deadlines
from proxy.meters.buckets import Buckets
from proxy.meters.counters import Counters
from proxy.meters.embedded import EmbeddedStore
from proxy.meters.escrow import Escrow
from proxy.meters.hold import Holds
from proxy.meters.journal import Journal
from proxy.meters.ledger import Ledger
from proxy.meters.store import Store
from proxy.meters.sync import Sync
from proxy.policy.cap import Cap, Per
from proxy.policy.model import (
    UNLIMITED,
    Budget,
    Candidate,
    Endpoint,
    Enforce,
    Key,
    Lane,
    Limits,
    Price,
    Route,
    Rules,
    Snapshot,
    Target,
    Tenant,
)
from proxy.relay import Relay
from proxy.routing.charge import Charge
from proxy.routing.decide import Router
from proxy.routing.facts import Facts
from proxy.routing.outcome import Usage
from proxy.routing.plan import Attempt
from proxy.serving import COLLECTOR
from proxy.signals.retry_budget import RetryBudget
from proxy.signals.tracker import Tracker
from proxy.telemetry.records import Record
from proxy.upstream.reckoning import Seen, TokensPerEvent, reckon

from tests.bench.played import EVENTS, INPUT_TOKENS, OUTPUT_TOKENS, Caller, Network, call_of, served

ROUNDS = 40
TURNS = 6
WHOLE_IN_A_TURN, STREAMS_IN_A_TURN = 40, 4
MOST_US = 15.0
"""What counting and holding money may add to a request: the median."""
LEDGER, HARD, SOFT, BUCKETS, HEADERS = "ledger", "hard", "soft", "buckets", "headers"
METERING = frozenset({LEDGER, HARD})
"""Money counted, and held: what the bar is for."""
EVERYTHING = frozenset({LEDGER, HARD, SOFT, BUCKETS, HEADERS})
NOTHING, METERED = "nothing", "ledger, journal, a hard budget"
WAYS = {
    NOTHING: frozenset[str](),
    "ledger and journal": frozenset({LEDGER}),
    METERED: METERING,
    "budgets, one hard and one soft": frozenset({HARD, SOFT}),
    "rates of tenant, key and route": frozenset({BUCKETS}),
    "those with their headers": frozenset({BUCKETS, HEADERS}),
    "everything": EVERYTHING,
}
NANO_USD_PER_USD = 1_000_000_000
LIMITS = Limits(rpm=60_000_000, tpm=60_000_000_000, concurrency=100_000)
PRICE = Price(input_nano_usd_per_mtok=NANO_USD_PER_USD, output_nano_usd_per_mtok=2 * NANO_USD_PER_USD)


class Nothing:
    """Counts nothing, holds nothing, says nothing."""

    CHARGE = Charge(target="api", lane=Lane.SHARED, nano_usd=1, usage=Usage(), price_source="", priced=True)

    def begin(self, facts: Facts, route: str, attempt: Attempt) -> int:
        return -1

    def progress(self, begun: int, output_tokens: int) -> None: ...

    def settle(self, *given: object) -> Charge:
        return self.CHARGE

    def funds(self, now: float) -> dict[str, Any]:
        return {}

    rates = funds

    def admit(self, *given: object) -> None: ...

    def open(self, *given: object) -> None: ...

    def observe(self, *given: object) -> None: ...

    def missed(self, *given: object) -> None: ...

    def headers(self, *given: object, **more: object) -> FixedHeaders:
        return ()

    def record(self, record: Record) -> None: ...

    def cancelled(self, *given: object) -> None: ...


class Unsaid(Buckets):
    """Rates of which replies say nothing."""

    def headers(self, *given: object, **more: object) -> FixedHeaders:
        return ()


def policy(way: frozenset[str]) -> Snapshot:
    """One target, one tenant with one key; with budgets and limits where `way` has them."""
    limits = LIMITS if BUCKETS in way else UNLIMITED
    api = Target(
        name="api",
        lane=Lane.SHARED,
        model="up",
        region="us",
        urls=("http://api",),
        native=frozenset(Endpoint),
        price=PRICE,
    )
    tenant = Tenant(name="t", limits=limits)
    cap = (Cap(1_000_000 * NANO_USD_PER_USD, Per.DAY),)
    budgets = tuple([Budget(name=one, caps=cap, enforce=Enforce(one)) for one in (HARD, SOFT) if one in way])
    return Snapshot(
        digest="d" * 64,
        source="bench",
        targets={"api": api},
        models={"m": (Candidate(target=api, model="up"),)},
        routes=(Route(name="default", require=Rules(limits=limits)),),
        tenants={"t": tenant},
        keys={b"k" * 32: Key(tenant=tenant, name="t/ci", limits=limits)},
        budgets=budgets,
    )


@dataclass(frozen=True, slots=True)
class Metered:
    """A relay with one way of metering, and how long its requests took."""

    relay: Relay
    router: Router
    facts: Facts
    sync: Sync
    ledger: Ledger
    escrow: Escrow
    rates: Buckets
    whole_s: list[float] = field(default_factory=list)
    stream_s: list[float] = field(default_factory=list)

    def serve(self, requests: int, *, stream: bool) -> None:
        """Serve so many requests, one after the other."""
        facts = msgspec.structs.replace(self.facts, stream=stream)
        call, took_s = call_of(facts), self.stream_s if stream else self.whole_s
        for _ in range(requests):
            caller = Caller()
            took_s.append(served(self.relay, self.router, facts, call, caller))
            assert caller.ended, caller.refused


def metered(
    way: frozenset[str], folder: Path, store_url: str, stack: AsyncExitStack, network: Network | None = None
) -> Metered:
    """A relay that is metered in one way; everything else of it is the same in each."""
    snapshot, slot = policy(way), "-".join(sorted(way)) or "nothing"
    journal = Journal.open(folder, slot)
    stack.callback(journal.close)
    nothing, per_event = Nothing(), TokensPerEvent()
    ledger, escrow = Ledger(journal), Escrow(lambda alert: None, journal)
    escrow.adopt(snapshot.budgets)
    rates = Buckets() if HEADERS in way else Unsaid()
    rates.adopt(snapshot)
    parts = [part for name, part in ((HARD, escrow), (BUCKETS, rates)) if name in way]
    sync = Sync(Store(store_url, slot, learn_s=0.0), Counters(slot, ledger), parts, journal=journal)
    stack.push_async_callback(sync.aclose)
    relay = Relay(
        signals=Tracker(snapshot.targets.values(), lambda: 0.5),
        rates=rates if BUCKETS in way else nothing,
        budget=RetryBudget(time.monotonic()),
        meters=ledger if LEDGER in way else nothing,
        purse=Holds(escrow, per_event) if HARD in way else nothing,
        upstreams=network or Network(),
        per_event=per_event,
        telemetry=nothing,
        deadlines=Deadlines(),
    )
    (key,) = snapshot.keys.values()
    facts = Facts(
        request_id="r",
        tenant=key.tenant,
        key=key,
        model="m",
        endpoint=Endpoint.CHAT,
        input_tokens=INPUT_TOKENS,
        max_output_tokens=2 * OUTPUT_TOKENS,
    )
    return Metered(relay, Router(snapshot), facts, sync, ledger, escrow, rates)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Medians of one way of metering: of a request in one piece, and of a stream of `EVENTS` events."""

    name: str
    whole_us: float
    stream_us: float


async def measure(rounds: int = ROUNDS) -> list[Figure]:
    """All ways of metering, in turns."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = stack.enter_context(EmbeddedStore(folder))
        ways = {name: metered(way, folder / "journal", store.url, stack) for name, way in WAYS.items()}
        # The windows of budgets begin with the store's time, which is in its first answer.
        for one in (*ways.values(), *ways.values()):
            await one.sync.sync()
        _in_turns(list(ways.values()))
        for one in ways.values():
            one.whole_s.clear()
            one.stream_s.clear()
        gc.collect()
        gc.freeze()
        thresholds = gc.get_threshold()
        gc.set_threshold(*COLLECTOR)
        for _ in range(rounds):
            for one in ways.values():
                await one.sync.sync()
            _in_turns(list(ways.values()))
        gc.set_threshold(*thresholds)
        gc.unfreeze()
        return [
            Figure(name=name, whole_us=median(one.whole_s) * 1e6, stream_us=median(one.stream_s) * 1e6)
            for name, one in ways.items()
        ]


def _in_turns(ways: Sequence[Metered]) -> None:
    for turn in range(TURNS):
        # Whoever comes first finds the processor's caches full of something else: each does, as often.
        first = turn % len(ways)
        order = [*ways[first:], *ways[:first]]
        for one in order:
            one.serve(WHOLE_IN_A_TURN, stream=False)
        for one in order:
            one.serve(STREAMS_IN_A_TURN, stream=True)


def reckoning_us(calls: int = 20_000) -> float:
    """What it takes to make out what an attempt used, which every way of metering does."""
    per_event, took_s = TokensPerEvent(), []
    usage = Usage(input_tokens=INPUT_TOKENS, output_tokens=OUTPUT_TOKENS)
    for _ in range(calls):
        begun = time.perf_counter()
        reckon(usage, Seen(target="api", input_tokens=INPUT_TOKENS, allowed_tokens=280, events=EVENTS), per_event)
        took_s.append(time.perf_counter() - begun)
    return median(took_s) * 1e6


def missed(figures: Sequence[Figure], reckoning: float) -> list[str]:
    """The bars that are not met."""
    by_name = {one.name: one for one in figures}
    added = by_name[METERED].whole_us - by_name[NOTHING].whole_us + reckoning
    return [f"metering adds {added:.1f} us to a request, over {MOST_US:.0f}"] if added > MOST_US else []


def main() -> int:
    """Measure, print a line of each way of metering, and return the exit status."""
    figures, reckoning = asyncio.run(measure()), reckoning_us()
    nothing = figures[0]
    print("median us                        request   added    stream   added   per event")
    for one in figures:
        added, added_to_stream = one.whole_us - nothing.whole_us, one.stream_us - nothing.stream_us
        print(
            f"{one.name:31}  {one.whole_us:7.1f}  {added:6.1f}  {one.stream_us:8.1f}  {added_to_stream:6.1f}"
            f"  {added_to_stream / EVENTS:10.3f}"
        )
    print(f"{'reckoning, in all of them':31}           {reckoning:6.1f}            {reckoning:6.1f}")
    misses = missed(figures, reckoning)
    print(*(f"MISSED: {miss}" for miss in misses) if misses else ("every bar is met",), sep="\n")
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
