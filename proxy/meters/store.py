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

    StoreError
    ├── StoreUnavailable   no connection, no answer in time, still loading
    ├── StoreRefused       it answers, but not this: read-only, out of memory, wrong password, wrong type of key
    └── StoreUrlInvalid    the URL cannot be one
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from proxy.meters.counters import SEQUENCE
from proxy.meters.fields import LAYOUT
from proxy.meters.gpu_hours import GpuTotals, gpus_by_target
from proxy.meters.part import Ask, Heard, Moment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis.asyncio import Redis

TIMEOUT_S = 1.0
LIVE_S = 5.0
"""A process heard of so lately counts as a member: as one that shares what there is to share."""
LEARN_S = 3.0
"""How long a server that has lost its memory is told before it lets anything new out. See `lua/exchange.lua`."""
DEAD_AFTER_S = 3600.0
TOMBSTONE_S = 30 * 86400.0
_READ_TRIES = 5


class StoreError(Exception):
    """Base of the tree above. Texts hold no URL: it may carry a password."""


class StoreUnavailable(StoreError):
    """No usable connection right now."""


class StoreRefused(StoreError):
    """The server answers with an error."""


class StoreUrlInvalid(StoreError):
    """Not a `redis://`, `rediss://` or `unix://` URL."""


class Totals(NamedTuple):
    """Everything counted so far, `as_of_s` seconds of the store's clock (Unix time), by `processes` not yet folded."""

    counters: dict[str, int]
    gpus: dict[str, GpuTotals]
    as_of_s: float
    processes: int


