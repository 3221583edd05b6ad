"""Small values that the meters' tests share."""

from __future__ import annotations

import time

from proxy.meters.aggregates import HOURS_KEPT_S, MINUTES_KEPT_S, Grain, Period
from proxy.meters.counters import answer, question
from proxy.meters.fields import COUNTERS, Series, series_name
from proxy.meters.part import Heard, Moment, Part
from proxy.meters.slot import Push, PushReply, Raise
from proxy.meters.store import Store
from proxy.policy.model import ANONYMOUS, NO_KEY, Endpoint, Gpus, Key, Lane, Price, Target, Tenant
from proxy.routing.facts import Facts
from proxy.routing.outcome import Failure, Outcome, Usage
from proxy.routing.plan import Attempt, Cause

USD = 1_000_000_000
ROUTE = "default"
USAGE = Usage(input_tokens=100, output_tokens=50)

TOGETHER = Target(
    name="together",
    lane=Lane.SHARED,
    model="meta-llama/Llama-3.3-70B-Instruct-Turbo",
    region="us",
    provider="together_ai",
    price=Price(input_nano_usd_per_mtok=880_000_000, output_nano_usd_per_mtok=880_000_000),
)
LLAMA = Target(
    name="llama-eu",
    lane=Lane.DEDICATED,
    model="meta-llama/Llama-3.3-70B-Instruct",
    region="eu-west-1",
    urls=("http://one:8000/v1", "http://two:8000/v1"),
    gpus=Gpus(type="H100", count=4, nano_usd_per_hour=2_990_000_000),
)


def facts(model: str = "llama-70b", tenant: Tenant = ANONYMOUS, key: Key = NO_KEY) -> Facts:
    return Facts(request_id="r-1", tenant=tenant, model=model, endpoint=Endpoint.CHAT, key=key)


def outcome(
    target: Target = TOGETHER,
    usage: Usage = USAGE,
    *,
    failure: Failure | None = None,
    cause: Cause = Cause.PREFERRED,
    ordinal: int = 0,
    total_s: float = 0.25,
) -> Outcome:
    attempt = Attempt(target=target, replica=0, model=target.model, ordinal=ordinal, cause=cause, reason="test")
    return Outcome(
        attempt=attempt, status=200, failure=failure, committed=failure is None, total_s=total_s, usage=usage
    )


KEPT_S = {Grain.MINUTE: MINUTES_KEPT_S, Grain.HOUR: HOURS_KEPT_S}
NOON = Period(Grain.MINUTE, 1_795_348_800)
"""A minute: 22 November 2026, 12:00 UTC."""


def series(**labels: str) -> str:
    """The name of a series, that of the examples where no label says otherwise."""
    given = {
        "tenant": "anonymous", "key": "", "model": "llama-70b", "route": ROUTE, "target": "together", "lane": "shared",
    }  # fmt: skip
    return series_name(Series(**{**given, **labels}))


def vector(**counts: int) -> tuple[int, ...]:
    """A vector of these counts."""
    assert counts.keys() <= set(COUNTERS)
    return tuple(counts.get(counter, 0) for counter in COUNTERS)


def push(
    slot: str = "one",
    at: int = 0,
    *,
    force: bool = False,
    period: Period | None = NOON,
    **cells: int,
) -> Push:
    """A push of one raise: of series of one count."""
    raises = (Raise(period, {name: (count,) for name, count in cells.items()}),) if cells else ()
    return Push(slot=slot, expected=at, raises=raises, force=force)


async def asked(
    store: Store, part: Part, slot: str = "one", *, store_ms: int | None = None, last: bool = False
) -> Heard:
    """One exchange of one part with the store."""
    moment = Moment(slot, time.monotonic(), store_ms, last)
    ask = part.ask(moment)
    heard, replies = await store.exchange(moment, [] if ask is None else [(part.name, ask)])
    for reply in replies:
        part.told(reply, heard, moment)
    return heard


async def pushed(store: Store, push: Push) -> PushReply:
    """The store's answer to a push put together by hand."""
    _, (reply,) = await store.exchange(Moment(push.slot, 0.0, None), [("counters", question(push, KEPT_S))])
    return answer(reply)
