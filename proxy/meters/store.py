"""Valkey or Redis, seen from the meters: one round trip per sync, and the sum over everybody.

Theory of operation
-------------------
All keys share one hash slot, `{<namespace>}:<layout>:`, so that every script runs on a cluster too:

    slot:<id>     hash   one process's counters and `#sequence`; only that process writes it, only upward
    folded:<id>   hash   a slot that was folded: its tombstone, kept for `TOMBSTONE_S`
    members       zset   slot id -> when it was last heard from, by the store's clock
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
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import orjson

from proxy.meters.fields import LAYOUT
from proxy.meters.gpu_hours import BRIDGE_S, Accrual, GpuTotals
from proxy.meters.slot import Accepted, Behind, Folded, Push, PushReply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis.asyncio import Redis

TIMEOUT_S = 1.0
GAUGE_TTL_S = 2.0
SHORTEST_ACCRUAL_S = 0.1
DEAD_AFTER_S = 3600.0
TOMBSTONE_S = 30 * 86400.0
SEQUENCE = "#sequence"
_READ_TRIES = 5


class StoreError(Exception):
    """Base of the tree above. Texts hold no URL: it may carry a password."""


class StoreUnavailable(StoreError):
    """No usable connection right now."""


class StoreRefused(StoreError):
    """The server answers with an error."""


class StoreUrlInvalid(StoreError):
    """Not a `redis://`, `rediss://` or `unix://` URL."""


class Exchanged(NamedTuple):
    """What one sync brought back: the push's fate, everybody else's gauges summed, and what the GPUs have accrued."""

    push: PushReply
    gauges: dict[str, int]
    gpus: dict[str, GpuTotals]


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

    def __init__(self, url: str, namespace: str = "spillway", timeout_s: float = TIMEOUT_S) -> None:
        if not url.startswith(("redis://", "rediss://", "unix://")):
            raise StoreUrlInvalid("the store's URL starts with none of `redis://`, `rediss://`, `unix://`")
        self._url = url
        self._timeout_s = timeout_s
        self._prefix = f"{{{namespace}}}:{LAYOUT}:"
        self._redis: Redis | None = None
        self._slots: frozenset[str] = frozenset()
        self._scripts = {name: _script(name) for name in ("push", "gauges", "accrue", "fold")}

    async def exchange(self, push: Push, gauges: Mapping[str, int] | None, accruals: Sequence[Accrual]) -> Exchanged:
        """One sync in one round trip. `gauges` None withdraws this process's. Raises StoreError."""
        pipeline = (await self._connected()).pipeline(transaction=False)
        self._eval(pipeline, "push", self._push_keys(push.slot), _push_arguments(push))
        shown = b"" if gauges is None else orjson.dumps(gauges)
        self._eval(pipeline, "gauges", ("gauges",), (push.slot, _ms(GAUGE_TTL_S), shown))
        if accruals:
            self._eval(pipeline, "accrue", ("gpu",), _accrual_arguments(accruals))
        with _mapped():
            replies = await pipeline.execute()
        return Exchanged(
            _push_reply(replies[0]),
            _summed(orjson.loads(other) for other in replies[1]),
            dict(map(_gpu_totals, replies[2])) if accruals else {},
        )

    async def push(self, push: Push) -> PushReply:
        """A push by itself. Raises StoreError."""
        redis = await self._connected()
        with _mapped():
            return _push_reply(await self._eval(redis, "push", self._push_keys(push.slot), _push_arguments(push)))

    async def fold_dead(self, dead_after_s: float = DEAD_AFTER_S) -> int:
        """Fold the slots not heard from for so long into the base; how many this call folded. Raises StoreError."""
        redis = await self._connected()
        with _mapped():
            heard: list[Any] = await redis.zrange(self._key("members"), 0, -1, withscores=True)
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

    def _push_keys(self, slot: str) -> tuple[str, ...]:
        return (f"slot:{slot}", "members", f"folded:{slot}")

    # EVAL rather than EVALSHA: a script is a kilobyte five times a second, and no server ever lacks it.
    def _eval(self, redis: Any, name: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        return redis.eval(self._scripts[name], len(keys), *map(self._key, keys), *arguments)

    def _fold(self, redis: Redis, slot: str, dead_after_s: float) -> Any:
        keys = (*self._push_keys(slot), "base")
        return self._eval(redis, "fold", keys, (slot, _ms(dead_after_s), _ms(TOMBSTONE_S)))

    async def _read(self, redis: Redis, slots: frozenset[str]) -> _Read:
        """One transaction; its totals are whole when the members that it found are among `slots`."""
        pipeline = redis.pipeline(transaction=True)
        pipeline.time()
        pipeline.zrange(self._key("members"), 0, -1)
        pipeline.hgetall(self._key("gpu"))
        pipeline.hgetall(self._key("base"))
        for slot in slots:
            pipeline.hgetall(self._key(f"slot:{slot}"))
        (seconds, micros), members, gpus, *hashes = await pipeline.execute()
        counters = _summed(map(_integers, hashes))
        totals = Totals(counters, _gpus_by_target(_integers(gpus)), seconds + micros / 1e6, len(members))
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


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _push_arguments(push: Push) -> tuple[Any, ...]:
    # Integers travel as decimal strings: JSON numbers become doubles inside the store.
    fields = orjson.dumps({name: str(value) for name, value in push.fields.items()})
    return push.slot, push.expected, push.sequence, int(push.full), fields


def _push_reply(reply: Sequence[bytes]) -> PushReply:
    match _text(reply[0]):
        case "accepted":
            return Accepted()
        case "behind":
            return Behind()
        case _:
            return Folded(_integers(dict(zip(reply[1::2], reply[2::2], strict=True))))


def _accrual_arguments(accruals: Sequence[Accrual]) -> tuple[Any, ...]:
    entries = []
    for accrual in accruals:
        entry = msgspec.structs.asdict(accrual)
        entry["seen"] = {name: str(value) for name, value in msgspec.structs.asdict(accrual.seen).items()}
        entries.append(entry)
    return _ms(BRIDGE_S), _ms(SHORTEST_ACCRUAL_S), orjson.dumps(entries)


def _gpu_totals(row: Sequence[bytes]) -> tuple[str, GpuTotals]:
    target, *sums = row
    return _text(target), GpuTotals(*map(int, sums))


def _gpus_by_target(fields: Mapping[str, int]) -> dict[str, GpuTotals]:
    sums = GpuTotals.__struct_fields__
    targets = {name.partition("|")[2] for name in fields}
    return {target: GpuTotals(*(fields.get(f"{name}|{target}", 0) for name in sums)) for target in targets}


def _integers(raw: Mapping[bytes, bytes]) -> dict[str, int]:
    return {name: int(value) for field, value in raw.items() if (name := _text(field)) != SEQUENCE}


def _summed(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0) + value
    return total
