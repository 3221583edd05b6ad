"""What the relay needs of the edges that are plugged into it: they do not know it, nor each other."""

from __future__ import annotations

from typing import Any, Protocol

from proxy.caller import FixedHeaders
from proxy.meters.hold import Hold, Spent
from proxy.policy.model import Budget, Candidate, Lane, Target
from proxy.routing.charge import Charge
from proxy.routing.facts import Facts
from proxy.routing.outcome import Outcome
from proxy.routing.plan import Attempt, Decision, Refusal
from proxy.routing.readings import Funds, Outlook, Rates, Readings
from proxy.routing.wanted import Wanted
from proxy.telemetry.records import Record
from proxy.upstream.base import Call, RawHeaders, Upstream


class Signals(Protocol):
    """What this process observes of its targets."""

    def read(self, candidates: tuple[Candidate, ...], now: float) -> Readings: ...

    def outlook(self, facts: Facts, candidates: tuple[Candidate, ...], readings: Readings, now: float) -> Outlook: ...

    def wanted(self, wanted: Wanted, now: float) -> None: ...

    def begin(self, attempt: Attempt, facts: Facts, now: float) -> Any: ...

    def listens(self, begun: Any) -> bool: ...

    def hear(self, begun: Any, status: int, headers: RawHeaders, now: float, wall_time: float) -> None: ...

    def first(self, begun: Any, now: float) -> None: ...

    def feed(self, begun: Any, outcome: Outcome, now: float) -> None: ...

    def admits(self, attempt: Attempt, now: float) -> bool: ...

    def refused(self, refusal: Refusal, now: float) -> None: ...


class Unmet(Protocol):
    """Who is told what dedicated targets could not take."""

    def left(self, decision: Decision, facts: Facts, now: float) -> None: ...

    def failed(self, facts: Facts, outcome: Outcome, now: float) -> None: ...


class RateLimits(Protocol):
    """What the rates of tenants, keys and routes leave, and who has taken of it."""

    def rates(self, now: float) -> Rates: ...

    def admit(self, scopes: tuple[str, ...], tokens: int, now: float) -> Any: ...

    def settle(self, admitted: Any, tokens: int, now: float) -> None: ...

    def missed(self, scopes: tuple[str, ...], tokens: int, now: float) -> None: ...

    def headers(self, scopes: tuple[str, ...], now: float, *, refused_tokens: int | None = None) -> FixedHeaders: ...


class RetryBudget(Protocol):
    """How many failures may be tried elsewhere."""

    def deposit(self, now: float) -> None: ...

    def withdraw(self, now: float) -> bool: ...


class Meters(Protocol):
    """Where money is counted. What `begin` returns is wanted back by the others."""

    def begin(self, facts: Facts, route: str, attempt: Attempt) -> int: ...

    def progress(self, begun: int, output_tokens: int) -> None: ...

    def settle(self, facts: Facts, route: str, outcome: Outcome, begun: int) -> Charge: ...


class Purse(Protocol):
    """Where budgets are asked before money is spent, and told how much it was."""

    def funds(self, now: float) -> Funds: ...

    def open(self, covering: tuple[Budget, ...], attempt: Attempt, facts: Facts, now: float) -> Hold | Spent | None: ...

    def missed(self, budget: str, target: Target, facts: Facts) -> None: ...

    def observe(self, facts: Facts, outcome: Outcome) -> None: ...


class Telemetry(Protocol):
    """Who is told, once per request, whatever became of it; and how long it took to be rid of an unwanted attempt."""

    def record(self, record: Record) -> None: ...

    def cancelled(self, lane: Lane, seconds: float) -> None: ...


class Upstreams(Protocol):
    """Which upstream speaks to a target for an endpoint."""

    def of(self, attempt: Attempt, call: Call) -> Upstream: ...
