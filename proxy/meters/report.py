"""Dollars per million tokens, spill share and idle share: what the meters add up to.

Theory of operation
-------------------
A pure function of two summaries and the policy's targets. A shared target's money is what its tokens cost; a
dedicated target's is what its GPUs cost while they were provisioned, idle or not, whether or not they produced a
token. Divided by the tokens that passed (input plus output), both give a price that can be compared: the *live* price
of a dedicated target. Beside it stands what the same tokens would have cost at the first priced shared target of the
same model; the difference of the two sums is what the GPUs have saved, or have cost too much.

What is not known is None, never 0: money of a dedicated target whose policy names no GPU price, a price per token where
none has passed, a shared price where no shared target serves the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import msgspec

from proxy.meters.gpu_hours import MS_PER_HOUR, GpuTotals
from proxy.meters.money import TOKENS_PER_MTOK, divide_half_even
from proxy.meters.summary import Summary, Tally
from proxy.policy.model import Candidate, Lane, Price, Target
from proxy.routing.cost import cost_of_many_nano_usd
from proxy.routing.outcome import Usage

VERSION = 1


class TargetReport(msgspec.Struct, frozen=True, kw_only=True):
    """One target over one period. Money is nano-USD; shares are between 0 and 1; counters as in `fields.COUNTERS`.

    `nano_usd` is spend for a shared target, the cost of the provisioned GPUs for a dedicated one. `shared_nano_usd` is
    what a dedicated target's tokens would have cost at `shared_target`, and `saving_nano_usd` is that less what the
    GPUs cost: below zero, they cost more than they saved. `unpriced_attempts` are not in `nano_usd`.
    """

    target: str
    lane: Lane
    requests: int
    attempts: int
    spilled: int
    fallbacks: int
    failures: int
    abandoned: int
    input_tokens: int
    output_tokens: int
    cached_input_tokens: int
    estimated_tokens: int
    unpriced_attempts: int
    busy_request_s: float
    nano_usd: int | None
    nano_usd_per_mtok: int | None
    shared_target: str | None = None
    shared_nano_usd: int | None = None
    shared_nano_usd_per_mtok: int | None = None
    gpu_hours: float | None = None
    replica_hours: float | None = None
    busy_share: float | None = None
    idle_share: float | None = None
    busy_gpu_hours: float | None = None
    idle_gpu_hours: float | None = None
    idle_nano_usd: int | None = None
    saving_nano_usd: int | None = None


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """All targets over one period; `seconds` is None for everything ever counted.

    `spill_share` is spilled attempts over requests, None when there were none. `saving_nano_usd` is over the dedicated
    targets of which it is known, None without any.
    """

    seconds: float | None
    targets: tuple[TargetReport, ...]
    requests: int
    spilled: int
    spill_share: float | None
    shared_nano_usd: int
    dedicated_nano_usd: int
    saving_nano_usd: int | None = None


class MeterReport(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `/admin/meters`. `as_of_s` is Unix time by the store's clock.

    `connected` and `lag_s` say how fresh it is: whether the last sync went through, and the age in seconds of the last
    that did. `processes` have been heard of within the hour.
    """

    version: int = VERSION
    as_of_s: float
    connected: bool
    lag_s: float
    processes: int
    total: Period
    recent: Period | None

    def to_json(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, text: bytes) -> MeterReport:
        """The inverse of `to_json`. Raises msgspec.MsgspecError."""
        return msgspec.json.decode(text, type=cls)


def report(
    latest: Summary,
    earlier: Summary | None,
    targets: Mapping[str, Target],
    models: Mapping[str, tuple[Candidate, ...]],
    *,
    connected: bool = True,
    lag_s: float = 0.0,
    processes: int = 0,
) -> MeterReport:
    """The report on `latest`, and on what came after `earlier`. Targets that left the policy are still in it."""
    recent = None
    if earlier is not None and latest.as_of_s > earlier.as_of_s:
        recent = period(latest.minus(earlier), targets, models, latest.as_of_s - earlier.as_of_s)
    return MeterReport(
        as_of_s=latest.as_of_s,
        connected=connected,
        lag_s=lag_s,
        processes=processes,
        total=period(latest, targets, models, None),
        recent=recent,
    )


def period(
    summary: Summary,
    targets: Mapping[str, Target],
    models: Mapping[str, tuple[Candidate, ...]],
    seconds: float | None,
) -> Period:
    """One period's figures, targets in the policy's order, then those that it no longer names."""
    met = {target for _, target in summary.tallies} | summary.gpus.keys()
    names = [*targets, *sorted(met - targets.keys())]
    parts, nothing = summary.by_target(), replace(summary, tallies={})
    rows = tuple(_target(name, parts.get(name, nothing), targets, models) for name in names)
    requests, spilled = sum(row.requests for row in rows), sum(row.spilled for row in rows)
    return Period(
        seconds=seconds,
        targets=rows,
        requests=requests,
        spilled=spilled,
        spill_share=_share(spilled, requests),
        shared_nano_usd=sum(row.nano_usd or 0 for row in rows if row.lane is Lane.SHARED),
        dedicated_nano_usd=sum(row.nano_usd or 0 for row in rows if row.lane is Lane.DEDICATED),
        saving_nano_usd=_sum_of_known(row.saving_nano_usd for row in rows),
    )


