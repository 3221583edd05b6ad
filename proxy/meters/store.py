"""Valkey or Redis, seen from the meters: one round trip per sync, and the sum over everybody.

Theory of operation
-------------------
All keys share one hash slot, `{<namespace>}:<layout>:`, so that every script runs on a cluster too:

    slot:<id>      hash   what one process counted, by series, and `#sequence`; only it writes there, only upward
    folded:<id>    hash   a slot that was folded: its tombstone, kept for `TOMBSTONE_S`
    slots          set    the slots that have not been folded
    base           hash   the sum of all folded slots
    minute:<when>  hash   what was counted in one minute, by series; `hour:<when>` in one hour (`aggregates.py`)
    members        zset   process -> when it was last heard from, by the store's clock; 0 when it has left
    meta           hash   the run id of the server that last answered, and until when it learns (`lua/exchange.lua`)
    gauges         hash   process -> expiry and in-flight counts
    gpu            hash   GPU time and money per dedicated target, and the marks up to which they accrued
    gpuhour:<when> hash   the same by the hour, without marks (`gpu_hours.py`)
    demand:<when>  hash   work asked for in one hour: histograms by pool, sums by app (`work_bins.py`)
    demand         hash   since when that is watched, and which pushes of whom are in
    workbins       zset   the hours of pools that are still open -> when they are closed
    claim:<name>   string somebody does what is to be done once, until it expires
    workbins:<...> string the work in each bin of one of these

A total is base plus the sum of the slots. No key, URL, prompt or name of a person is kept: an id is random, and labels
come from the policy. Each part of the sync says what it keeps beside that.

What survives what: a process that dies loses what it had not pushed, at most one sync, unless its journal is found. A
store that was wiped, or came back from an older file, is told everything again: by every process that lives what it has
counted; by the first of them what the dead had, as it was last read, but for some seconds of the last to die.
The minutes and hours before a wipe are lost. A process that returns after more than `TOMBSTONE_S` of silence is counted
twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from itertools import islice
from typing import Any, NamedTuple

import orjson

from proxy.meters.aggregates import Grain, Row, periods, rows
from proxy.meters.connection import TIMEOUT_S, connect
from proxy.meters.counters import vectors
from proxy.meters.demand_rows import StoredHour, Watched, key_of_hour, stored_hour
from proxy.meters.fields import LAYOUT
from proxy.meters.gpu_hours import GpuRow, GpuTotals, gpus_by_target
from proxy.meters.part import Ask, Heard, Moment
from proxy.meters.store_error import StoreError, StoreRefused, StoreUnavailable, StoreUrlInvalid
from proxy.meters.vectors import Vector, add_by_name

__all__ = ["Store", "StoreError", "StoreRefused", "StoreUnavailable", "StoreUrlInvalid", "Totals"]

NAMESPACE = "spillway"
LIVE_S = 5.0
"""A process heard of so lately counts as a member: as one that shares what there is to share."""
LEARN_S = 3.0
"""How long a server that has lost its memory is told before it lets anything new out. See `lua/exchange.lua`."""
DEAD_AFTER_S = 3600.0
TOMBSTONE_S = 30 * 86400.0
_READ_TRIES = 5
_FORGOT = 2
_PERIODS_AT_ONCE = 240


class Totals(NamedTuple):
    """Everything counted so far, `as_of_s` seconds of the store's clock (Unix time), by `processes` heard of within
    `DEAD_AFTER_S`. `counters` are by series name.
    """

    counters: dict[str, Vector]
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
        namespace: str = NAMESPACE,
        timeout_s: float = TIMEOUT_S,
        *,
        live_s: float = LIVE_S,
        learn_s: float = LEARN_S,
    ) -> None:
        self._prefix = key_prefix(namespace)
        self._client = connect(url, timeout_s, key=self._prefix)
        self._slots: frozenset[str] = frozenset()
        self._live_ms, self._learn_ms = _ms(live_s), _ms(learn_s)
        self._fold_script = "\n".join(map(_script, ("numbers", "vectors", "fold")))
        self._restore_script = "\n".join(map(_script, ("numbers", "restore")))
        self._exchange = cache(_exchange_script)
        # By slot, and of the base by no name: what was last read of the counts.
        self._memory: dict[str, Sequence[bytes]] | None = None

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
        return Heard(int(now), int(members), bool(learning), int(learning) == _FORGOT), answers

    async def fold_dead(self, dead_after_s: float = DEAD_AFTER_S) -> int:
        """Fold the slots of processes not heard from for so long into the base; how many this call folded.

        Raises StoreError.
        """
        members = self._key("members")
        (seconds, _), *_ = await self._client.transaction([("TIME",)])
        long_ago_ms = (int(seconds) - int(TOMBSTONE_S)) * 1000
        slots, heard, _ = await self._client.transaction(
            [
                ("SMEMBERS", self._key("slots")),
                ("ZRANGE", members, 0, -1, "WITHSCORES"),
                ("ZREMRANGEBYSCORE", members, "(0", long_ago_ms),
            ]
        )
        latest_ms = (int(seconds) - dead_after_s + 1.0) * 1000.0
        living = {process for process, score in _pairs(heard) if float(score) >= latest_ms}
        dead = [slot.decode() for slot in slots if slot.partition(b"~")[0] not in living]
        return sum([int(await self._fold(slot, dead_after_s)) for slot in dead])

    async def rows(self, from_s: float, to_s: float, grain: Grain) -> list[Row]:
        """What each series counted in each period from `from_s` on and before `to_s`, Unix time. Raises StoreError."""
        found: list[Row] = []
        wanted = periods(from_s, to_s, grain)
        while batch := list(islice(wanted, _PERIODS_AT_ONCE)):
            hashes = await self._client.transaction([("HGETALL", self._key(period.key)) for period in batch])
            for period, flat in zip(batch, hashes, strict=True):
                found += rows(period, vectors(flat))
        return found

    async def gpu_rows(self, from_s: float, to_s: float) -> list[GpuRow]:
        """What each dedicated target accrued in each hour from `from_s` on and before `to_s`. Raises StoreError."""
        found: list[GpuRow] = []
        wanted = periods(from_s, to_s, Grain.HOUR)
        while batch := list(islice(wanted, _PERIODS_AT_ONCE)):
            hashes = await self._client.transaction([("HGETALL", self._key(f"gpu{hour.key}")) for hour in batch])
            for hour, flat in zip(batch, hashes, strict=True):
                by_target = gpus_by_target(_integers(flat))
                found += (GpuRow(hour.start_s, target, by_target[target]) for target in sorted(by_target))
        return found

    async def demand(self, from_s: int, to_s: int) -> tuple[Watched, list[StoredHour]]:
        """What was asked for in each hour from `from_s` on and before `to_s`, and what of it all was watched.

        Raises StoreError.
        """
        read = [("TIME",), ("HGET", self._key("demand"), "began"), ("ZRANGE", self._key("workbins"), 0, -1)]
        (seconds, micros), began_ms, names = await self._client.transaction(read)
        now_s = int(seconds) + int(micros) / 1e6
        found: list[StoredHour] = []
        for hour in periods(from_s, min(to_s, now_s), Grain.HOUR):
            when = key_of_hour(hour.start_s)
            opened = [name for name in map(bytes.decode, names) if name.startswith(f"{when}|")]
            keys = [("GET", self._key(f"workbins:{name}")) for name in opened]
            fields, *bins = await self._client.transaction([("HGETALL", self._key(f"demand:{when}")), *keys])
            pools = (name.partition("|")[2] for name in opened)
            if fields or any(bins):
                found.append(stored_hour(hour.start_s, fields, dict(zip(pools, bins, strict=True))))
        return Watched(from_s=now_s if began_ms is None else int(began_ms) / 1000, to_s=now_s), found

    async def read_totals(self) -> Totals:
        """Base plus all slots, as of one instant. Raises StoreError."""
        for _ in range(_READ_TRIES):
            asked = self._slots
            read = await self._read(asked)
            self._slots = read.slots
            # A slot folded meanwhile is in the base by now; only a new one can have been missed.
            if read.slots <= asked:
                # A server that was wiped is learning, or was not even spoken to: what it had is remembered until then.
                if read.settled:
                    self._memory = read.hashes
                return read.totals
        raise StoreUnavailable("processes come faster than their counters can be read")

    async def restore(self) -> int:
        """Put back what `read_totals` last found, if the store was wiped since; how many hashes. Raises StoreError.

        What the living have counted they tell themselves; this is for those that have died, or left.
        """
        if self._memory is None:
            return 0
        slots = [slot for slot in self._memory if slot]
        keys = ["meta", "slots", "base", *(f"slot:{slot}" for slot in slots)]
        hashes = [orjson.dumps([word.decode() for word in self._memory[slot]]) for slot in ["", *slots]]
        return int(await self._eval(self._restore_script, keys, [*hashes, orjson.dumps(slots)]))

    async def claim(self, name: str, for_s: float) -> bool:
        """Whether `name` is the caller's to do, for so long; everybody else who asks is told no. Raises StoreError."""
        (claimed,) = await self._client.transaction([("SET", self._key(f"claim:{name}"), "", "NX", "PX", _ms(for_s))])
        return claimed is not None

    async def release(self, name: str) -> None:
        """`name` is anybody's again. Raises StoreError."""
        await self._client.transaction([("DEL", self._key(f"claim:{name}"))])

    async def aclose(self) -> None:
        """Close the connection."""
        await self._client.aclose()

    def _key(self, name: str) -> str:
        return self._prefix + name

    # EVAL rather than EVALSHA: a script is some kilobytes five times a second, and no server ever lacks it.
    async def _eval(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        return await self._client.eval(script, [self._key(key) for key in keys], arguments)

    async def _fold(self, slot: str, dead_after_s: float) -> Any:
        keys = (f"slot:{slot}", "slots", f"folded:{slot}", "base", "members")
        arguments = (slot, slot.partition("~")[0], _ms(dead_after_s), _ms(TOMBSTONE_S), self._live_ms)
        return await self._eval(self._fold_script, keys, arguments)

    async def _read(self, slots: frozenset[str]) -> _Read:
        """One transaction; its totals are whole when the slots that it found are among `slots`."""
        names = ["gpu", "base", *(f"slot:{slot}" for slot in slots)]
        commands = [
            ("TIME",),
            ("SMEMBERS", self._key("slots")),
            ("ZRANGE", self._key("members"), 0, -1, "WITHSCORES"),
            ("HGET", self._key("meta"), "learning_until"),
            *(("HGETALL", self._key(name)) for name in names),
        ]
        (seconds, micros), found, heard, learning_until, gpus, *hashes = await self._client.transaction(commands)
        as_of_s = int(seconds) + int(micros) / 1e6
        processes = sum(float(score) / 1000.0 > as_of_s - DEAD_AFTER_S for _, score in _pairs(heard))
        totals = Totals(add_by_name(map(vectors, hashes)), gpus_by_target(_integers(gpus)), as_of_s, processes)
        memory = dict(zip(["", *slots], hashes, strict=True))
        settled = learning_until is not None and int(learning_until) < as_of_s * 1000
        return _Read(frozenset(slot.decode() for slot in found), totals, memory, settled)


class _Read(NamedTuple):
    slots: frozenset[str]
    totals: Totals
    hashes: dict[str, Sequence[bytes]]
    settled: bool


def key_prefix(namespace: str = NAMESPACE) -> str:
    """What all our keys begin with: a hash tag, which puts them into one slot of a cluster, and the layout's number."""
    return f"{{{namespace}}}:{LAYOUT}:"


def _script(name: str) -> str:
    return files("proxy.meters").joinpath("lua", f"{name}.lua").read_text("utf-8")


def _exchange_script(parts: tuple[str, ...]) -> str:
    """One script for one exchange: what all parts need, each part's own half, and the part that calls them."""
    halves = (f"PARTS['{name}'] = (function()\n{_script(name)}\nend)()\n" for name in parts)
    return "\n".join((_script("numbers"), _script("vectors"), "local PARTS = {}", *halves, _script("exchange")))


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def _integers(fields: Sequence[bytes]) -> dict[str, int]:
    return {name.decode(): int(value) for name, value in _pairs(fields)}


def _pairs(flat: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)