class Store:
    """A connection to the store at `url`; connects at first use, and again whenever it has to.

    `timeout_s` bounds each wait for a connection or a reply. It is far longer than either should take: no request waits
    with it, and a busy event loop must not be mistaken for a store that is away. redis-py takes longer to import than
    the rest of Spillway together, so it is imported with the first connection, off the event loop.
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
        if not url.startswith(("redis://", "rediss://", "unix://")):
            raise StoreUrlInvalid("the store's URL starts with none of `redis://`, `rediss://`, `unix://`")
        self._url = url
        self._timeout_s = timeout_s
        self._prefix = f"{{{namespace}}}:{LAYOUT}:"
        self._redis: Redis | None = None
        self._slots: frozenset[str] = frozenset()
        self._live_ms, self._learn_ms = _ms(live_s), _ms(learn_s)
        self._fold_script = _script("numbers") + _script("fold")
        self._exchange = cache(_exchange_script)

    async def exchange(self, moment: Moment, asks: Sequence[tuple[str, Ask]]) -> tuple[Heard, list[Any]]:
        """One sync: the parts' questions, by name, and the answer to each, all at one instant. Raises StoreError."""
        redis = await self._connected()
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
        with _mapped():
            now, members, learning, *answers = await self._eval(redis, script, keys, arguments)
        return Heard(int(now), int(members), bool(learning)), answers

    async def fold_dead(self, dead_after_s: float = DEAD_AFTER_S) -> int:
        """Fold the slots not heard from for so long into the base; how many this call folded. Raises StoreError."""
        redis = await self._connected()
        with _mapped():
            heard: list[Any] = await redis.zrange(self._key("slots"), 0, -1, withscores=True)
            seconds, _ = await redis.time()
            dead = [_text(member) for member, score in heard if seconds - score / 1000.0 > dead_after_s - 1.0]
            return sum([int(await self._fold(redis, slot, dead_after_s)) for slot in dead])

    async def read_totals(self) -> Totals:
        """Base plus all slots, as of one instant. Raises StoreError."""
        redis = await self._connected()
        with _mapped():
            for _ in range(_READ_TRIES):
                asked = self._slots
                read = await self._read(redis, asked)
                self._slots = read.slots
                # A slot folded meanwhile is in the base by now; only a new one can have been missed.
                if read.slots <= asked:
                    return read.totals
        raise StoreUnavailable("processes come faster than their counters can be read")

    async def aclose(self) -> None:
        """Close the connection."""
        if self._redis is not None:
            await self._redis.aclose()
            self._redis = None

    async def _connected(self) -> Redis:
        if self._redis is None:
            self._redis = await asyncio.to_thread(_client, self._url, self._timeout_s)
        return self._redis

    def _key(self, name: str) -> str:
        return self._prefix + name

    # EVAL rather than EVALSHA: a script is some kilobytes five times a second, and no server ever lacks it.
    def _eval(self, redis: Any, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        return redis.eval(script, len(keys), *map(self._key, keys), *arguments)

    def _fold(self, redis: Redis, slot: str, dead_after_s: float) -> Any:
        keys = (f"slot:{slot}", "slots", f"folded:{slot}", "base")
        return self._eval(redis, self._fold_script, keys, (slot, _ms(dead_after_s), _ms(TOMBSTONE_S)))

    async def _read(self, redis: Redis, slots: frozenset[str]) -> _Read:
        """One transaction; its totals are whole when the members that it found are among `slots`."""
        pipeline = redis.pipeline(transaction=True)
        pipeline.time()
        pipeline.zrange(self._key("slots"), 0, -1)
        pipeline.hgetall(self._key("gpu"))
        pipeline.hgetall(self._key("base"))
        for slot in slots:
            pipeline.hgetall(self._key(f"slot:{slot}"))
        (seconds, micros), members, gpus, *hashes = await pipeline.execute()
        counters = _summed(map(_integers, hashes))
        totals = Totals(counters, gpus_by_target(_integers(gpus)), seconds + micros / 1e6, len(members))
        return _Read(frozenset(map(_text, members)), totals)


class _Read(NamedTuple):
    slots: frozenset[str]
    totals: Totals


def _client(url: str, timeout_s: float) -> Redis:
    redis = importlib.import_module("redis.asyncio")
    retry = importlib.import_module("redis.asyncio.retry")
    backoff = importlib.import_module("redis.backoff")
    notifications = importlib.import_module("redis.maint_notifications")
    options = {"maint_notifications_config": notifications.MaintNotificationsConfig(enabled=False)}
    try:
        client: Redis = redis.Redis.from_url(
            url,
            socket_connect_timeout=timeout_s,
            socket_timeout=timeout_s,
            # The sync has a rhythm and a backoff of its own; retries inside a call would hide an outage from it.
            retry=retry.Retry(backoff.NoBackoff(), 0),
            **({} if url.startswith("unix://") else options),
        )
    except ValueError:
        raise StoreUrlInvalid("the store's URL cannot be parsed") from None
    return client


@contextmanager
def _mapped() -> Iterator[None]:
    """Foreign errors to ours, once."""
    exceptions = importlib.import_module("redis.exceptions")
    try:
        yield
    except (exceptions.ConnectionError, exceptions.TimeoutError, OSError) as error:
        if isinstance(error, exceptions.AuthenticationError):
            raise StoreRefused("the store does not accept the credentials in its URL") from error
        raise StoreUnavailable(f"no answer from the store: {error}") from error
    except exceptions.RedisError as error:
        raise StoreRefused(f"the store refuses: {error}") from error


def _script(name: str) -> str:
    return files("proxy.meters").joinpath("lua", f"{name}.lua").read_text("utf-8")


def _exchange_script(parts: tuple[str, ...]) -> str:
    """One script for one exchange: what all parts need, each part's own half, and the part that calls them."""
    halves = (f"PARTS['{name}'] = (function()\n{_script(name)}\nend)()\n" for name in parts)
    return "\n".join((_script("numbers"), "local PARTS = {}", *halves, _script("exchange")))


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _integers(raw: Mapping[bytes, bytes]) -> dict[str, int]:
    return {name: int(value) for field, value in raw.items() if (name := _text(field)) != SEQUENCE}


def _summed(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0) + value
    return total
