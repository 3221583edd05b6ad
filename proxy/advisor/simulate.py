"""A trace replayed through the router itself: the same decisions as when serving, on a clock of its own.

Theory of operation
-------------------
Discrete events. An arrival is decided by `Router.decide` from what `signals/` have seen so far; the attempt is begun,
its first token told and its outcome fed, exactly as the relay does it, and the engines and APIs of `world.py` stand in
for those of the policy. Nothing here knows more than a proxy would: answer lengths, true profiles and outages are only
known to the world.

Several proxies take arrivals in turn and hear of one another's work at the period of the sync. A client that is refused
does not come back.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from heapq import heappop, heappush
from math import inf, nan
from random import Random
from typing import Any, NamedTuple

import numpy as np

from proxy.advisor.fleet import with_replicas
from proxy.advisor.replayed import MIN_PACE_TOKENS, REFUSED, Replayed
from proxy.advisor.scenario import DEFAULT_SPEED, PLAIN, Scenario
from proxy.advisor.trace import App, Trace
from proxy.advisor.world import Engine, SharedApi
from proxy.policy.model import Candidate, Key, Lane, Snapshot, Tenant
from proxy.routing.cost import plain_nano_usd
from proxy.routing.decide import Router
from proxy.routing.facts import Facts
from proxy.routing.outcome import Failure, Outcome, Usage
from proxy.routing.plan import Attempt, Cause, Plan, Refusal
from proxy.routing.predict import Aims, aims
from proxy.signals.tracker import Tracker

PROGRESS_EVERY = 2048
UNREACHABLE_S = 0.05
"""How long a provider that is down takes to say so."""
STEP, SHARED_END, SYNC = range(3)
Progress = Callable[[int], None]
Heard = Callable[[Attempt, float], None]  # every first token of an engine, and after how many seconds it came


class Kind(NamedTuple):
    """What the requests of one app look like to the router."""

    tenant: Tenant
    key: Key
    model: str
    app: App
    candidates: tuple[Candidate, ...]


class Flight:
    """One request on its way: which attempt serves it, and what its proxy wants back of it."""

    __slots__ = ("attempt", "begun", "facts", "first_s", "proxy", "started_s")

    def __init__(self, facts: Facts, attempt: Attempt, proxy: Tracker, started_s: float) -> None:
        self.facts = facts
        self.attempt = attempt
        self.proxy = proxy
        self.started_s = started_s
        self.first_s = 0.0
        self.begun = proxy.begin(attempt, facts, started_s)


class Simulation:
    """One replay under way. `run()` it once."""

    def __init__(
        self,
        trace: Trace,
        snapshot: Snapshot,
        *,
        scenario: Scenario = PLAIN,
        seed: int = 0,
        router: Router | None = None,
        policy: str = "policy",
        heard: Heard | None = None,
    ) -> None:
        self._trace = trace
        self._snapshot = snapshot
        self._scenario = scenario
        self._policy = policy
        self._heard = heard
        self._router = Router(snapshot) if router is None else router
        random = Random(seed)  # noqa: S311  (ties and latencies, not secrets)
        self._draw = random.random
        self._proxies = [
            Tracker(snapshot.targets.values(), random.random, block_tokens=trace.block_tokens)
            for _ in range(scenario.proxies)
        ]
        self._engines = {
            target.name: [Engine(target, index, scenario) for index in range(target.replicas)]
            for target in snapshot.targets.values()
            if target.lane is Lane.DEDICATED
        }
        self._shared = {
            name: SharedApi(scenario.shared.get(name, DEFAULT_SPEED), scenario, Random(f"{seed}/{name}"))  # noqa: S311
            for name, target in snapshot.targets.items()
            if target.lane is Lane.SHARED
        }
        self._events: list[tuple[float, int, int, Any]] = []
        self._serial = 0
        self._flights: dict[int, Flight] = {}
        self._kinds = [_kind(app, snapshot) for app in trace.apps]
        self._names = tuple(snapshot.targets)
        self._place = {name: index for index, name in enumerate(self._names)}
        self._reasons: dict[str, int] = {}
        self._routes = {route.name: index for index, route in enumerate(snapshot.routes)}
        self._apps: list[int] = trace.app.tolist()
        self._input: list[int] = trace.input_tokens.tolist()
        self._output: list[int] = trace.output_tokens.tolist()
        self._began_at_s = trace.began_at_s or 0.0
        self._columns = _Columns(len(trace))

    def run(self, progress: Progress | None = None) -> Replayed:
        """Replay every request, and let the last of them end."""
        began = time.perf_counter()
        if len(self._proxies) > 1:
            self._push(self._scenario.sync_s, SYNC, None)
        with _uncollected():
            self._play(self._trace.arrival_s.tolist(), progress)
        return self._replayed(time.perf_counter() - began)

    def _play(self, arrivals: list[float], progress: Progress | None) -> None:
        events = self._events
        for request, arrival_s in enumerate(arrivals):
            while events and events[0][0] <= arrival_s:
                self._happen(arrival_s)
            following = arrivals[request + 1] if request + 1 < len(arrivals) else inf
            self._arrive(request, arrival_s, following)
            if progress is not None and request % PROGRESS_EVERY == 0:
                progress(request)
        while self._flights:
            self._happen(inf)

    def _push(self, at_s: float, kind: int, what: Any) -> None:
        self._serial += 1
        heappush(self._events, (at_s, self._serial, kind, what))

    def _happen(self, until_s: float) -> None:
        """The next event; nothing else arrives before `until_s`."""
        now, _, kind, what = heappop(self._events)
        if kind == STEP:
            self._step_ended(what, now, until_s)
        elif kind == SHARED_END:
            self._ended(what, now)
        else:
            self._sync(now)

    def _arrive(self, request: int, now: float, following_s: float) -> None:
        kind, proxy = self._kinds[self._apps[request]], self._proxies[request % len(self._proxies)]
        trace, app, columns = self._trace, kind.app, self._columns
        facts = Facts(
            request_id="",
            tenant=kind.tenant,
            key=kind.key,
            model=kind.model,
            endpoint=app.endpoint,
            stream=app.stream,
            traffic=app.traffic,
            tags=app.tags,
            priority=kind.tenant.priority if app.priority is None else app.priority,
            input_tokens=self._input[request],
            max_output_tokens=self._output[request] if self._scenario.lengths_told else None,
            prefix=() if trace.prefix is None else trace.prefix[request],
            at_s=self._began_at_s + now,
        )
        readings = proxy.read(kind.candidates, now)
        outlook = proxy.outlook(facts, kind.candidates, readings, now)
        wanted = self._router.wanted(facts, outlook)
        if wanted is not None:
            proxy.wanted(wanted, now)
        decision = self._router.decide(facts, readings, now, self._draw(), outlook=outlook)
        columns.route[request] = self._routes.get(decision.route, REFUSED)
        if isinstance(decision, Refusal):
            proxy.refused(decision, now)
            columns.reason[request] = self._reason(decision.rule)
            return
        served = self._walk(request, facts, decision, proxy, now, following_s)
        if served is None:
            columns.reason[request] = self._reason("nobody answered")
            return
        columns.target[request] = self._place[served.target.name]
        columns.spilled[request] = served.cause is not Cause.PREFERRED and served.target.lane is Lane.SHARED
        columns.reason[request] = self._reason(_rule_of(decision, served))

    def _walk(
        self, request: int, facts: Facts, plan: Plan, proxy: Tracker, now: float, following_s: float
    ) -> Attempt | None:
        """Try the plan's attempts as the relay does; the one that serves, if any."""
        failovers, last = 0, None
        for attempt in plan.attempts:
            if last is not None and not proxy.admits(attempt, now):
                continue
            if last is not None and last is not Failure.FULL:
                if failovers >= plan.max_failovers:
                    return None
                failovers += 1
            flight = Flight(facts, attempt, proxy, now)
            if attempt.target.lane is Lane.DEDICATED:
                last = self._to_engine(request, flight, now, following_s)
            else:
                last = self._to_shared(request, flight, now)
            if last is None:
                return attempt
            proxy.feed(flight.begun, _failed(attempt, last), now)
        return None

    def _to_engine(self, request: int, flight: Flight, now: float, following_s: float) -> Failure | None:
        attempt, trace = flight.attempt, self._trace
        engine = self._engines[attempt.target.name][attempt.replica]
        hit_tokens = 0
        if trace.prefix is not None and self._scenario.cache_ttl_s:
            hit_tokens = engine.cached(trace.prefix[request], trace.block_tokens, now)
        if not engine.submit(request, self._input[request], self._output[request], hit_tokens):
            return Failure.FULL
        self._flights[request] = flight
        if engine.running is None:
            self._start(engine, now, following_s)
        return None

    def _to_shared(self, request: int, flight: Flight, now: float) -> Failure | None:
        target, output_tokens = flight.attempt.target, self._output[request]
        api = self._shared[target.name]
        if api.is_down(now):
            return Failure.CONNECT
        if not api.admits(self._input[request] + output_tokens, now):
            return Failure.FULL
        flight.first_s = ttft_s = api.ttft_s()
        columns = self._columns
        columns.ttft_s[request] = ttft_s
        columns.pace_s[request] = (output_tokens - 1) / api.tokens_per_s / max(output_tokens - 1, MIN_PACE_TOKENS)
        columns.e2e_s[request] = e2e_s = ttft_s + (output_tokens - 1) / api.tokens_per_s
        if target.price is not None:
            columns.nano_usd[request] = plain_nano_usd(target.price, self._input[request], output_tokens)
        self._flights[request] = flight
        self._push(now + e2e_s, SHARED_END, request)
        return None

    def _start(self, engine: Engine, now: float, until_s: float) -> None:
        end_s = engine.start(now, until_s)
        if end_s is not None:
            self._push(end_s, STEP, engine)

    def _step_ended(self, engine: Engine, now: float, until_s: float) -> None:
        step = engine.running
        assert step is not None
        for request in step.first:
            flight = self._flights[request]
            flight.first_s = now
            flight.proxy.first(flight.begun, now)
            if self._heard is not None:
                self._heard(flight.attempt, now - flight.started_s)
        for request in step.finished:
            self._ended(request, now)
        self._start(engine, now, until_s)

    def _ended(self, request: int, now: float) -> None:
        """A request has had its last token."""
        flight, output_tokens = self._flights.pop(request), self._output[request]
        columns, facts, attempt = self._columns, flight.facts, flight.attempt
        total_s = now - flight.started_s
        if attempt.target.lane is Lane.DEDICATED:
            ttft_s, decode_s = flight.first_s - flight.started_s, now - flight.first_s
            columns.ttft_s[request] = ttft_s
            columns.pace_s[request] = decode_s / max(output_tokens - 1, MIN_PACE_TOKENS)
            columns.e2e_s[request] = total_s
        else:
            ttft_s = flight.first_s
            decode_s = total_s - ttft_s
        outcome = Outcome(
            attempt=attempt,
            status=200,
            failure=None,
            committed=True,
            total_s=total_s,
            ttft_s=ttft_s,
            itl_s=decode_s / (output_tokens - 1) if output_tokens > 2 else None,
            usage=Usage(input_tokens=facts.input_tokens, output_tokens=output_tokens),
        )
        flight.proxy.feed(flight.begun, outcome, now)

    def _sync(self, now: float) -> None:
        """Every proxy hears what the others have on each replica."""
        told = [proxy.gauges(now) for proxy in self._proxies]
        totals: dict[str, int] = {}
        for gauges in told:
            for name, value in gauges.items():
                totals[name] = totals.get(name, 0) + value
        for proxy, own in zip(self._proxies, told, strict=True):
            proxy.absorb({name: value - own.get(name, 0) for name, value in totals.items()}, now)
        if now < self._trace.arrival_s[-1]:
            self._push(now + self._scenario.sync_s, SYNC, None)

    def _reason(self, text: str) -> int:
        return self._reasons.setdefault(text, len(self._reasons))

    def _replayed(self, wall_s: float) -> Replayed:
        snapshot, trace, columns = self._snapshot, self._trace, self._columns
        replicas = {name: len(engines) for name, engines in self._engines.items()}
        rates = [(snapshot.targets[name].gpus, count) for name, count in replicas.items()]
        hourly = sum(gpus.rate(count, self._began_at_s) for gpus, count in rates if gpus is not None)
        wants = [aims(route.require, route.want) for route in snapshot.routes] or [Aims()]
        ttft_aims = np.array([one.ttft_s if one.stated else inf for one in wants], dtype=np.float32)
        pace_aims = np.array([one.itl_s for one in wants], dtype=np.float32)
        route = np.array(columns.route, dtype=np.int16)
        return Replayed(
            trace=trace,
            policy=self._policy,
            replicas=replicas,
            targets=self._names,
            routes=tuple(self._routes),
            reasons=tuple(self._reasons),
            target=np.array(columns.target, dtype=np.int16),
            route=route,
            reason=np.array(columns.reason, dtype=np.int16),
            spilled=np.array(columns.spilled, dtype=np.bool_),
            ttft_s=np.array(columns.ttft_s, dtype=np.float32),
            pace_s=np.array(columns.pace_s, dtype=np.float32),
            e2e_s=np.array(columns.e2e_s, dtype=np.float32),
            nano_usd=np.array(columns.nano_usd, dtype=np.int64),
            ttft_objective_s=ttft_aims[route],
            pace_objective_s=pace_aims[route],
            gpu_nano_usd=round(hourly * trace.span_s / 3600),
            wall_s=wall_s,
        )


