"""No byte outside the lawful set, whatever the policy, the requests, the order of faults and the reloads in between.

The relay, the tracker with its breakers, and the router are the real ones; only the network is played. An upstream that
is opened has been sent the prompt, so what is opened is what is judged, by gates that are written out again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs
from proxy.caller import FixedHeaders
from proxy.deadlines import Deadlines
from proxy.forward import Forward
from proxy.meters.buckets import Buckets
from proxy.meters.charge import charge_of
from proxy.meters.hold import Spent
from proxy.policy.model import Budget, Enforce, Route, Rules, Snapshot, Target
from proxy.relay import Relay
from proxy.routing.charge import Charge
from proxy.routing.decide import Router
from proxy.routing.facts import Facts
from proxy.routing.outcome import Outcome
from proxy.routing.plan import Attempt, Decision, Plan, Refusal
from proxy.routing.readings import Funds
from proxy.signals.tracker import Tracker
from proxy.telemetry.records import Record
from proxy.upstream.base import Call, Head, RawHeaders, Sink
from proxy.upstream.errors import ConnectFailed, ConnectionBroken
from proxy.upstream.reckoning import TokensPerEvent
from tests.routing import policies
from tests.routing.oracle import lawful, route_of

EXAMPLES = int(os.environ.get("SPILLWAY_TEST_EXAMPLES", "10000"))
SSE = [(b"content-type", b"text/event-stream")]
CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
REPLY = b'{"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'


class Caller:
    """A client that takes everything, or has left."""

    def __init__(self) -> None:
        self.listener: Forward | None = None
        self.started = self.left = False
        self.refused: Refusal | None = None
        self.ended = False

    def start(self, status: int, headers: RawHeaders, fixed: FixedHeaders = ()) -> None:
        self.started = True

    def write(self, data: bytes) -> bool:
        return True

    def end(self, data: bytes = b"") -> None:
        self.ended = True

    def ping(self) -> None: ...

    def refuse(self, refusal: Refusal) -> None:
        self.refused = refusal


class Exchange:
    """The handle on a played exchange."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def abort(self, closed: object = None) -> None: ...


class Network:
    """Plays one fault after the other, to whatever is opened, and remembers what was."""

    def __init__(self, faults: Iterator[str], client: Caller) -> None:
        self._faults = faults
        self._client = client
        self.opened: list[Attempt] = []

    def of(self, attempt: Attempt, call: Call) -> Network:
        return self

    def open(self, attempt: Attempt, call: Call, sink: Sink) -> Exchange:
        self.opened.append(attempt)
        asyncio.get_running_loop().call_soon(self._play, next(self._faults), call, sink)
        return Exchange()

    async def aclose(self) -> None: ...

    def _play(self, fault: str, call: Call, sink: Sink) -> None:
        match fault:
            case "refused":
                sink.on_failure(ConnectFailed("refused"))
            case "reset":
                sink.on_head(Head(200, SSE if call.stream else []))
                sink.on_failure(ConnectionBroken("reset"))
            case "reset late":
                sink.on_head(Head(200, SSE if call.stream else []))
                sink.on_data(CHUNK if call.stream else REPLY[:5])
                sink.on_failure(ConnectionBroken("reset"))
            case "left":
                self._client.left = True
                assert self._client.listener is not None
                self._client.listener.on_client_left()
            case "served":
                sink.on_head(Head(200, SSE if call.stream else []))
                sink.on_data(CHUNK + b"data: [DONE]\n\n" if call.stream else REPLY)
                sink.on_end()
            case status:
                sink.on_head(Head(int(status), [(b"retry-after", b"1")]))
                sink.on_data(b"{}")
                sink.on_end()


class Retries:
    """Lets every retry be tried."""

    def deposit(self, now: float) -> None: ...

    def withdraw(self, now: float) -> bool:
        return True


