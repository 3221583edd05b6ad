"""Whatever happens to processes, replies and the store, the totals are what was counted and pushed.

A Hypothesis machine settles real requests in a few processes, and lets pushes be answered, lose their answer or get
lost themselves, lets processes die and start, slots be folded under the feet of the living, and the store be wiped.
Beside it runs a model of the store that is three dictionaries.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import dataclass, field

import redis.asyncio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from proxy.meters import fields
from proxy.meters.ledger import Ledger
from proxy.meters.slot import Accepted, Behind, Folded, Push, PushReply, Slot
from proxy.meters.store import Store
from proxy.meters.summary import summarise
from proxy.routing.outcome import Usage
from tests.meters.conftest import PATIENCE_S
from tests.meters.examples import TOGETHER, facts, outcome, pushed

PROCESSES = st.integers(0, 2)
TOKENS = fields.field("input_tokens", fields.Series("anonymous", "llama-70b", "together"))


@dataclass
class Process:
    """One proxy process: what it has settled, what of it ever reached the store, what it was told is in the base."""

    ledger: Ledger = field(default_factory=Ledger)
    settled: int = 0
    written: int = 0
    told: int = 0

    def __post_init__(self) -> None:
        self.slot = Slot(self.ledger, secrets.token_hex(8))


class Cluster(RuleBasedStateMachine):
    """Three processes around one store."""

    store_url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.namespace = secrets.token_hex(4)
        self.store = Store(self.store_url, self.namespace, PATIENCE_S)
        self.living = [Process() for _ in range(3)]
        self.dead: list[Process] = []
        self.base = 0
        self.slots: dict[str, int] = {}
        self.sequences: dict[str, int] = {}
        self.tombstones: dict[str, int] = {}
        self.wiped = False

    @rule(who=PROCESSES, tokens=st.integers(1, 10**6), times=st.integers(1, 3))
    def settle(self, who: int, tokens: int, times: int) -> None:
        process = self.living[who]
        for _ in range(times):
            process.ledger.settle(facts(), outcome(TOGETHER, Usage(input_tokens=tokens)))
            process.settled += tokens

    @rule(who=PROCESSES)
    def sync(self, who: int) -> None:
        process = self.living[who]
        for _ in range(3):
            push = process.slot.next_push()
            reply = self._push(process, push)
            process.slot.replied(push, reply)
            if isinstance(reply, Folded):
                process.told += self.tombstones[push.slot]
            if process.slot.settled:
                break
        assert process.slot.settled
        assert process.written == process.settled

    @rule(who=PROCESSES)
    def lose_a_reply(self, who: int) -> None:
        process = self.living[who]
        self._push(process, process.slot.next_push())

    @rule(who=PROCESSES)
    def lose_a_push(self, who: int) -> None:
        self.living[who].slot.next_push()

    @rule(who=PROCESSES)
    def crash_and_restart(self, who: int) -> None:
        self.dead.append(self.living[who])
        self.living[who] = Process()

    @rule()
    def fold(self) -> None:
        """Everybody seems to have been silent for too long."""
        assert self.runner.run(self.store.fold_dead(0.0)) == len(self.slots)
        self.base += sum(self.slots.values())
        self.tombstones |= self.slots
        self.slots, self.sequences = {}, {}

    @rule()
    def wipe(self) -> None:
        self.runner.run(self._delete_everything())
        self.base, self.slots, self.sequences, self.tombstones = 0, {}, {}, {}
        self.wiped = True

    @invariant()
    def the_store_holds_what_was_written(self) -> None:
        assert self._total() == self.base + sum(self.slots.values())

    def teardown(self) -> None:
        """In the end, only what the dead had not pushed is missing, and what only they knew at a wipe."""
        with contextlib.closing(self.runner):
            for who in range(3):
                self.sync(who)
            everything = sum(one.settled for one in self.living) + sum(one.written for one in self.dead)
            total = self._total()
            self.runner.run(self.store.aclose())
        if self.wiped:
            assert sum(one.settled - one.told for one in self.living) <= total <= everything
        else:
            assert total == everything

    def _push(self, process: Process, push: Push) -> PushReply:
        """Send it, and check the answer against the model."""
        reply = self.runner.run(pushed(self.store, push))
        if push.slot in self.tombstones:
            assert isinstance(reply, Folded)
            assert reply.fields.get(TOKENS, 0) == self.tombstones[push.slot]
        elif push.full or push.expected == self.sequences.get(push.slot, 0):
            assert reply == Accepted()
            self.sequences[push.slot] = push.sequence
            self.slots[push.slot] = push.fields.get(TOKENS, self.slots.get(push.slot, 0))
            process.written = max(process.written, process.told + self.slots[push.slot])
        else:
            assert reply == Behind()
        return reply

    def _total(self) -> int:
        return summarise(self.runner.run(self.store.read_totals())).all().get("input_tokens", 0)

    async def _delete_everything(self) -> None:
        async with redis.asyncio.Redis.from_url(self.store_url) as client:
            keys = [key async for key in client.scan_iter(f"*{self.namespace}*", count=1000)]
            if keys:
                await client.delete(*keys)


def test_nothing_is_lost_or_counted_twice(store_url: str) -> None:
    machine = type("ClusterHere", (Cluster,), {"store_url": store_url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
