"""Whatever happens to processes, replies and the store, the totals are what was counted.

A Hypothesis machine settles real requests in a few processes, each under a tenant of its own, and lets pushes be
answered, lose their answer or get lost themselves, lets processes die and their journals be found, slots be folded
under the feet of the living, the store's clock jump, and the store be wiped or come back as it was some time ago.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import Counter
from dataclasses import dataclass, field
from functools import partial

import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from proxy.meters.aggregates import Grain, tally
from proxy.meters.counters import Counters
from proxy.meters.fields import SERIES, parse_series
from proxy.meters.ledger import Ledger
from proxy.meters.part import Moment
from proxy.meters.store import Store
from proxy.meters.vectors import Vector
from proxy.policy.model import Tenant
from proxy.routing.outcome import Usage
from tests.meters.conftest import PATIENCE_S
from tests.meters.examples import NOON, ROUTE, TOGETHER, facts, outcome
from tests.thorough import examples

PROCESSES = st.integers(0, 2)
HALF_AN_HOUR = 30


@dataclass
class Process:
    """One proxy process, and its journal: what it has settled, and what of it is known to be stored."""

    ledger: Ledger = field(default_factory=Ledger)
    slot: str = field(default_factory=lambda: secrets.token_hex(8))
    settled: int = 0
    acknowledged: dict[tuple[str, str], Vector] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.counters = Counters(self.slot, self.ledger)

    @property
    def cells(self) -> dict[tuple[str, str], Vector]:
        now = {(SERIES, name): vector for name, vector in self.ledger.totals().items()}
        return {} if now == self.acknowledged else now

    def settle(self, tokens: int) -> None:
        self.ledger.settle(facts(tenant=Tenant(name=self.slot)), ROUTE, outcome(TOGETHER, Usage(input_tokens=tokens)))
        self.settled += tokens


class Cluster(RuleBasedStateMachine):
    """Three processes around one store."""

    store_url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.namespace = secrets.token_hex(4)
        self.store = Store(self.store_url, self.namespace, PATIENCE_S)
        self.redis = redis.Redis.from_url(self.store_url)
        self.living = [Process() for _ in range(3)]
        self.left: list[Process] = []
        self.minutes = 0
        self.saved: dict[bytes, bytes] | None = None
        self.wiped = False

    @rule(who=PROCESSES, tokens=st.integers(1, 10**6), times=st.integers(1, 3))
    def settle(self, who: int, tokens: int, times: int) -> None:
        for _ in range(times):
            self.living[who].settle(tokens)

    @rule(who=PROCESSES)
    def sync(self, who: int) -> None:
        """As often as it takes: then all of it is there, and nothing twice."""
        process = self.living[who]
        self._exchange(process.counters)
        for _ in range(40):
            if process.counters.settled:
                break
            self._exchange(process.counters)
        assert process.counters.settled
        assert self._totals()[process.slot] == process.settled
        process.acknowledged = {(SERIES, name): vector for name, vector in process.ledger.totals().items()}

    @rule(who=PROCESSES)
    def answer_once(self, who: int) -> None:
        self._exchange(self.living[who].counters)

    @rule(who=PROCESSES)
    def lose_a_reply(self, who: int) -> None:
        self._exchange(self.living[who].counters, answered=False)

    @rule(who=PROCESSES)
    def lose_a_push(self, who: int) -> None:
        counters = self.living[who].counters
        counters.ask(self._moment(counters))
        counters.unheard(self._moment(counters))

    @rule(who=PROCESSES, known=st.booleans())
    def first_find_out_the_time(self, who: int, known: bool) -> None:
        self._exchange(self.living[who].counters, time_known=known)

    @rule(who=PROCESSES)
    def crash_and_restart(self, who: int) -> None:
        self.left.append(self.living[who])
        self.living[who] = Process()

    @rule(who=PROCESSES, whose=st.integers(0, 10), finishes=st.booleans())
    def find_a_journal(self, who: int, whose: int, finishes: bool) -> None:
        """Who finds it may die over it."""
        if not self.left:
            return
        found = self.left[whose % len(self.left)]
        heir = self.living[who]
        heir.counters.adopt(found, partial(self._settled_for, found))
        if finishes:
            self.sync(who)
            assert found not in self.left
        else:
            self._exchange(heir.counters)
            self._exchange(heir.counters, answered=False)
            self.crash_and_restart(who)

    @rule(minutes=st.integers(-2, 5))
    def time_passes(self, minutes: int) -> None:
        self.minutes = max(-HALF_AN_HOUR, min(self.minutes + minutes, HALF_AN_HOUR))

    @rule()
    def fold(self) -> None:
        """Everybody seems to have been silent for too long."""
        before = self._totals()
        self.runner.run(self.store.fold_dead(0.0))
        assert self._totals() == before

    @rule()
    def wipe(self) -> None:
        for key in self._keys():
            self.redis.delete(key)
        self.wiped, self.saved = True, None

    @rule()
    def save(self) -> None:
        self.saved = {key: self.redis.dump(key) for key in self._keys()}

    @rule()
    def come_back_as_it_was(self) -> None:
        if self.saved is None:
            return
        for key in self._keys():
            # A slot that was not there yet cannot be told from one that was wiped.
            self.wiped |= b":slot:" in key and key not in self.saved
            self.redis.delete(key)
        for key, value in self.saved.items():
            self.redis.restore(key, 0, value)

    @invariant()
    def nothing_is_counted_twice(self) -> None:
        totals = self._totals()
        for process in (*self.living, *self.left):
            assert totals[process.slot] <= process.settled

    @invariant()
    def minutes_and_hours_are_the_totals(self) -> None:
        total = sum(self._totals().values())
        minutes, hours = self._filed(Grain.MINUTE), self._filed(Grain.HOUR)
        assert minutes == hours
        assert minutes == total or (self.wiped and minutes < total)

    def teardown(self) -> None:
        """In the end everything is there, of the living and of the dead whose journal was not settled before."""
        with contextlib.closing(self.runner), contextlib.closing(self.redis):
            for process in list(self.left):
                self.living[0].counters.adopt(process, partial(self._settled_for, process))
                self.sync(0)
                assert self._totals()[process.slot] == process.settled
            for who in range(3):
                self.sync(who)
            self.minutes_and_hours_are_the_totals()
            self.runner.run(self.store.aclose())

    def _moment(self, counters: Counters, *, time_known: bool = True) -> Moment:
        return Moment(counters.process, 0.0, (NOON.start_s + 60 * self.minutes) * 1000 if time_known else None)

    def _exchange(self, counters: Counters, *, answered: bool = True, time_known: bool = True) -> None:
        moment = self._moment(counters, time_known=time_known)
        heard, (reply,) = self.runner.run(self.store.exchange(moment, [(counters.name, counters.ask(moment))]))
        if answered:
            counters.told(reply, heard, moment)
        else:
            counters.unheard(moment)

    def _settled_for(self, process: Process) -> None:
        if process in self.left:
            self.left.remove(process)

    def _totals(self) -> Counter[str]:
        totals: Counter[str] = Counter()
        for name, vector in self.runner.run(self.store.read_totals()).counters.items():
            series = parse_series(name)
            assert series is not None
            totals[series.tenant] += tally(vector)["input_tokens"]
        return totals

    def _filed(self, grain: Grain) -> int:
        span_s = (HALF_AN_HOUR + 1) * 60
        rows = self.runner.run(self.store.rows(NOON.start_s - span_s, NOON.start_s + span_s, grain))
        return sum(row.counts["input_tokens"] for row in rows)

    def _keys(self) -> list[bytes]:
        return list(self.redis.scan_iter(f"*{self.namespace}*", count=1000))


def test_nothing_is_lost_or_counted_twice(store_url: str) -> None:
    machine = type("ClusterHere", (Cluster,), {"store_url": store_url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples(40), stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
