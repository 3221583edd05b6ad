"""A cluster of proxies that meter GPUs, and its store, on clocks that a test sets: a month takes seconds."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from importlib.resources import files
from typing import Any

from proxy.meters.gpu_hours import GpuClock, GpuTotals, gpus_by_target
from proxy.meters.part import Ask, Heard, Moment
from proxy.policy.model import Gpus, Target
from redis import Redis
from tests.meters.examples import LLAMA

START_MS = 1_790_812_800_000
"""1 October 2026, 00:00 UTC."""
H100 = Gpus(type="H100", count=4, nano_usd_per_hour=2_990_000_000)
_LUA = files("proxy.meters").joinpath("lua")
_MAIN = """
return part(KEYS, ARGV[1], {now = tonumber(ARGV[2]), slot = 'x', members = 1, learning = ARGV[3] == '1', last = false})
"""


class GpuStore:
    """The store's half of GPU time, as it is, on a real server; its clock is off by `skew_ms` from the true time."""

    def __init__(self, client: Redis, namespace: str) -> None:
        self._client = client
        self._prefix = f"{{{namespace}}}:2:"
        numbers, gpu = (_LUA.joinpath(f"{name}.lua").read_text("utf-8") for name in ("numbers", "gpu"))
        self._script = client.register_script(f"{numbers}\nlocal part = (function()\n{gpu}\nend)()\n{_MAIN}")
        self.learning_until_ms = 0
        self.skew_ms = 0

    def exchange(self, ask: Ask | None, true_ms: int, *, learn_ms: int = 3000) -> tuple[Any, Heard]:
        """The answer at the true time, and what every part hears."""
        learning = true_ms < self.learning_until_ms
        now_ms = true_ms + self.skew_ms
        reply = None
        if ask is not None:
            keys = [self._prefix + key for key in ask.keys]
            reply = self._script(keys=keys, args=[ask.argument, now_ms, int(learning)])
        return reply, Heard(now_ms, 1, learning)

    def totals(self) -> Mapping[str, GpuTotals]:
        """What has accrued."""
        return gpus_by_target(self._hash("gpu"))

    def hours(self) -> dict[str, Mapping[str, GpuTotals]]:
        """By the hour's name, what has accrued in it."""
        keys = self._client.keys(f"{self._prefix}gpuhour:*")
        names = (key.decode().removeprefix(self._prefix) for key in keys)
        return {name.removeprefix("gpuhour:"): gpus_by_target(self._hash(name)) for name in sorted(names)}

    def time_to_live_s(self, hour: str) -> int:
        """For how much longer an hour is kept."""
        return int(self._client.ttl(f"{self._prefix}gpuhour:{hour}"))

    def copy(self) -> dict[bytes, dict[bytes, bytes]]:
        """All it holds."""
        return {key: self._client.hgetall(key) for key in self._client.keys(f"{self._prefix}*")}

    def become(self, copied: Mapping[bytes, Mapping[bytes, bytes]], true_ms: int, learn_ms: int = 3000) -> None:
        """Restart with `copied`, which may be nothing, or older than what was; and learn for a while."""
        for key in self._client.keys(f"{self._prefix}*"):
            self._client.delete(key)
        for key, fields in copied.items():
            self._client.hset(key, mapping=dict(fields))
        self.learning_until_ms = true_ms + learn_ms

    def _hash(self, name: str) -> dict[str, int]:
        return {field.decode(): int(value) for field, value in self._client.hgetall(self._prefix + name).items()}


class Proxy:
    """One process: what `Sync` does for the part, with a monotonic clock that began at some time of its own."""

    _began = itertools.count(1000)

    def __init__(self, store: GpuStore, scene: Scene) -> None:
        self._store = store
        self._scene = scene
        self._zero = next(Proxy._began) * 7.0
        self._offset_ms: int | None = None
        self.clock = GpuClock(scene.fleet, scene.in_flight, scene.replicas)
        self.cut_off = False

    def sync(self, true_ms: int) -> None:
        """One sync; a proxy that is cut off asks in vain."""
        now = true_ms / 1000.0 - self._zero
        expected = None if self._offset_ms is None else self._offset_ms + round(now * 1000.0)
        moment = Moment("x", now, expected)
        ask = self.clock.ask(moment)
        if self.cut_off:
            self.clock.unheard(moment)
            return
        reply, heard = self._store.exchange(ask, true_ms)
        self._offset_ms = heard.store_ms - round(now * 1000.0)
        if ask is not None:
            self.clock.told(reply, heard, moment)


class Scene:
    """What there is to see: one target, so many replicas of it, and requests in flight."""

    def __init__(self, gpus: Gpus | None = H100, replicas: int = 3) -> None:
        self.target: Target = replace(LLAMA, gpus=gpus)
        self.count: int | None = replicas
        self.requests: dict[str, int] = {}

    def fleet(self) -> Iterable[Target]:
        return [self.target]

    def in_flight(self) -> Mapping[str, int]:
        return self.requests

    def replicas(self, target: Target) -> int | None:
        return self.count


def ticks(begin_ms: int, end_ms: int, step_ms: int) -> Iterator[int]:
    """Times from `begin_ms` to `end_ms`, both included."""
    yield from range(begin_ms, end_ms, step_ms)
    yield end_ms
