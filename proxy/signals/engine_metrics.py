"""What an engine tells of itself, read off the page of metrics that it publishes.

Theory of operation
-------------------
A `Page` is fed the bytes as they come and keeps the few samples that its dialect knows, so that a long page never holds
the event loop for longer than one piece of it takes; `prometheus_client`'s parser reads all of it at once and takes
twenty times as long. The format is Prometheus' text exposition, version 0.0.4.

An engine of several data-parallel ranks publishes each sample several times: those are added, and of the share of the
cache in use the mean is taken. The ranks of one tensor- or pipeline-parallel group tell the same thing, and count once.
Where requests are also shown by priority, the line of all priorities is taken.

TensorRT-LLM also has a JSON list of its latest steps, of which the last tells how it stands. The list is empty when
there was no step since somebody last asked, which says nothing: nobody knows who asked.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from itertools import pairwise
from math import inf, isfinite

import msgspec

from proxy.signals import engine_metrics_names as names
from proxy.signals.distribution import Distribution
from proxy.signals.engine_metrics_names import Dialect

_RANKS = re.compile(rb'(?:^|,)(?:tp|pp|moe_ep)_rank="[^"]*"')
_END = re.compile(rb'(?:^|,)le="([^"]*)"')
_MAX_LINE_BYTES = 1 << 16


class NotUnderstood(Exception):
    """The page is not one of the engine's metrics; the text says why."""


