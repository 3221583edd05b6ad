"""Valkey or Redis, seen from the meters: one round trip per sync, and the sum over everybody.

Theory of operation
-------------------
All keys share one hash slot, `{<namespace>}:<layout>:`, so that every script runs on a cluster too:

    slot:<id>     hash   one process's counters and `#sequence`; only that process writes it, only upward
    folded:<id>   hash   a slot that was folded: its tombstone, kept for `TOMBSTONE_S`
    slots         zset   slot id -> when it was last pushed to, by the store's clock
    members       zset   process -> when it was last heard from, by the store's clock
    meta          hash   the run id of the server that last answered, and until when it learns (`lua/exchange.lua`)
    base          hash   the sum of all folded slots
    gauges        hash   slot id -> expiry and in-flight counts
    gpu           hash   GPU time and money per dedicated target, and the marks up to which they accrued

A total is base plus the sum of the slots. Nothing else is kept, and no key, URL, prompt or name of a person is: an id
is random, and labels come from the policy.

What survives what: a process that dies loses what it had not pushed, at most one sync. A store that was wiped, or
came back from an older file, is told everything again by every process that lives, at its next sync; what only dead
processes had counted is lost with it. A process that returns after more than `TOMBSTONE_S` of silence is counted
twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import orjson

from proxy.meters.connection import TIMEOUT_S, connect
from proxy.meters.counters import SEQUENCE
from proxy.meters.fields import LAYOUT
from proxy.meters.gpu_hours import GpuTotals, gpus_by_target
from proxy.meters.part import Ask, Heard, Moment
from proxy.meters.store_error import StoreError, StoreRefused, StoreUnavailable, StoreUrlInvalid

__all__ = ["Store", "StoreError", "StoreRefused", "StoreUnavailable", "StoreUrlInvalid", "Totals"]

LIVE_S = 5.0
"""A process heard of so lately counts as a member: as one that shares what there is to share."""
LEARN_S = 3.0
"""How long a server that has lost its memory is told before it lets anything new out. See `lua/exchange.lua`."""
DEAD_AFTER_S = 3600.0
TOMBSTONE_S = 30 * 86400.0
_READ_TRIES = 5


class Totals(NamedTuple):
    """Everything counted so far, `as_of_s` seconds of the store's clock (Unix time), by `processes` not yet folded."""

    counters: dict[str, int]
    gpus: dict[str, GpuTotals]
    as_of_s: float
    processes: int


class Store:
    """The store at `url`; connects at first use, and again whenever it has to. Raises StoreUrlInvalid.

    `timeout_s` bounds the wait for a reply; see `connection.py`.
    """

    def __init__(
        self,
        url: str,
        namespace: str = "spillway",
        timeout_s: float = TIMEOUT_S,
        *,
        live_s: float = LIVE_S,
        learn_s: float = LEARN_S,
    ) -> None:
        self._prefix = f"{{{namespace}}}:{LAYOUT}:"
        self._client = connect(url, timeout_s, key=self._prefix)
        self._slots: frozenset[str] = frozenset()
        self._live_ms, self._learn_ms = _ms(live_s), _ms(learn_s)
        self._fold_script = _script("numbers") + _script("fold")
        self._exchange = cache(_exchange_script)

    async def exchange(self, moment: Moment, asks: Sequence[tuple[str, Ask]]) -> tuple[Heard, list[Any]]:
        """One sync: the parts' questions, by name, and the answer to each, all at one instant. Raises StoreError."""
        heading = {
            "slot": moment.slot,
            "last": moment.last,
            "live_ms": self._live_ms,
            "learn_ms": self._learn_ms,
            "parts": [(name, len(ask.keys)) for name, ask in asks],
        }
        keys = ["meta", "members", *(key for _, ask in asks for key in ask.keys)]
        arguments = [orjson.dumps(heading), *(ask.argument for _, ask in asks)]
        script = self._exchange(tuple(name for name, _ in asks))
        now, members, learning, *answers = await self._eval(script, keys, arguments)
        return Heard(int(now), int(members), bool(learning)), answers

    async def fold_dead(self, dead_after_s: float = DEAD_AFTER_S) -> int:
        """Fold the slots not heard from for so long into the base; how many this call folded. Raises StoreError."""
        commands = [("TIME",), ("ZRANGE", self._key("slots"), 0, -1, "WITHSCORES")]
        (seconds, _), heard = await self._client.transaction(commands)
        latest_ms = (int(seconds) - dead_after_s + 1.0) * 1000.0
        dead = [slot.decode() for slot, score in _pairs(heard) if float(score) < latest_ms]
        return sum([int(await self._fold(slot, dead_after_s)) for slot in dead])

    async def read_totals(self) -> Totals:
        """Base plus all slots, as of one instant. Raises StoreError."""
        for _ in range(_READ_TRIES):
            asked = self._slots
            read = await self._read(asked)
            self._slots = read.slots
            # A slot folded meanwhile is in the base by now; only a new one can have been missed.
            if read.slots <= asked:
                return read.totals
        raise StoreUnavailable("processes come faster than their counters can be read")

    async def aclose(self) -> None:
        """Close the connection."""
        await self._client.aclose()

    def _key(self, name: str) -> str:
        return self._prefix + name

    # EVAL rather than EVALSHA: a script is some kilobytes five times a second, and no server ever lacks it.
    async def _eval(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        return await self._client.eval(script, [self._key(key) for key in keys], arguments)

    async def _fold(self, slot: str, dead_after_s: float) -> Any:
        keys = (f"slot:{slot}", "slots", f"folded:{slot}", "base")
        return await self._eval(self._fold_script, keys, (slot, _ms(dead_after_s), _ms(TOMBSTONE_S)))

    async def _read(self, slots: frozenset[str]) -> _Read:
        """One transaction; its totals are whole when the members that it found are among `slots`."""
        names = ["gpu", "base", *(f"slot:{slot}" for slot in slots)]
        commands = [("TIME",), ("ZRANGE", self._key("slots"), 0, -1), *(("HGETALL", self._key(name)) for name in names)]
        (seconds, micros), members, gpus, *hashes = await self._client.transaction(commands)
        counters = _summed(map(_integers, hashes))
        as_of_s = int(seconds) + int(micros) / 1e6
        totals = Totals(counters, gpus_by_target(_integers(gpus)), as_of_s, len(members))
        return _Read(frozenset(member.decode() for member in members), totals)


class _Read(NamedTuple):
    slots: frozenset[str]
    totals: Totals


def _script(name: str) -> str:
    return files("proxy.meters").joinpath("lua", f"{name}.lua").read_text("utf-8")


def _exchange_script(parts: tuple[str, ...]) -> str:
    """One script for one exchange: what all parts need, each part's own half, and the part that calls them."""
    halves = (f"PARTS['{name}'] = (function()\n{_script(name)}\nend)()\n" for name in parts)
    return "\n".join((_script("numbers"), "local PARTS = {}", *halves, _script("exchange")))


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def _integers(fields: Sequence[bytes]) -> dict[str, int]:
    return {name: int(value) for field, value in _pairs(fields) if (name := field.decode()) != SEQUENCE}


def _pairs(flat: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _summed(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0) + value
    return total
