"""`POST /admin/explain`: why a request would go where it would go, by the policy and the readings of this moment.

Theory of operation
-------------------
The body says what is asked in the words of a policy test: `{"request": {"model": "chat", "tags": ["gdpr"]}}`. Nothing
is sent anywhere and nothing is counted. `readings`, `rates` and `budgets` may be given too, and then stand in for what
this process sees of those targets, scopes and budgets: what if that one were full, or this one used up? The answer
holds names, words and numbers; a request's content is never asked for.
"""

from __future__ import annotations

import contextlib
import time
from collections import ChainMap
from collections.abc import Callable, MutableMapping
from typing import Protocol, cast

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from proxy.api import guard
from proxy.api.catalogue import refusal_response
from proxy.cases.given import Given, read_given
from proxy.policy.model import Candidate, Snapshot
from proxy.policy.problem import Mistake
from proxy.policy.words import did_you_mean
from proxy.routing import limits
from proxy.routing.decide import Router
from proxy.routing.explain.explain import explain
from proxy.routing.explain.explained import Explanation
from proxy.routing.facts import Facts
from proxy.routing.plan import Refusal
from proxy.routing.readings import NO_FUNDS, NO_RATES, Fund, Funds, Outlook, Rates, Reading, Readings

MAX_BODY_BYTES = 1 << 16
_MEMBERS = ("request", "readings", "rates", "budgets")
_TIMES = ("as_of", "open_until", "full_until", "full_at", "paced_until")
_decode_mapping = msgspec.json.Decoder(dict[str, object]).decode


class Observations(Protocol):
    """What this process observes of its targets; the relay reads the same."""

    def read(self, candidates: tuple[Candidate, ...], now: float) -> Readings: ...

    def outlook(self, facts: Facts, candidates: tuple[Candidate, ...], readings: Readings, now: float) -> Outlook: ...


class Explainer:
    """The endpoint. `current` gives the policy that a request would be decided by, `funds` what budgets have left, and
    `rates` what callers have used.
    """

    def __init__(
        self,
        current: Callable[[], Router],
        observations: Observations,
        funds: Callable[[float], Funds] = lambda now: NO_FUNDS,
        rates: Callable[[float], Rates] = lambda now: NO_RATES,
    ) -> None:
        self._current = current
        self._observations = observations
        self._funds = funds
        self._rates = rates

    async def answer(self, request: Request) -> Response:
        """Answer one question."""
        body = await read_body(request, MAX_BODY_BYTES)
        found = body if isinstance(body, Refusal) else self._explained(body)
        if isinstance(found, Refusal):
            return refusal_response(request, found)
        return Response(msgspec.json.encode(found), media_type="application/json")

    def _explained(self, body: bytes) -> Explanation | Refusal:
        asked = _members(body)
        if isinstance(asked, Refusal):
            return asked
        router, now = self._current(), time.monotonic()
        try:
            given = read_given(router.snapshot, asked["request"], asked["readings"], asked["rates"], asked["budgets"])
        except Mistake as mistake:
            return _unusable(mistake.message, mistake.hint)
        facts = given.facts
        if "at" not in asked["request"]:
            facts = msgspec.structs.replace(facts, at_s=time.time())
        readings, rates = self._seen(router.snapshot, given, now)
        funds = ChainMap({**given.funds}, cast("MutableMapping[str, Fund]", self._funds(now)))
        outlook = self._observations.outlook(facts, router.concerned(facts.model), readings, now)
        return explain(router, facts, readings, now, given.draw, rates, funds, outlook)

    def _seen(self, snapshot: Snapshot, given: Given, now: float) -> tuple[Readings, Rates]:
        """What is observed now, where nothing else is given."""
        candidates = snapshot.models.get(given.facts.model, ())
        readings = {**self._observations.read(candidates, now), **moved(given.readings, now - given.now)}
        return readings, limits.given(self._rates(now), given.rates)


def moved(readings: Readings, by_s: float) -> Readings:
    """The readings on a clock that is `by_s` ahead; a time of 0 is no time."""
    return {name: tuple(_moved(one, by_s) for one in pool) for name, pool in readings.items()}


def _moved(reading: Reading, by_s: float) -> Reading:
    times = {name: getattr(reading, name) for name in _TIMES}
    load = reading.load
    if load is not None and load.begun_at:
        load = msgspec.structs.replace(load, begun_at=load.begun_at + by_s)
    return msgspec.structs.replace(reading, load=load, **{name: at + by_s for name, at in times.items() if at})


async def read_body(request: Request, limit: int) -> bytes | Refusal:
    """The whole body, or why not."""
    chunks: list[bytes] = []
    size = 0
    with contextlib.suppress(ClientDisconnect):
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                return guard.too_large(limit)
            chunks.append(chunk)
    return b"".join(chunks)


def _members(body: bytes) -> dict[str, dict[str, object]] | Refusal:
    """The mappings of the body by name, empty where they are not given."""
    raw = guard.read_members(body)
    if isinstance(raw, Refusal):
        return raw
    found: dict[str, dict[str, object]] = {name: {} for name in _MEMBERS}
    for name, value in raw.items():
        if name not in found:
            return _unusable(f"unknown member `{name[:64]}`", did_you_mean(name, _MEMBERS))
        try:
            found[name] = _decode_mapping(value)
        except msgspec.ValidationError:
            return _unusable(f"`{name}` must be an object", 'write `{"request": {"model": "..."}}`')
    return found


def _unusable(message: str, hint: str) -> Refusal:
    said = f"{message} (hint: {hint})" if hint else message
    return Refusal(status=400, code="invalid_request", message=said, rule="request", retryable=False)
