"""The part `demand` of the sync: how much work is asked for, second by second, whoever serves it.

Theory of operation
-------------------
Whether a GPU pays is told by the work that fits into it *while it comes*, so work is metered in bins of two or three
seconds (`work_pools.py`), by the time of arrival on the store's clock, at the length that it turned out to have. All
proxies' bins are summed in the store before anything is made of them: half of a burst seen twice is no burst. When an
hour is over, and `CLOSE_S` have passed in which long answers may end, its bins become one histogram, and are forgotten
(`work_buckets.py`). Beside it stand the sums for each app (tenant, key and model) from which the work on any other
engine follows, and the price at any provider. An hour of a pool takes about a kilobyte, and is kept as long as those of
the ledger.

Pushes are numbered. One that was not answered is sent again as it was, and the store adds no number twice; so nothing
is counted twice, and nothing is lost while the store is away, up to `MOST_HOURS`. What a process has not pushed yet
when it crashes, and all hours before a wipe of the store, are lost: this is evidence for a purchase, not money, which
the ledger has.

A request that was refused because there was no room is wanted work too: by the estimate of its input, and as many
tokens of output as its app's answers had until then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from proxy.meters.aggregates import HOURS_KEPT_S, Grain, period_at
from proxy.meters.fields import side_by_side
from proxy.meters.part import Ask, Heard, Moment
from proxy.meters.vectors import encode
from proxy.meters.work_pools import MS_PER_HOUR, Kind, Pools
from proxy.routing.facts import Facts
from proxy.routing.outcome import Failure, Outcome, Usage
from proxy.routing.plan import Decision, Refusal
from proxy.routing.shortages import short
from proxy.routing.work import work_us

_log = logging.getLogger(__name__)

SUMS = (
    "requests",
    "input_tokens",
    "cached_tokens",
    "output_tokens",
    "attended_tokens",
    "read_tokens",
    "work_us",
    "shared_nano_usd",
    "unpriced_work_us",
    "captive_work_us",
    "refused_requests",
    "refused_work_us",
)
"""What is summed for each app and hour.