def _target(
    name: str, summary: Summary, targets: Mapping[str, Target], models: Mapping[str, tuple[Candidate, ...]]
) -> TargetReport:
    target = targets.get(name)
    # Who reads the store without a policy, or after a target left it, is told the lane by what was counted.
    counted = name in summary.dedicated or name in summary.gpus
    dedicated = target.lane is Lane.DEDICATED if target is not None else counted
    tally = summary.of_target(name)
    row = _counted(name, Lane.DEDICATED if dedicated else Lane.SHARED, tally)
    if not dedicated:
        return row
    gpu = summary.gpus.get(name, GpuTotals())
    nano_usd = gpu.nano_usd if gpu.priced else None
    busy = _share(gpu.busy_replica_ms, gpu.replica_ms)
    row = msgspec.structs.replace(
        row,
        nano_usd=nano_usd,
        nano_usd_per_mtok=_per_mtok(nano_usd, tally),
        gpu_hours=gpu.gpu_ms / MS_PER_HOUR if gpu.priced else None,
        replica_hours=gpu.replica_ms / MS_PER_HOUR,
        busy_share=busy,
        idle_share=None if busy is None else 1.0 - busy,
        busy_gpu_hours=gpu.busy_gpu_ms / MS_PER_HOUR if gpu.priced else None,
        idle_gpu_hours=gpu.idle_gpu_ms / MS_PER_HOUR if gpu.priced else None,
        idle_nano_usd=gpu.idle_nano_usd if gpu.priced else None,
        **_at_shared_prices(name, summary, models),
    )
    return msgspec.structs.replace(row, saving_nano_usd=_saving(row))


def _saving(row: TargetReport) -> int | None:
    """Without a token nothing was saved, and all that the GPUs cost was spent for it."""
    if row.nano_usd is None:
        return None
    if row.shared_nano_usd is None:
        return None if row.input_tokens + row.output_tokens else -row.nano_usd
    return row.shared_nano_usd - row.nano_usd


def _counted(name: str, lane: Lane, tally: Tally) -> TargetReport:
    spend = tally.get("nano_usd", 0)
    return TargetReport(
        target=name,
        lane=lane,
        requests=tally.get("requests", 0),
        attempts=tally.get("attempts", 0),
        spilled=tally.get("spilled", 0),
        fallbacks=tally.get("fallbacks", 0),
        failures=tally.get("failures", 0),
        abandoned=tally.get("abandoned", 0),
        input_tokens=tally.get("input_tokens", 0),
        output_tokens=tally.get("output_tokens", 0),
        cached_input_tokens=tally.get("cached_input_tokens", 0),
        estimated_tokens=tally.get("estimated_tokens", 0),
        unpriced_attempts=tally.get("unpriced_attempts", 0),
        busy_request_s=tally.get("busy_ms", 0) / 1000.0,
        nano_usd=spend,
        nano_usd_per_mtok=None if tally.get("unpriced_attempts", 0) else _per_mtok(spend, tally),
    )


def _at_shared_prices(
    name: str, summary: Summary, models: Mapping[str, tuple[Candidate, ...]]
) -> dict[str, str | int | None]:
    """The dedicated target's tokens at shared prices: of the models that have one, which need not be all."""
    cost, tokens, where = 0, 0, set()
    for (model, target), tally in summary.tallies.items():
        priced = _first_shared(models.get(model, ())) if target == name else None
        if priced is not None and _tokens(tally):
            cost += cost_of_many_nano_usd(priced[1], _usage(tally))
            tokens += _tokens(tally)
            where.add(priced[0])
    if not tokens:
        return {}
    per_mtok = divide_half_even(cost * TOKENS_PER_MTOK, tokens)
    complete = tokens == _tokens(summary.of_target(name))
    return {
        "shared_target": ", ".join(sorted(where)),
        "shared_nano_usd": cost if complete else None,
        "shared_nano_usd_per_mtok": per_mtok,
    }


def _first_shared(candidates: tuple[Candidate, ...]) -> tuple[str, Price] | None:
    for candidate in candidates:
        if candidate.target.lane is Lane.SHARED and candidate.target.price is not None:
            return candidate.target.name, candidate.target.price
    return None


def _usage(tally: Tally) -> Usage:
    return Usage(
        input_tokens=tally.get("input_tokens", 0),
        output_tokens=tally.get("output_tokens", 0),
        cached_input_tokens=tally.get("cached_input_tokens", 0),
    )


def _tokens(tally: Tally) -> int:
    return tally.get("input_tokens", 0) + tally.get("output_tokens", 0)


def _per_mtok(nano_usd: int | None, tally: Tally) -> int | None:
    tokens = _tokens(tally)
    return None if nano_usd is None or not tokens else divide_half_even(nano_usd * TOKENS_PER_MTOK, tokens)


def _sum_of_known(amounts: Iterable[int | None]) -> int | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if known else None


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
