"""Inference alone against end to end: where the time goes between a client's request and the engine's answer.

Theory of operation
-------------------
The engine measures from when a request reaches it; we measure from when the client's request reached us. Of our mean
time to the first token, or of the whole answer, there are four parts: what this proxy took before it sent, what the
engine let the request wait, what the engine worked, and the rest, which is the network, the connection, and the HTTP
server and tokenizer before the engine. Means are compared, since parts of a mean add up and quantiles do not.

Both sides are of the last `WINDOW_S`. They are not of the same requests: the engine counts those of everybody, streams
or not, and a first token of ours can be told of a stream only. Where the engine's mean is above ours, that shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from proxy.policy.model import Lane, Target
from proxy.signals.distribution import STEP_S, Recent, Spread, Tally, spread_of, together
from proxy.signals.engine_metrics import EngineReading

MIN_SAMPLES = 5
SHARE_WORTH_A_HINT = 0.2
QUEUE_WORTH_A_HINT_S = 0.1
OUTSIDE_WORTH_A_HINT_S = 0.05
PROXY_WORTH_A_HINT_S = 0.02


class Told(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """By the engines of a target, all replicas together; None is what they do not tell, or had no request for."""

    ttft: Spread | None = None
    queue: Spread | None = None
    e2e: Spread | None = None


class Seen(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """By the clients of this process; `overhead` is a part of both others."""

    ttft: Spread | None = None
    e2e: Spread | None = None
    overhead: Spread | None = None


class Parts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Of a mean of `client_s` seconds. `queue_s` is None, and in `engine_s`, where the engine does not tell it."""

    client_s: float
    proxy_s: float
    queue_s: float | None
    engine_s: float
    outside_s: float


class Gap(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The parts of both times, None where one side does not know it, and in words where to look."""

    ttft: Parts | None = None
    e2e: Parts | None = None
    hint: str = ""


class TargetLatency(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """All of it for one target."""

    target: str
    told: Told
    seen: Seen
    gap: Gap


def compare(engine: Told, client: Seen, *, region: str = "unknown", round_trip_s: float | None = None) -> Gap:
    """What is between the engine's figures and the client's, and what to do about it.

    `round_trip_s` is how long the network takes there and back, as far as is known.
    """
    ttft = _parts(client.ttft, client.overhead, engine.queue, engine.ttft)
    e2e = _parts(client.e2e, client.overhead, engine.queue, engine.e2e)
    told, seen = (engine.ttft, client.ttft) if ttft is not None else (engine.e2e, client.e2e)
    return Gap(ttft=ttft, e2e=e2e, hint=_hint(ttft or e2e, told, seen, _Way(region, round_trip_s)))


def _parts(client: Spread | None, overhead: Spread | None, queue: Spread | None, engine: Spread | None) -> Parts | None:
    if client is None or engine is None:
        return None
    client_s = client.mean_s
    proxy_s = min(client_s, 0.0 if overhead is None else overhead.mean_s)
    queue_s = None if queue is None else min(queue.mean_s, engine.mean_s)
    return Parts(
        client_s=client_s,
        proxy_s=proxy_s,
        queue_s=queue_s,
        engine_s=engine.mean_s - (queue_s or 0.0),
        outside_s=max(0.0, client_s - proxy_s - engine.mean_s),
    )


class _Way(NamedTuple):
    """Between the proxy and the engine."""

    region: str
    round_trip_s: float | None

    def blame(self, outside_s: float) -> str:
        """What may take so long: a reused connection costs a request one round trip, a new one up to three."""
        far = "it is far" if self.region == "unknown" else f"region `{self.region}` is far"
        trip_s = self.round_trip_s
        if trip_s is None:
            return f"{far}, connections are not reused, or its HTTP server is busy"
        trip = f"a round trip takes {_told(trip_s)}"
        if outside_s < 1.5 * trip_s:
            return f"{far}, {trip}"
        if outside_s < 4.0 * trip_s:
            return f"{far}, {trip}, and connections are not reused"
        return f"its HTTP server or tokenizer is busy, {trip}"


def _hint(parts: Parts | None, told: Spread | None, seen: Spread | None, way: _Way) -> str:
    if seen is None:
        return "no answer to a client of this process lately"
    if parts is None or told is None:
        return "the engine does not tell how long it takes"
    if min(told.samples, seen.samples) < MIN_SAMPLES:
        return f"too few answers lately: {told.samples} by the engine, {seen.samples} to clients of this process"
    whole_s = parts.client_s
    if told.mean_s > whole_s:
        return (
            f"the engine takes {_told(told.mean_s)} on average, this process sees {_told(whole_s)}:"
            " others send it other work"
        )
    loss_s, words = max(_losses(parts, way), default=(0.0, ""))
    if loss_s >= SHARE_WORTH_A_HINT * whole_s:
        return words
    return f"nothing is lost on the way: the engine works {_told(parts.engine_s)} of {_told(whole_s)}"


def _losses(parts: Parts, way: _Way) -> Iterator[tuple[float, str]]:
    """What is not the engine's work and long enough to be felt: seconds, and what to do about them."""
    whole = _told(parts.client_s)
    if parts.queue_s is not None and parts.queue_s >= QUEUE_WORTH_A_HINT_S:
        yield parts.queue_s, f"the engine queues {_told(parts.queue_s)} of {whole}: add room, or lower `max_in_flight`"
    if parts.outside_s >= OUTSIDE_WORTH_A_HINT_S:
        yield parts.outside_s, f"{_told(parts.outside_s)} of {whole} outside the engine: {way.blame(parts.outside_s)}"
    if parts.proxy_s >= PROXY_WORTH_A_HINT_S:
        remedy = "start more workers (see `spillway_event_loop_lag_seconds`)"
        yield parts.proxy_s, f"the proxy takes {_told(parts.proxy_s)} of {whole}: {remedy}"


def _told(seconds: float) -> str:
    if seconds >= 1.0:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000.0:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000.0:.1f} ms"