Work on any engine is `d (input - cached) + e attended + b output + c read`: `attended_tokens` stood before those of the
prompts, (in^2 - cached^2) / 2 for each, and `read_tokens` before those of the answers, out (in + out / 2). `work_us` is
that on the engine by which the bins were metered. `shared_nano_usd` is the price of the tokens on the cheapest shared
target that each request may reach; `unpriced_work_us` is of requests for which nobody knows one, `captive_work_us` of
those that may reach none. Refused requests are in all of it.
"""

CLOSE_S = 900.0
FORGET_S = 86_400.0
IDLE_ASK_S = 10.0
"""How often somebody looks whether hours are to be closed, when there is nothing to push."""
MOST_HOURS = 240
"""Hours of pools that are kept while the store is away; about twenty megabytes."""
BINS_PER_PUSH = 2000
ASSUMED_OUTPUT_TOKENS = 256
"""Of an answer of an app that has had none yet."""
KEYS = ("demand", "workbins", "demand:", "workbins:")

# fmt: off
(
    _REQUESTS, _INPUT, _CACHED, _OUTPUT, _ATTENDED, _READ, _WORK_US, _NANO_USD, _UNPRICED_US, _CAPTIVE_US, _REFUSED,
    _REFUSED_US,
) = range(len(SUMS))
# fmt: on

App = tuple[str, str, str]
"""Tenant, key, and the public model that was asked for."""


class _Hour:
    """What was asked of one pool in one hour, since the last push."""

    __slots__ = ("apps", "bins", "kind", "start_ms")

    def __init__(self, kind: Kind, start_ms: int) -> None:
        self.kind, self.start_ms = kind, start_ms
        self.bins: dict[int, int] = {}
        self.apps: dict[App, list[int]] = {}

    def add(self, app: App, at_ms: int, usage: Usage, *, refused: bool) -> None:
        """One request that arrived at `at_ms`, within this hour."""
        kind = self.kind
        into, out, hit = usage.input_tokens, usage.output_tokens, usage.cached_input_tokens
        hit = min(hit, into)
        work = work_us(usage, kind.profile)
        index = (at_ms - self.start_ms) // kind.bin_ms
        self.bins[index] = self.bins.get(index, 0) + work
        sums = self.apps.get(app)
        if sums is None:
            sums = self.apps[app] = [0] * len(SUMS)
        sums[_REQUESTS] += 1
        sums[_INPUT] += into
        sums[_CACHED] += hit
        sums[_OUTPUT] += out
        sums[_ATTENDED] += (into * into - hit * hit) // 2
        sums[_READ] += out * into + out * out // 2
        sums[_WORK_US] += work
        nano_usd = kind.shared_nano_usd(usage)
        if nano_usd is not None:
            sums[_NANO_USD] += nano_usd
        else:
            sums[_CAPTIVE_US if kind.captive else _UNPRICED_US] += work
        if refused:
            sums[_REFUSED] += 1
            sums[_REFUSED_US] += work


class WorkBins:
    """See the module's text. `offset_ms` is the Unix time when the monotonic clock stood at zero, as this machine's own
    clock has it: good enough until the store has said its own.
    """

    name = "demand"

    def __init__(self, pools: Callable[[], Pools], offset_ms: float, *, close_s: float = CLOSE_S) -> None:
        self._pools = pools
        self._offset_ms = offset_ms
        self._close_ms = round(close_s * 1000)
        self._hours: dict[tuple[Any, int, int], _Hour] = {}
        self._lengths: dict[App, tuple[int, int]] = {}
        self._sequence = 0
        self._sent: tuple[_Hour, ...] = ()
        self._asked_at: float | None = None
        self.dropped_hours = 0

    def note(self, facts: Facts, decision: Decision, outcomes: Sequence[Outcome], arrived: float) -> None:
        """One request, when all is over; it arrived at `arrived` on the monotonic clock."""
        kind = self._pools().of(facts, decision.route) if decision.route else None
        if kind is None:
            return
        usage, refused = _served(outcomes).usage if outcomes else NOTHING, False
        app = (facts.tenant.name, facts.key.name, facts.model)
        if not usage.input_tokens and not usage.output_tokens:
            if not _lacked_room(decision, outcomes):
                return
            usage, refused = self._reckoned(app, facts), True
        at_ms = int(arrived * 1000.0 + self._offset_ms)
        self._hour(kind, at_ms).add(app, at_ms, usage, refused=refused)

    def ask(self, moment: Moment) -> Ask | None:
        """What was noted since the last push; or that one again, if it was not answered."""
        if moment.store_ms is not None:
            self._offset_ms = moment.store_ms - moment.now * 1000.0
        elif not moment.last:
            return None
        if not self._sent:
            self._sent = self._take(all_of_it=moment.last)
            self._sequence += bool(self._sent)
        if not self._sent and self._asked_at is not None and moment.now - self._asked_at < IDLE_ASK_S:
            return None
        self._asked_at = moment.now
        return question(self._sequence, self._sent, self._close_ms)

    def told(self, reply: Any, heard: Heard, moment: Moment) -> None:
        """It is in."""
        self._sent = ()

    def unheard(self, moment: Moment) -> None:
        """It may be in or not: it is sent again under its number."""

    def _hour(self, kind: Kind, at_ms: int) -> _Hour:
        start_ms = at_ms - at_ms % MS_PER_HOUR
        key = (kind.pool, kind.bin_ms, start_ms)
        hour = self._hours.get(key)
        if hour is None:
            hour = self._hours[key] = _Hour(kind, start_ms)
            self._bound()
        return hour

    def _reckoned(self, app: App, facts: Facts) -> Usage:
        answers, tokens = self._lengths.get(app, (0, 0))
        output = tokens // answers if answers else ASSUMED_OUTPUT_TOKENS
        most = facts.max_output_tokens
        return Usage(
            input_tokens=facts.input_tokens, output_tokens=output if most is None else min(output, most), estimated=True
        )

    def _take(self, *, all_of_it: bool) -> tuple[_Hour, ...]:
        taken, room = [], BINS_PER_PUSH
        for key in list(self._hours):
            if room <= 0 and not all_of_it:
                break
            hour = self._hours.pop(key)
            taken.append(hour)
            room -= len(hour.bins)
            self._learn(hour)
        return tuple(taken)

    def _learn(self, hour: _Hour) -> None:
        """How long the answers of each app are."""
        for app, sums in hour.apps.items():
            answers, tokens = self._lengths.get(app, (0, 0))
            more = sums[_REQUESTS] - sums[_REFUSED]
            if more:
                self._lengths[app] = (answers + more, tokens + sums[_OUTPUT])

    def _bound(self) -> None:
        if len(self._hours) > MOST_HOURS:
            if not self.dropped_hours:
                _log.warning("the store has been away for so long that the oldest hours of demand are not kept")
            self.dropped_hours += 1
            del self._hours[min(self._hours, key=lambda key: key[2])]


NOTHING = Usage()


def question(sequence: int, hours: Sequence[_Hour], close_ms: int) -> Ask:
    """How a push is put to the store."""
    asked = {
        "sequence": sequence,
        "keep_ms": HOURS_KEPT_S * 1000,
        "close_ms": close_ms,
        "forget_ms": round(FORGET_S * 1000),
        "hours": [_entry(hour) for hour in hours],
    }
    return Ask(KEYS, msgspec.json.encode(asked))


def _entry(hour: _Hour) -> dict[str, Any]:
    return {
        "hour": period_at(hour.start_ms / 1000, Grain.HOUR).key.partition(":")[2],
        "ends_ms": hour.start_ms + MS_PER_HOUR,
        "bin_ms": hour.kind.bin_ms,
        "pool": side_by_side(hour.kind.pool),
        "bins": [number for cell in hour.bins.items() for number in cell],
        "apps": {side_by_side(app): encode(sums) for app, sums in hour.apps.items()},
    }


def _served(outcomes: Sequence[Outcome]) -> Outcome:
    """The attempt that the client had its answer of; the last one, if it had none."""
    for one in outcomes:
        if one.failure is None or one.committed:
            return one
    return outcomes[-1]


def _lacked_room(decision: Decision, outcomes: Sequence[Outcome]) -> bool:
    if outcomes:
        return outcomes[-1].failure is Failure.FULL
    return isinstance(decision, Refusal) and bool(short(decision.excluded))