class _Columns:
    """What is written of each request while the replay runs."""

    __slots__ = ("e2e_s", "nano_usd", "pace_s", "reason", "route", "spilled", "target", "ttft_s")

    def __init__(self, count: int) -> None:
        self.target = [REFUSED] * count
        self.route = [0] * count
        self.reason = [0] * count
        self.spilled = [False] * count
        self.ttft_s = [nan] * count
        self.pace_s = [nan] * count
        self.e2e_s = [nan] * count
        self.nano_usd = [0] * count


@contextmanager
def _uncollected() -> Iterator[None]:
    """A replay makes no cycles: looking for some in all that it holds takes a tenth of its time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def simulate(
    trace: Trace,
    snapshot: Snapshot,
    *,
    replicas: Mapping[str, int] | None = None,
    scenario: Scenario = PLAIN,
    seed: int = 0,
    policy: str = "policy",
    progress: Progress | None = None,
) -> Replayed:
    """Replay `trace` under `snapshot`, with so many `replicas` of its dedicated targets where that is told."""
    fleet = snapshot if replicas is None else with_replicas(snapshot, replicas)
    simulation = Simulation(trace, fleet, scenario=scenario, seed=seed, router=Router(fleet), policy=policy)
    return simulation.run(progress)


def _kind(app: App, snapshot: Snapshot) -> Kind:
    tenant = snapshot.tenants.get(app.tenant) or Tenant(name=app.tenant or app.name, request_tags=None)
    named = (key for key in snapshot.keys.values() if key.name == app.key and key.tenant is tenant)
    key = next(named, Key(tenant=tenant, tags=tenant.tags))
    model = app.model if app.model in snapshot.models else next(iter(snapshot.models))
    return Kind(tenant, key, model, replace(app, tags=app.tags | key.tags), snapshot.models[model])


def _failed(attempt: Attempt, failure: Failure) -> Outcome:
    status = 503 if failure is Failure.FULL else None
    return Outcome(attempt=attempt, status=status, failure=failure, committed=False, total_s=UNREACHABLE_S)


def _rule_of(plan: Plan, served: Attempt) -> str:
    """Under which rule the request came where it was served, for counting."""
    if served.cause is Cause.SPILLOVER and served.ordinal == 0:
        return next((one.rule for one in plan.excluded if not one.hard), "spillover")
    return served.cause.value
