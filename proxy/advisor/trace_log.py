"""Reads Spillway's own decision log as a trace: what was asked of the proxy, and how long the answers were.

Lines that are not about requests, or about requests that came to no route (a wrong key, an unknown model), are passed
over: a log may be what `serve` printed, with whatever stood between. What a request would have been answered with, had
it not been refused, is nobody's knowledge: it counts as long as its app's answers usually are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from proxy.advisor.trace import App, Trace
from proxy.advisor.trace_table import TraceUnreadable, opened
from proxy.policy.model import Endpoint, Priority, Traffic

ANONYMOUS = "anonymous"
"""The tenant of whoever asks where the policy names no tenants."""


class LoggedAttempt(msgspec.Struct, frozen=True, gc=False):
    """What a line says of one attempt, as far as a replay asks."""

    committed: bool = False
    input_tokens: int = 0
    output_tokens: int = 0


class Logged(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag="request"):
    """What a line says of one request, as far as a replay asks; see `proxy.telemetry.log.Line`."""

    received_at: float
    tenant: str
    model: str
    endpoint: Endpoint
    stream: bool
    traffic: Traffic
    route: str
    input_tokens: int
    attempts: list[LoggedAttempt] = []
    max_output_tokens: int | None = None
    key: str = ""
    tags: tuple[str, ...] = ()
    priority: str = ""

    @property
    def app(self) -> App:
        """Who asked: a key for one model, or a tenant for it."""
        tenant = "" if self.tenant == ANONYMOUS else self.tenant
        return App(
            name=f"{self.key or tenant or 'all'} {self.model}",
            tenant=tenant,
            key=self.key,
            model=self.model,
            endpoint=self.endpoint,
            stream=self.stream,
            traffic=self.traffic,
            tags=frozenset(self.tags),
            priority=Priority.__members__.get(self.priority.upper()),
        )

    @property
    def answered(self) -> LoggedAttempt | None:
        """The attempt whose answer the client got."""
        return next((one for one in reversed(self.attempts) if one.committed), None)


_decode = msgspec.json.Decoder(Logged).decode


def read_log(path: Path) -> Trace:
    """The requests of a decision log, by arrival. Raises TraceUnreadable."""
    asked = sorted(_requests(path), key=lambda one: one.received_at)
    if not asked:
        raise TraceUnreadable(f"`{path}` has no request that came to a route")
    index: dict[App, int] = {}
    app = np.array([index.setdefault(one.app, len(index)) for one in asked], np.int32)
    told = np.array([-1 if one.answered is None else one.answered.output_tokens for one in asked], np.int64)
    at_s = np.array([one.received_at for one in asked])
    return Trace(
        name=path.name,
        arrival_s=at_s - at_s[0],
        input_tokens=np.array([max(_input_tokens(one), 1) for one in asked], np.int64),
        output_tokens=np.maximum(_filled(told, app, [one.max_output_tokens for one in asked], path), 1),
        app=app,
        apps=tuple(index),
        span_s=observed_s(at_s - at_s[0]),
        began_at_s=float(at_s[0]),
    )


def observed_s(arrival_s: NDArray[np.float64]) -> float:
    """How long requests were watched: from the first to the last, and the mean gap that nobody saw the end of."""
    count = len(arrival_s)
    return float(arrival_s[-1]) * count / (count - 1) if count > 1 and arrival_s[-1] > 0 else 1.0


def _requests(path: Path) -> Iterator[Logged]:
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            begin = line.find(b"{")
            if begin < 0 or b'"event"' not in line:
                continue
            try:
                request = _decode(line[begin:])
            except msgspec.MsgspecError as error:
                if b'"request"' not in line or not line.endswith(b"\n"):
                    continue  # another event, or a last line that is still being written
                raise TraceUnreadable(
                    f"{path}:{number}: a request's line that makes no sense: {error} (hint: is it of this release?)"
                ) from None
            if request.route:
                yield request


def _input_tokens(one: Logged) -> int:
    answered = one.answered
    return answered.input_tokens if answered is not None and answered.input_tokens else one.input_tokens


def _filled(told: NDArray[np.int64], app: NDArray[np.int32], limits: list[int | None], path: Path) -> NDArray[np.int64]:
    """Lengths of answers, where there was none the median of its app's, or of all, within what was asked for."""
    known = told >= 0
    if known.all():
        return told
    if not known.any():
        raise TraceUnreadable(f"`{path}` has no request that was answered: how long answers are is not known")
    filled = told.copy()
    for row in np.flatnonzero(~known):
        alike = told[known & (app == app[row])]
        usual = int(np.median(alike if len(alike) else told[known]))
        limit = limits[row]
        filled[row] = usual if limit is None else min(usual, limit)
    return filled