class Ledger:
    """Prices attempts and keeps nothing."""

    def begin(self, facts: Facts, route: str, attempt: Attempt) -> int:
        return -1

    def progress(self, begun: int, output_tokens: int) -> None: ...

    def settle(self, facts: Facts, route: str, outcome: Outcome, begun: int) -> Charge:
        return charge_of(outcome)


class Purse:
    """Budgets as they were drawn, of which some turn out to be empty only when money is to be set aside."""

    def __init__(self, funds: Funds, hollow: frozenset[str]) -> None:
        self._funds = funds
        self._hollow = hollow

    def funds(self, now: float) -> Funds:
        return self._funds

    def open(self, covering: tuple[Budget, ...], attempt: Attempt, facts: Facts, now: float) -> Spent | None:
        paying = (one.name for one in covering if one.pays_for(attempt.target) and one.name in self._hollow)
        return next((Spent(name) for name in paying), None)

    def missed(self, budget: str, target: Target, facts: Facts) -> None: ...

    def observe(self, facts: Facts, outcome: Outcome) -> None: ...


class Log:
    """The records of what was served."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def record(self, record: Record) -> None:
        self.records.append(record)

    def cancelled(self, *given: object) -> None: ...


FAULTS = ("served", "429", "500", "503", "401", "400", "302", "refused", "reset", "reset late", "left")


@st.composite
def traffic(draw: st.DrawFn) -> tuple[list[Snapshot], list[tuple[int, Facts]], list[str], list[Purse]]:
    """One or two policies, requests each with the policy that is current then, the faults that they meet, and by policy
    what its budgets have.
    """
    snapshots = draw(st.lists(st.one_of(policies.snapshots(), policies.budgeted()), min_size=1, max_size=2))
    purses = [_purse(snapshot, draw) for snapshot in snapshots]
    asked = draw(st.lists(policies.requests, min_size=1, max_size=4))
    current = [draw(st.integers(0, len(snapshots) - 1)) for _ in asked]
    faults = draw(st.lists(st.sampled_from(FAULTS), min_size=1, max_size=8))
    return snapshots, list(zip(current, asked, strict=True)), faults, purses


def _purse(snapshot: Snapshot, draw: st.DrawFn) -> Purse:
    funds = draw(policies.funds_of(snapshot))
    binding = [one.name for one in snapshot.budgets if one.enforce is not Enforce.SHADOW and one.name in funds]
    return Purse(funds, frozenset(name for name in binding if draw(st.booleans())))


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as one:
        yield one


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=traffic())
def test_nothing_is_ever_sent_outside_the_lawful_set(runner: asyncio.Runner, case: Any) -> None:
    runner.run(_serve_all(*case))


async def _serve_all(
    snapshots: list[Snapshot], asked: list[tuple[int, Facts]], faults: list[str], purses: list[Purse]
) -> None:
    tracker = Tracker(snapshots[0].targets.values(), lambda: 0.5)
    played = (fault for _ in range(100) for fault in faults)
    for current, facts in asked:
        snapshot = snapshots[current]
        tracker.adopt(snapshot.targets.values())
        await _serve(snapshot, tracker, facts, played, purses[current])


async def _serve(snapshot: Snapshot, tracker: Tracker, facts: Facts, faults: Iterator[str], purse: Purse) -> None:
    client, log = Caller(), Log()
    network = Network(faults, client)
    relay = Relay(
        signals=tracker,
        rates=Buckets(),
        budget=Retries(),
        meters=Ledger(),
        purse=purse,
        upstreams=network,  # type: ignore[arg-type]  # a network for each client
        per_event=TokensPerEvent(),
        telemetry=log,
        deadlines=Deadlines(),
    )
    call = Call(request_id=facts.request_id, endpoint=facts.endpoint, body={}, headers=[], stream=facts.stream)
    router = Router(snapshot)
    await relay.serve(router, facts, call, client, 0.0)
    route = route_of(snapshot, facts)
    assert route is not None
    assert all(lawful(attempt.target, route, facts) for attempt in network.opened)
    served = served_as(facts, log.records[0].decision)
    assert all(allowed(router, served, purse, attempt.target) for attempt in network.opened)
    assert all(attempt.target is snapshot.targets[attempt.target.name] for attempt in network.opened)
    (record,) = log.records
    assert [outcome.attempt.target.name for outcome in record.outcomes] == [one.target.name for one in network.opened]
    if isinstance(record.decision, Plan):
        planned = [(attempt.target.name, attempt.replica) for attempt in record.decision.attempts]
        assert [(one.target.name, one.replica) for one in network.opened] == [
            place for place in planned if place in {(one.target.name, one.replica) for one in network.opened}
        ]
    else:
        assert network.opened == []
    assert client.left or client.refused is not None or client.ended


def served_as(facts: Facts, decision: Decision) -> Facts:
    """The request as it was served: as another model, perhaps."""
    model = decision.served_as if isinstance(decision, Plan) else None
    return facts if model is None else structs.replace(facts, model=model)


def allowed(router: Router, served: Facts, purse: Purse, target: Target) -> bool:
    """Whether the target is lawful for what was served, and no budget without money pays for it."""
    route = route_of(router.snapshot, served)
    assert route is not None
    covering = router.budgets_of(served, route.name)
    binding = [one for one in covering if one.enforce is not Enforce.SHADOW and one.pays_for(target)]
    funds = purse.funds(0.0)
    spent = [one.name for one in binding if one.name in funds and funds[one.name].free_nano_usd <= 0]
    return lawful(target, route, served) and not spent


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_want_never_beats_a_requirement(data: st.DataObject) -> None:
    """Whatever is wanted, and however much of it, the same targets are lawful and the rest is refused alike."""
    policy = data.draw(policies.snapshots())
    facts, observed = data.draw(policies.requests), data.draw(policies.readings_of(policy))
    wanted = tuple(replace(route, want=data.draw(policies.some_rules)) for route in policy.routes)
    plain = tuple(replace(route, want=Rules()) for route in policy.routes)
    with_wants = Router(replace(policy, routes=wanted)).decide(facts, observed, policies.NOW, 0.5)
    without = Router(replace(policy, routes=plain)).decide(facts, observed, policies.NOW, 0.5)
    assert type(with_wants) is type(without)
    if isinstance(with_wants, Plan) and isinstance(without, Plan):
        assert sorted(_places(with_wants)) == sorted(_places(without))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_adding_a_gate_never_adds_a_target(data: st.DataObject) -> None:
    """One more requirement on any route: no request gets a target that it did not have before."""
    policy = data.draw(policies.snapshots())
    facts, observed = data.draw(policies.requests), data.draw(policies.readings_of(policy))
    name, value = data.draw(policies.single_rules)
    place = data.draw(st.integers(0, len(policy.routes) - 1))
    routes = [_gated(route, name, value) if n == place else route for n, route in enumerate(policy.routes)]
    before = Router(policy).decide(facts, observed, policies.NOW, 0.5)
    after = Router(replace(policy, routes=tuple(routes))).decide(facts, observed, policies.NOW, 0.5)
    allowed = set(_places(before)) if isinstance(before, Plan) else set()
    # Of several replicas the least loaded able one comes first: a gate on measurements may bring the next one in.
    targets = {target for target, _ in allowed}
    assert {target for target, _ in (_places(after) if isinstance(after, Plan) else ())} <= targets


def _gated(route: Route, name: str, value: object) -> Route:
    present = getattr(route.require, name)
    return route if present else replace(route, require=replace(route.require, **{name: value}))


def _places(plan: Plan) -> list[tuple[str, int]]:
    return [(attempt.target.name, attempt.replica) for attempt in plan.attempts]


def test_the_played_network_can_be_caught_lying() -> None:
    """The judge of these properties sees a violation when there is one."""
    target = policies.shared(region="us")
    route = Route(name="r", require=Rules(regions=("eu-*",)))
    assert not lawful(target, route, policies.facts())
    assert lawful(replace(target, region="eu-1"), route, policies.facts())