class EngineReading(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One replica as its engine tells it, at monotonic time `as_of` or up to `lag_s` before.

    `running` requests are in the batch, prefill or decode, `waiting` are not yet. `kv_use` is the share of the cache in
    use, 1 is full. Counts since the engine's start: `preemptions`, tokens of prompts and of answers. `pulse` changes
    with the engine's work and means nothing else. The histograms are of seconds. None is what this engine does not
    tell.
    """

    as_of: float
    running: int
    waiting: int
    lag_s: float = 0.0
    kv_use: float | None = None
    preemptions: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    pulse: float | None = None
    ttft: Distribution | None = None
    queue: Distribution | None = None
    e2e: Distribution | None = None

    @property
    def requests(self) -> int:
        """All that are in the engine."""
        return self.running + self.waiting

    def moved_since(self, earlier: EngineReading) -> bool:
        """Whether the engine has published anything new."""
        return _vital(self) != _vital(earlier)


def _vital(reading: EngineReading) -> tuple[float | None, ...]:
    return (
        reading.running,
        reading.waiting,
        reading.kv_use,
        reading.pulse,
        reading.input_tokens,
        reading.output_tokens,
    )


class _KvCacheStats(msgspec.Struct, rename="camel"):
    used_num_blocks: int = 0
    max_num_blocks: int = 0


class _Step(msgspec.Struct, rename="camel"):
    num_active_requests: int
    num_queued_requests: int = 0
    iter: int | None = None
    kv_cache_stats: _KvCacheStats | None = None


_steps = msgspec.json.Decoder(list[_Step])

Wanted = tuple[tuple[bytes, str, str], ...]
"""For one name of a sample: a label that it has to carry, the field that it fills, and which part of a histogram."""
_WHOLE, _BUCKET, _SUM = "", "_bucket", "_sum"


def wanted_of(dialect: Dialect) -> Mapping[bytes, Wanted]:
    """By the name of a sample, what it is wanted for."""
    found: dict[bytes, Wanted] = {}
    for spelled, field in dialect.names.items():
        name, _, label = spelled.rstrip("}").partition("{")
        parts = (_BUCKET, _SUM) if field in names.HISTOGRAMS else (_WHOLE,)
        for part in parts:
            for variant in {name, name.replace(":", "_", 1)}:
                key = f"{variant}{part}".encode()
                found[key] = (*found.get(key, ()), (label.encode(), field, part))
    return found


class Page:
    """One answer of an engine; `wanted` is `wanted_of(dialect)`."""

    def __init__(self, dialect: Dialect, wanted: Mapping[bytes, Wanted]) -> None:
        self._dialect = dialect
        self._wanted = wanted
        self._rest = b""
        self._json: list[bytes] | None = None
        self._begun = False
        self._values: defaultdict[str, dict[bytes, float]] = defaultdict(dict)
        self._buckets: defaultdict[str, dict[bytes, dict[float, float]]] = defaultdict(dict)
        self._sums: defaultdict[str, dict[bytes, float]] = defaultdict(dict)

    def feed(self, data: bytes) -> None:
        """The next bytes. Raises NotUnderstood."""
        if not self._begun and data.strip():
            self._begun = True
            self._json = [] if data.lstrip()[:1] in (b"[", b"{") else None
        if self._json is not None:
            self._json.append(data)
            return
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > _MAX_LINE_BYTES:
            raise NotUnderstood("it is not a page of metrics")
        self._read(lines)

    def reading(self, as_of: float) -> EngineReading | None:
        """What the page says, once all of it is here; None if that is nothing at all. Raises NotUnderstood."""
        if self._json is not None:
            return self._last_step(b"".join(self._json), as_of)
        self._read([self._rest])
        if names.RUNNING not in self._values:
            raise NotUnderstood("it tells of no requests")
        kv_use = self._values.get(names.KV_USE)
        return EngineReading(
            as_of=as_of,
            lag_s=self._dialect.lag_s,
            running=round(sum(self._values[names.RUNNING].values())),
            waiting=round(sum(self._values[names.WAITING].values())),
            kv_use=sum(kv_use.values()) / len(kv_use) if kv_use else None,
            pulse=self._sum(names.PULSE),
            preemptions=self._count(names.PREEMPTIONS),
            input_tokens=self._count(names.INPUT_TOKENS),
            output_tokens=self._count(names.OUTPUT_TOKENS),
            ttft=self._histogram(names.TTFT),
            queue=self._histogram(names.QUEUE),
            e2e=self._histogram(names.E2E),
        )

    def _read(self, lines: list[bytes]) -> None:
        wanted = self._wanted
        for line in lines:
            name, brace, rest = line.partition(b"{")
            if not brace:
                name, _, rest = line.partition(b" ")
            uses = wanted.get(name)
            if uses is None:
                continue
            labels, _, tail = rest.rpartition(b"}") if brace else (b"", b"", rest)
            try:
                value = float(tail.split(None, 1)[0])
            except (ValueError, IndexError):
                raise NotUnderstood(f"`{name.decode(errors='replace')}` has no value") from None
            if isfinite(value):
                for label, field, part in uses:
                    if label in labels:
                        self._take(field, part, labels, value)

    def _take(self, field: str, part: str, labels: bytes, value: float) -> None:
        if part == _BUCKET:
            end = _END.search(labels)
            if end is None:
                return
            labels = labels[: end.start()] + labels[end.end() :]
            buckets = self._buckets[field].setdefault(_RANKS.sub(b"", labels), {})
            bound = inf if end[1] == b"+Inf" else float(end[1])
            buckets[bound] = max(value, buckets.get(bound, 0.0))
            return
        if part == _WHOLE and b'priority="' in labels and b'priority=""' not in labels:
            return
        series = (self._sums if part == _SUM else self._values)[field]
        key = _RANKS.sub(b"", labels)
        series[key] = max(value, series.get(key, 0.0))

    def _sum(self, field: str) -> float | None:
        values = self._values.get(field)
        return sum(values.values()) if values else None

    def _count(self, field: str) -> int | None:
        total = self._sum(field)
        return None if total is None else round(total)

    def _histogram(self, field: str) -> Distribution | None:
        """All series of a histogram together; their buckets are cumulative, and of one kind."""
        found = self._buckets.get(field)
        if not found:
            return None
        bounds = sorted({bound for buckets in found.values() for bound in buckets})
        reached = [sum(buckets.get(bound, 0.0) for buckets in found.values()) for bound in bounds]
        counts = (reached[0], *(max(0.0, after - before) for before, after in pairwise(reached)))
        if bounds[-1] != inf:
            bounds, counts = [*bounds, inf], (*counts, 0.0)
        return Distribution(tuple(bounds[:-1]), counts, sum(self._sums[field].values()))

    def _last_step(self, body: bytes, as_of: float) -> EngineReading | None:
        try:
            steps = _steps.decode(body)
        except msgspec.MsgspecError as error:
            raise NotUnderstood(f"its JSON is not a list of steps: {error}") from None
        if not steps:
            return None
        step, cache = steps[-1], steps[-1].kv_cache_stats
        return EngineReading(
            as_of=as_of,
            lag_s=self._dialect.lag_s,
            running=step.num_active_requests,
            waiting=step.num_queued_requests,
            kv_use=cache.used_num_blocks / cache.max_num_blocks if cache and cache.max_num_blocks else None,
            pulse=None if step.iter is None else float(step.iter),
        )
