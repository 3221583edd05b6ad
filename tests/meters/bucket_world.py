"""Four processes and one store with a clock of their own: the real Lua on a real server, and time that the test turns.

Every question takes a while to come, and every answer; either may be lost, and a question that was given up may still
be answered later. A process knows nothing but its own clock and what it is told.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import orjson
import redis
from proxy.meters.buckets import Buckets, Taken
from proxy.meters.part import Ask, Heard, Moment
from proxy.policy.model import Limits, Snapshot, Tenant
from proxy.routing.readings import Rate

TENANT = "tenant:bank"
PERIOD_S = 0.2
MAX_PAUSE_S = 1.0
TIMEOUT_S = 1.0
LEARN_S = 3.0
EPOCH_S = 1_700_000_000.0

_EXCHANGE = """
local context = cjson.decode(ARGV[1])
return PARTS.buckets(KEYS, ARGV[2], context)
"""


def policy(limits: Limits, names: tuple[str, ...] = ("bank",)) -> Snapshot:
    tenants = {name: Tenant(name=name, limits=limits) for name in names}
    return Snapshot(digest="", source="", targets={}, models={}, routes=(), tenants=tenants)


def script() -> str:
    folder = files("proxy.meters").joinpath("lua")
    numbers, buckets = (folder.joinpath(f"{name}.lua").read_text("utf-8") for name in ("numbers", "buckets"))
    return f"{numbers}\nlocal PARTS = {{}}\nPARTS.buckets = (function()\n{buckets}\nend)()\n{_EXCHANGE}"


_names = (f"buckets-{n}" for n in itertools.count())


def new_name() -> str:
    """A namespace that nothing is in."""
    return next(_names)


class World:
    """The store, seen by `processes`; `now` is true time, which the store's clock follows but for `skew_s`."""

    def __init__(self, url: str, namespace: str, *, seed: int = 0) -> None:
        self._redis = redis.Redis.from_url(url)
        self._keys = f"{{{namespace}}}:"
        self._script = self._redis.register_script(script())
        self._steps: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.random = random.Random(seed)
        self.now = 100.0
        self.skew_s = 0.0
        self.run = "run-0"
        self.first = True
        self.learning_until: float | None = 0.0
        self.up = True
        self.processes: list[Process] = []
        self.charged: list[tuple[float, int]] = []

    def add(self, limits: Limits, *, expected_members: int = 1, forget_s: float = 60.0) -> Process:
        """Another process starts."""
        one = Process(self, f"slot-{next(self._order)}", limits, expected_members, forget_s)
        self.processes.append(one)
        return one

    def at(self, when: float, step: Callable[[], None]) -> None:
        heapq.heappush(self._steps, (when, next(self._order), step))

    def go(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._steps and self._steps[0][0] <= end:
            self.now, _, step = heapq.heappop(self._steps)
            step()
        self.now = end

    def wipe(self, *, restart: bool = True) -> None:
        """The store forgets everything."""
        for key in self._redis.keys(self._keys + "*"):
            self._redis.delete(key)
        if restart:
            self.run = f"run-{next(self._order)}"
        self.first, self.learning_until = False, None

    def restart(self) -> None:
        """Another server takes over, with all that was written."""
        self.run = f"run-{next(self._order)}"
        self.first, self.learning_until = False, None

    def exchange(self, slot: str, ask: Ask, *, last: bool) -> tuple[Any, Heard]:
        now_ms = int((EPOCH_S + self.now + self.skew_s) * 1000)
        if self.learning_until is None:
            # As `lua/exchange.lua` does: from the first question on that finds it so.
            self.learning_until = self.now + LEARN_S
        learning = self.now < self.learning_until
        context = {"now": now_ms, "slot": slot, "members": 1, "learning": learning, "last": last}
        context |= {"run": self.run, "first": self.first}
        keys = [self._keys + key for key in ask.keys]
        reply = self._script(keys=keys, args=[orjson.dumps(context), ask.argument])
        return reply, Heard(now_ms, 1, learning)

    def clear(self) -> None:
        """Leave nothing behind."""
        self.wipe()
        self._redis.close()

    def excess(self, limit: int, charged: list[tuple[float, int]] | None = None) -> float:
        """By how much the worst of all spans of time goes beyond limit / 60 * span + limit; negative when none does."""
        total, lowest, worst = 0, float("inf"), float("-inf")
        for when, amount in sorted(self.charged if charged is None else charged):
            # The span may begin just before any charge, and end just after one.
            lowest = min(lowest, total - limit / 60.0 * when)
            total += amount
            worst = max(worst, total - limit / 60.0 * when - lowest)
        return worst - limit


class Process:
    """One proxy: syncs in its rhythm, with what may go wrong of `trouble`."""

    def __init__(self, world: World, slot: str, limits: Limits, expected_members: int, forget_s: float) -> None:
        self._world = world
        self.slot = slot
        self.buckets = Buckets(expected_members=expected_members, forget_s=forget_s, clock=lambda: world.now)
        self.limits = limits
        self.trouble: Callable[[], str] = lambda: ""
        self.reachable = True
        self.alive = True
        self.admitted = self.refused = 0
        self._failures = 0
        self._sync()

    # its requests

    def ask(self, tokens: int = 0, lasts_s: float | None = None, used: int | None = None) -> Taken | None:
        """One request arrives; None when it is refused."""
        world, limits = self._world, self.limits
        rate: Rate = self.buckets.rates(world.now)[TENANT]
        fits = limits.rpm is None or rate.requests < limits.rpm
        fits = fits and (limits.tpm is None or not rate.tokens or rate.tokens + tokens <= limits.tpm)
        fits = fits and (limits.concurrency is None or rate.in_flight < limits.concurrency)
        if not fits:
            self.buckets.missed((TENANT,), tokens, world.now)
            self.refused += 1
            return None
        taken = self.buckets.admit((TENANT,), tokens, world.now)
        self.admitted += 1
        world.charged.append((world.now, tokens if limits.tpm is not None else 1))
        if lasts_s is not None:
            world.at(world.now + lasts_s, lambda: self.end(taken, tokens, tokens if used is None else used))
        return taken

    def end(self, taken: Taken, tokens: int, used: int) -> None:
        self.buckets.settle(taken, used, self._world.now)
        if self.limits.tpm is not None:
            self._world.charged.append((self._world.now, used - tokens))

    @property
    def limits(self) -> Limits:
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._limits = limits
        self.buckets.adopt(policy(limits))

    def offer(self, per_s: float, until: float, tokens: int = 0) -> None:
        """Requests come by chance, so many a second, up to a time."""
        if per_s <= 0:
            return
        when = self._world.now + self._world.random.expovariate(per_s)
        if when < until and self.alive:
            self._world.at(when, lambda: self._offered(per_s, until, tokens))

    def _offered(self, per_s: float, until: float, tokens: int) -> None:
        if self.alive:
            self.ask(tokens)
            self.offer(per_s, until, tokens)

    # its sync

    @property
    def in_use(self) -> int:
        """Requests in flight, where their number is limited."""
        return sum(lease.in_use for lease in self.buckets._leases.values())

    @property
    def in_touch(self) -> bool:
        """Whether the store has answered of late, and without having to learn."""
        contact = self.buckets._contact
        return self.reachable and self._world.up and not contact.alone_s(self._world.now + 1.0)

    def leave(self) -> None:
        """A clean end."""
        self.alive = False
        moment = self._moment(last=True)
        ask = self.buckets.ask(moment)
        assert ask is not None
        reply, heard = self._world.exchange(self.slot, ask, last=True)
        self.buckets.told(reply, heard, moment)

    def _moment(self, *, last: bool = False) -> Moment:
        return Moment(self.slot, self._world.now, None, last)

    def _sync(self) -> None:
        if not self.alive:
            return
        world, moment = self._world, self._moment()
        ask = self.buckets.ask(moment)
        trouble = self.trouble()
        if ask is None:
            self._next()
            return
        takes_s = world.random.uniform(0.0, 0.02)
        if trouble == "late":
            # Given up, and answered when nobody listens any more.
            world.at(world.now + world.random.uniform(0.5, 3.0), lambda: self._answer(ask))
        if not world.up or not self.reachable or trouble in ("question lost", "late"):
            world.at(world.now + (TIMEOUT_S if trouble else 0.01), lambda: self._failed(moment))
        else:
            world.at(world.now + takes_s, lambda: self._reach(ask, moment, trouble))

    def _answer(self, ask: Ask) -> tuple[Any, Heard]:
        return self._world.exchange(self.slot, ask, last=False)

    def _reach(self, ask: Ask, moment: Moment, trouble: str) -> None:
        world = self._world
        if not world.up or not self.reachable:
            world.at(moment.now + TIMEOUT_S, lambda: self._failed(moment))
            return
        reply, heard = self._answer(ask)
        if trouble == "answer lost":
            world.at(moment.now + TIMEOUT_S, lambda: self._failed(moment))
        else:
            world.at(world.now + world.random.uniform(0.0, 0.02), lambda: self._told(reply, heard, moment))

    def _told(self, reply: Any, heard: Heard, moment: Moment) -> None:
        if self.alive:
            self._failures = 0
            self.buckets.told(reply, heard, moment)
            self._next()

    def _failed(self, moment: Moment) -> None:
        if self.alive:
            self._failures += 1
            self.buckets.unheard(moment)
            self._next()

    def _next(self) -> None:
        world = self._world
        longest = min(MAX_PAUSE_S, PERIOD_S * 2.0**self._failures) if self._failures else PERIOD_S * 1.1
        world.at(world.now + world.random.uniform(PERIOD_S * 0.9, longest), self._sync)


@contextmanager
def world(url: str, limits: Limits, processes: int = 4, *, seed: int = 0, forget_s: float = 60.0) -> Iterator[World]:
    """Processes that have started a little apart, and have come to terms."""
    one = World(url, new_name(), seed=seed)
    try:
        for _ in range(processes):
            one.add(limits, forget_s=forget_s)
            one.go(0.05)
        one.go(3.0)
        yield one
    finally:
        one.clear()


def offered(world: World, rates: list[float], seconds: float, tokens: int = 0) -> Iterator[int]:
    """Let each process have its demand for a while; what each admitted meanwhile."""
    before = [one.admitted for one in world.processes]
    for one, per_s in zip(world.processes, rates, strict=True):
        one.offer(per_s, world.now + seconds, tokens)
    world.go(seconds)
    yield from (one.admitted - had for one, had in zip(world.processes, before, strict=True))