class _Clients:
    """What the clients of one target saw."""

    __slots__ = ("_looked_at", "_recent", "e2e", "overhead", "ttft")

    def __init__(self) -> None:
        self.ttft, self.e2e, self.overhead = Tally(), Tally(), Tally()
        self._recent = Recent()
        self._looked_at = float("-inf")

    def look(self, now: float) -> None:
        self._looked_at = now
        self._recent.look((self.ttft.look(), self.e2e.look(), self.overhead.look()), now)

    def look_if_due(self, now: float) -> None:
        if now - self._looked_at >= STEP_S:
            self.look(now)

    def seen(self, now: float) -> Seen:
        self.look(now)
        ttft, e2e, overhead = map(spread_of, self._recent.added(now))
        return Seen(ttft=ttft, e2e=e2e, overhead=overhead)


class EndToEnd:
    """Both sides of every dedicated target, fed by the outcome and by the scrape."""

    def __init__(self, targets: Iterable[Target]) -> None:
        self._regions: dict[str, str] = {}
        self._clients: dict[str, _Clients] = {}
        self._engines: dict[str, dict[str, Recent]] = {}
        self.adopt(targets)

    def adopt(self, targets: Iterable[Target]) -> None:
        """Follow another policy; what is known of targets and replicas that stay, stays."""
        kept = [target for target in targets if target.lane is Lane.DEDICATED]
        self._regions = {target.name: target.region for target in kept}
        self._clients = {target.name: self._clients.get(target.name) or _Clients() for target in kept}
        engines = self._engines
        self._engines = {
            target.name: {url: engines.get(target.name, {}).get(url) or Recent() for url in target.urls}
            for target in kept
        }

    def feed(self, target: str, *, ttft_s: float | None, total_s: float, overhead_s: float, now: float) -> None:
        """An answer has reached a client in full: `ttft_s` and `total_s` from when it was sent to the engine, and
        before that `overhead_s` in this proxy. An answer that was no stream has no `ttft_s`.
        """
        clients = self._clients.get(target)
        if clients is None:
            return
        clients.look_if_due(now)
        if ttft_s is not None:
            clients.ttft.add(overhead_s + ttft_s)
        clients.e2e.add(overhead_s + total_s)
        clients.overhead.add(overhead_s)

    def told(self, target: str, url: str, reading: EngineReading) -> None:
        """What one engine says."""
        recent = self._engines.get(target, {}).get(url)
        if recent is not None:
            recent.look((reading.ttft, reading.queue, reading.e2e), reading.as_of)

    def compared(self, now: float, round_trips_s: Mapping[str, float]) -> Iterator[TargetLatency]:
        """Each dedicated target of the policy; `round_trips_s` are by target, as far as they are known."""
        for name, clients in self._clients.items():
            told, seen = self._told(name, now), clients.seen(now)
            gap = compare(told, seen, region=self._regions[name], round_trip_s=round_trips_s.get(name))
            yield TargetLatency(target=name, told=told, seen=seen, gap=gap)

    def _told(self, target: str, now: float) -> Told:
        added = [one for recent in self._engines[target].values() if (one := recent.added(now))]
        ttft, queue, e2e = (
            (spread_of(together([one for one in column if one is not None])) for column in zip(*added, strict=True))
            if added
            else (None, None, None)
        )
        return Told(ttft=ttft, queue=queue, e2e=e2e)
