"""Whatever happens to processes, replies and the store: no more is spent than the budget allows, and nothing is lost.

A Hypothesis machine has a few processes set money aside, top it up and settle it, over a real server, while replies and
requests get lost, processes die, leave and start, and the server is wiped. Money is counted in single nano-USD.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
import redis.asyncio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from proxy.meters.escrow import REFRESH_S, Escrow
from proxy.meters.part import Moment
from proxy.meters.store import Store
from proxy.meters.term import Term
from proxy.policy.model import Budget, Cap, Per
from tests.meters.conftest import PATIENCE_S
from tests.thorough import examples

LIMIT = 10_000
BUDGET = Budget(name="cap", caps=(Cap(LIMIT, Per.TOTAL),))
PROCESSES = st.integers(0, 3)
AMOUNTS = st.integers(1, 900)
UNTIL_TOLD_S = 10_000.0


class Process:
    """One proxy: what it has set aside, by request, and when its clock stands."""

    names = itertools.count()

    def __init__(self) -> None:
        self.slot = f"p{next(self.names)}"
        self.escrow = Escrow(lambda alert: None)
        self.escrow.adopt([BUDGET])
        self.holds: list[int] = []
        self.now = 0.0

    @property
    def term(self) -> Term:
        (term,) = self.escrow.terms_of([BUDGET])
        return term

    def spend(self, amount: int) -> None:
        if self.term.set_aside(amount, self.now, begun=False):
            self.holds.append(amount)


class Cluster(RuleBasedStateMachine):
    """Four processes around one store."""

    store_url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.namespace = secrets.token_hex(4)
        self.raw: Any = self.runner.run(self._connected())
        self.store = Store(self.store_url, self.namespace, PATIENCE_S, learn_s=UNTIL_TOLD_S)
        self.living = [Process() for _ in range(4)]
        self.gone_used = 0
        self.overrun = 0
        self._all_have_told()

    @rule(who=PROCESSES, amount=AMOUNTS)
    def begin(self, who: int, amount: int) -> None:
        self.living[who].spend(amount)

    @rule(who=PROCESSES, more=AMOUNTS)
    def top_up(self, who: int, more: int) -> None:
        process = self.living[who]
        if process.holds and process.term.set_aside(more, process.now, begun=True):
            process.holds[-1] += more

    @rule(who=PROCESSES, share=st.floats(0.0, 1.0), beyond=st.sampled_from([0, 0, 0, 7]))
    def settle(self, who: int, share: float, beyond: int) -> None:
        process = self.living[who]
        if process.holds:
            held = process.holds.pop()
            used = int(held * share) if not beyond else held + beyond
            self.overrun += beyond
            process.term.settle(held, used)

    @rule(who=PROCESSES, later_s=st.sampled_from([0.2, 2.0]))
    def sync(self, who: int, later_s: float) -> None:
        self._sync(self.living[who], later_s)

    @rule(who=PROCESSES, acted_upon=st.booleans())
    def sync_in_vain(self, who: int, acted_upon: bool) -> None:
        process = self.living[who]
        process.now += 0.2
        moment = Moment(process.slot, process.now, 1)
        ask = process.escrow.ask(moment)
        if acted_upon:
            self._exchange(moment, ask)
        process.escrow.unheard(moment)

    @rule(who=PROCESSES)
    def die(self, who: int) -> None:
        """Its requests may use all that they hold before their upstreams notice."""
        process = self.living[who]
        self.gone_used += process.term.used + process.term.held
        self.living[who] = Process()

    @rule(who=PROCESSES)
    def leave(self, who: int) -> None:
        process = self.living[who]
        while process.holds:
            held = process.holds.pop()
            process.term.settle(held, held)
        self._sync(process, 0.2, last=True)
        self.gone_used += process.term.used
        self.living[who] = Process()

    @rule()
    def wipe(self) -> None:
        """The server forgets everything; until all the living have told it, nothing may be granted."""
        for process in self.living:
            self._sync(process, REFRESH_S + 1.0)
        self.runner.run(self._flush())
        for process in self.living:
            for _ in range(10):
                process.spend(900)
        self._sync_all()
        for process in self.living:
            for _ in range(10):
                process.spend(900)
        self._sync_all()
        self._all_have_told()

    @invariant()
    def nothing_is_overspent(self) -> None:
        committed = sum(process.term.used + process.term.held for process in self.living) + self.gone_used
        assert committed <= LIMIT + self.overrun

    @invariant()
    def what_is_granted_is_used_or_held_or_free(self) -> None:
        for process in self.living:
            term = process.term
            assert term.held == sum(process.holds)
            assert term.granted == term.returned + term.used + term.held + term.free

    @invariant()
    def the_store_knows_of_every_grant(self) -> None:
        fields = self.runner.run(self._fields())
        for process in self.living:
            stored = {kind: int(fields.get(f"{kind}:{process.slot}", 0)) for kind in "gcu"}
            assert stored["g"] >= process.term.granted
            assert stored["c"] <= process.term.returned
            assert stored["u"] <= process.term.used

    def teardown(self) -> None:
        try:
            self._ends_well()
        finally:
            self.runner.run(self.store.aclose())
            self.runner.run(self.raw.aclose())
            self.runner.close()

    def _ends_well(self) -> None:
        for process in self.living * 2:
            self._sync(process, REFRESH_S + 1.0)
        used = sum(process.term.used for process in self.living)
        spent = {process.term.spent for process in self.living}
        assert len(spent) == 1
        assert spent.pop() >= used

    def _sync_all(self) -> None:
        for process in self.living:
            self._sync(process, 0.2)

    def _sync(self, process: Process, later_s: float, *, last: bool = False) -> None:
        process.now += later_s
        moment = Moment(process.slot, process.now, 1, last)
        process.escrow.told(*self._exchange(moment, process.escrow.ask(moment)), moment)

    def _exchange(self, moment: Moment, ask: Any) -> tuple[Any, Any]:
        heard, (reply,) = self.runner.run(self.store.exchange(moment, [("escrow", ask)]))
        return reply, heard

    def _all_have_told(self) -> None:
        self._sync_all()
        self.runner.run(self._end_of_learning())

    async def _connected(self) -> Any:
        return redis.asyncio.Redis.from_url(self.store_url, decode_responses=True)

    async def _flush(self) -> None:
        client = self.raw
        keys = await client.keys(f"{{{self.namespace}}}:*")
        await client.delete(*keys)

    async def _end_of_learning(self) -> None:
        client = self.raw
        await client.hset(f"{{{self.namespace}}}:2:meta", "learning_until", 0)

    async def _fields(self) -> Any:
        client = self.raw
        return await client.hgetall(f"{{{self.namespace}}}:2:budget:cap:total:0")


@pytest.fixture
def machine(store_url: str) -> Iterator[type[Cluster]]:
    yield type("Machine", (Cluster,), {"store_url": store_url})


def test_no_budget_is_overspent_and_no_grant_is_lost(machine: type[Cluster]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples(40), stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
