"""A copy goes nowhere that the request itself could not, and never does a client get the bytes of two attempts.

The policies, the requests and the faults are those of `test_lawful`; every route hedges, and every attempt is late.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from msgspec import structs
from proxy.deadlines import Deadlines
from proxy.meters.buckets import Buckets
from proxy.policy.hedge import Hedge, Quantile
from proxy.policy.model import Snapshot
from proxy.relay import Relay
from proxy.routing.decide import Router
from proxy.routing.facts import Facts
from proxy.routing.plan import Attempt, Cause, Plan
from proxy.signals.hedging import Hedging
from proxy.signals.tracker import Tracker
from proxy.upstream.base import Call, Sink
from proxy.upstream.reckoning import TokensPerEvent
from tests.fuzz.test_lawful import (
    EXAMPLES,
    Caller,
    Ledger,
    Log,
    Network,
    Purse,
    Retries,
    allowed,
    served_as,
    traffic,
)
from tests.routing.oracle import lawful, route_of


class Hearing(Caller):
    """A client that remembers what it was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = b""

    def write(self, data: bytes) -> bool:
        self.heard += data
        return True

    def end(self, data: bytes = b"") -> None:
        self.heard += data
        super().end(data)


class Handle:
    """The handle on one exchange: nothing is heard of it once it was aborted, as of a real one."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.aborted = False

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def abort(self, closed: object = None) -> None:
        self.aborted = True

    def __getattr__(self, name: str) -> Any:
        return (lambda *_: None) if self.aborted else getattr(self.sink, name)


class LateNetwork(Network):
    """Answers nobody before the deadlines have looked at everything that is under way."""

    def __init__(self, faults: Iterator[str], client: Caller, deadlines: Deadlines) -> None:
        super().__init__(faults, client)
        self._deadlines = deadlines

    def open(self, attempt: Attempt, call: Call, sink: Sink) -> Handle:  # type: ignore[override]
        handle = Handle(sink)
        self.opened.append(attempt)
        asyncio.get_running_loop().call_soon(self._look, handle, call)
        return handle

    def _look(self, handle: Handle, call: Call) -> None:
        for watched in tuple(self._deadlines._watched):
            watched.check(time.monotonic() + 1)
        asyncio.get_running_loop().call_soon(self._play, next(self._faults), call, handle)


class Impatient(Hedging):
    """For whom everything is late."""

    def due_s(self, attempt: Attempt, after: Quantile) -> float:
        return 0.0


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as one:
        yield one


@settings(max_examples=EXAMPLES // 4, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=traffic())
def test_a_copy_is_as_lawful_as_the_request(runner: asyncio.Runner, case: Any) -> None:
    snapshots, asked, faults, purses = case
    played = (fault for _ in range(100) for fault in faults)
    for current, facts in asked:
        hedged = tuple(replace(route, hedge=Hedge(budget_share=1.0)) for route in snapshots[current].routes)
        snapshot = replace(snapshots[current], routes=hedged)
        runner.run(_serve(snapshot, structs.replace(facts, stream=True), played, purses[current]))


async def _serve(snapshot: Snapshot, facts: Facts, faults: Iterator[str], purse: Purse) -> None:
    client, log, deadlines = Hearing(), Log(), Deadlines()
    network = LateNetwork(faults, client, deadlines)
    relay = Relay(
        signals=Tracker(snapshot.targets.values(), lambda: 0.5),
        rates=Buckets(),
        budget=Retries(),
        meters=Ledger(),
        purse=purse,
        upstreams=network,  # type: ignore[arg-type]  # a network for each client
        per_event=TokensPerEvent(),
        telemetry=log,
        deadlines=deadlines,
    )
    relay._hedging = Impatient()
    call = Call(request_id=facts.request_id, endpoint=facts.endpoint, body={}, headers=[], stream=True)
    router = Router(snapshot)
    await relay.serve(router, facts, call, client, 0.0)
    route = route_of(snapshot, facts)
    assert route is not None
    (record,) = log.records
    served = served_as(facts, record.decision)
    assert all(
        lawful(one.target, route, facts) and allowed(router, served, purse, one.target) for one in network.opened
    )
    places = [(one.target.name, one.replica) for one in network.opened]
    assert len(set(places)) == len(places) == len(record.outcomes)
    copied = [one for one in network.opened if one.cause is Cause.HEDGE]
    assert len(copied) <= 1
    if copied:
        assert isinstance(record.decision, Plan)
        assert copied[0].target.name != record.decision.attempts[0].target.name
        assert (copied[0].target.name, copied[0].replica) in {
            (one.target.name, one.replica) for one in record.decision.attempts
        }
    assert sum(one.committed for one in record.outcomes) <= 1
    assert client.heard.count(b'"content":"hi"') <= 1
    assert client.left or client.refused is not None or client.ended
