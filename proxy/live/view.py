"""The live view: what `GET /admin/live` answers, as JSON or once a second as an event.

Theory of operation
-------------------
Values for people to look at; nothing is decided by them. Whatever is not known is null, never 0. Money is nano-USD,
durations are seconds, times are Unix time, shares lie between 0 and 1.

Two kinds of numbers stand side by side. What ends in `_here`, and whatever is in a struct whose name ends so, is of
this one process: its own requests, latencies and decisions. The rest is of all proxies together: money and budgets as
the store has them, requests in flight as last heard from the others. Breakers and factors are this process's own
judgement, which is what it decides by.

Names and texts come from the policy, from upstreams and, where they say so, from callers: show them as text.
"""

from __future__ import annotations

import msgspec

from proxy.meters.standing import State
from proxy.policy.model import Enforce, Lane, Per, Prefer
from proxy.policy.status import PolicyStatus
from proxy.routing.plan import Exclusion
from proxy.routing.readings import Breaker

FORMAT = 1
OUTCOMES = ("ok", "failed", "refused", "client_left")


class Spread(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Percentiles of a duration in seconds, of the last `samples` requests; all null while there are too few."""

    samples: int = 0
    p50_s: float | None = None
    p95_s: float | None = None
    p99_s: float | None = None


class LatencyHere(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What clients of this process saw lately: the first token, the mean gap between tokens, the whole reply."""

    ttft: Spread = Spread()
    itl: Spread = Spread()
    e2e: Spread = Spread()


class ReplicaView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One replica of a target. `host` is host:port, without path or credentials; empty where LiteLLM knows the way.

    `in_flight` is of all proxies as last heard, and so is its work: `waiting` requests for their first token with
    `queued_prompt_tokens` sent, and `decoding` streams; null for shared targets. `saturation` is the most used of what
    bounds it, 1 is full (`saturated_by` names it: `in_flight`, `kv`, `ttft` or `itl`); null where nothing is known to
    bound it. `breaker` is `closed` (serves), `half_open` or `open` (does not, for `open_for_s` more); `full_for_s` is
    how long it is still believed to be full. The factors are P90 of observed over predicted, from `samples`; `warmth`
    grows to 1 after it appeared. What its engine says of itself, `engine_age_s` ago: `kv_use`, `engine_running` and
    `engine_waiting`; `trouble` is why that cannot be read.
    """

    replica: int
    host: str
    in_flight: int
    breaker: Breaker
    open_for_s: float | None = None
    full_for_s: float | None = None
    saturation: float | None = None
    saturated_by: str = ""
    waiting: int | None = None
    queued_prompt_tokens: int | None = None
    decoding: int | None = None
    context_tokens: int | None = None
    ttft_factor: float | None = None
    itl_factor: float | None = None
    samples: int | None = None
    warmth: float | None = None
    kv_use: float | None = None
    engine_running: int | None = None
    engine_waiting: int | None = None
    engine_age_s: float | None = None
    trouble: str = ""
    uptime_here: float | None = None


class TargetMoney(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One target's money over the last `MoneyView.recent_s`, of all proxies.

    `nano_usd_per_h` is token spend for a shared target, the price of the provisioned GPUs for a dedicated one;
    `nano_usd_per_mtok` the same by its tokens. Of a dedicated target: what those tokens would have cost at
    `shared_target` (the break-even line), what is saved an hour (below zero: the GPUs cost more), the idle share.
    """

    nano_usd_per_h: float | None = None
    nano_usd_per_mtok: int | None = None
    shared_target: str | None = None
    shared_nano_usd_per_mtok: int | None = None
    saving_nano_usd_per_h: float | None = None
    idle_share: float | None = None
    gpus: float | None = None


class FoundView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How it stands with the pods of a target whose replicas are found (`dns`, `kubernetes`).

    `up` says that the DNS or the API server answers, which last confirmed what is known `age_s` ago; null before it
    ever did. `unready` and `terminating` count pods that are not ready, or leave. `trouble` is what is wrong, in words.
    """

    up: bool
    age_s: float | None = None
    unready: int = 0
    terminating: int = 0
    trouble: str = ""


class TargetView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One target of the policy. `runs_on` is the engine of a dedicated one, the provider of a shared one.

    `in_flight` and `waiting` are sums over its replicas, `saturation` is that of the least used replica that serves:
    at 1 there is no room. `breaker` is `closed` if any replica serves, else `half_open` if any is being tried, else
    `open`; null without a replica. `replicas_serving` counts those that are not open. `gpus` is per replica, such as
    `4 x H100`. `max_in_flight` is per replica. Rates are over the last `LiveView.rates_s`. `found` is null where
    the policy itself says what the replicas are.
    """

    name: str
    lane: Lane
    model: str
    region: str
    runs_on: str
    gpus: str = ""
    max_in_flight: int | None = None
    in_flight: int = 0
    waiting: int | None = None
    saturation: float | None = None
    breaker: Breaker | None = None
    replicas_serving: int = 0
    replicas: tuple[ReplicaView, ...] = ()
    uptime_here: float | None = None
    latency_here: LatencyHere = LatencyHere()
    requests_per_s_here: float = 0.0
    input_tokens_per_s_here: float = 0.0
    output_tokens_per_s_here: float = 0.0
    failures_per_s_here: float = 0.0
    quota: str = ""
    money: TargetMoney | None = None
    found: FoundView | None = None


class ObjectiveHere(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One objective of a route, such as `ttft_p99`, and the same percentile as observed lately on the route.

    `required` says that it is a `require`, not a `want`. `met` is null while too little was observed.
    """

    rule: str
    limit_s: float
    observed_s: float | None = None
    met: bool | None = None
    required: bool = False
    samples: int = 0


class RouteView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One route of the policy. Counts and shares are of the last `LiveView.shares_s` of this process.

    All shares are of the requests that were sent to some target, null when there was none. `spilled_by_here` counts
    spilled requests by the rule that kept them from their dedicated target, most first; `refused_by_here` likewise
    those that were refused.
    """

    name: str
    prefer: Prefer
    objectives: tuple[ObjectiveHere, ...] = ()
    latency_here: LatencyHere = LatencyHere()
    uptime_here: float | None = None
    requests_per_s_here: float = 0.0
    requests_here: int = 0
    failed_here: int = 0
    refused_here: int = 0
    dedicated_share_here: float | None = None
    shared_share_here: float | None = None
    spill_share_here: float | None = None
    spilled_by_here: dict[str, int] = {}
    refused_by_here: dict[str, int] = {}


class DecisionHere(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request that has ended at `at`; never content, never a key.

    `request_id` and `model` are as the caller gave them, cut off where they are long; `tenant` is the policy's name.
    `lane`, `target`, `cause` and `reason` are of the last attempt, empty of a refused request. `outcome` is `ok`,
    `failed`, `refused` or `client_left`, `failure` how it failed or the rule that refused it, `status` what the client
    was told. `nano_usd` is token spend over all attempts; `estimated` says that no upstream confirmed the tokens,
    `unpriced` that a price was not known. `excluded` are the targets that were left out, and why.
    """

    at: float
    request_id: str
    route: str
    model: str
    tenant: str
    outcome: str
    lane: Lane | None = None
    target: str = ""
    cause: str = ""
    reason: str = ""
    failure: str = ""
    status: int | None = None
    attempts: int = 0
    relaxed: bool = False
    ttft_s: float | None = None
    duration_s: float = 0.0
    waited_s: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    nano_usd: int = 0
    estimated: bool = False
    unpriced: bool = False
    excluded: tuple[Exclusion, ...] = ()


class SpendToday(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Both kinds of money since `since`, midnight UTC, of all proxies.

    `provisioned_nano_usd` is what the GPUs cost; of that `attributed_nano_usd` while requests kept them busy, and
    `idle_nano_usd` the rest. `shared_nano_usd` are token dollars.
    """

    since: float
    shared_nano_usd: int
    provisioned_nano_usd: int
    attributed_nano_usd: int
    idle_nano_usd: int


class MoneyView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Money of all proxies, as the store had it at `as_of`. Rates are dollars an hour over the last `recent_s`.

    `saving_nano_usd_per_h` is what the tokens of dedicated targets would have cost at shared prices, less what the GPUs
    cost; null while no dedicated target can be compared. `idle_nano_usd_per_h` is the part of the GPUs' that was idle.
    `spill_share` is of all proxies' requests. `today` is null until the store has been asked.
    """

    as_of: float
    recent_s: float
    shared_nano_usd_per_h: float
    dedicated_nano_usd_per_h: float
    idle_nano_usd_per_h: float
    saving_nano_usd_per_h: float | None = None
    spill_share: float | None = None
    requests_per_s: float = 0.0
    today: SpendToday | None = None


class BudgetView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One cap of one budget in its present window, of all proxies. `used_share` is spent over limit; held is apart."""

    name: str
    per: Per
    limit_nano_usd: int
    spent_nano_usd: int
    held_nano_usd: int
    free_nano_usd: int
    used_share: float
    state: State
    enforce: Enforce
    resets_in_s: float | None = None
    alert_percent: int = 0


class HistoryHere(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The last minutes, a point every `step_s`, oldest first; all columns are as long as `at` (the end of each step).

    Requests are those that ended in the step. `ttft_p50_s` and `ttft_p99_s` are of all targets, null in a step without
    a first token; `spill_share` null without a request. `nano_usd_per_h` are `MoneyView`'s, of all proxies, null while
    the store is away; so are `dedicated_nano_usd_per_mtok`, what a million tokens cost on all dedicated targets that
    can be compared, and `break_even_nano_usd_per_mtok`, what the same tokens cost at shared prices.
    """

    step_s: float
    at: tuple[float, ...] = ()
    dedicated_requests_per_s: tuple[float, ...] = ()
    shared_requests_per_s: tuple[float, ...] = ()
    refused_per_s: tuple[float, ...] = ()
    failed_per_s: tuple[float, ...] = ()
    tokens_per_s: tuple[float, ...] = ()
    ttft_p50_s: tuple[float | None, ...] = ()
    ttft_p99_s: tuple[float | None, ...] = ()
    spill_share: tuple[float | None, ...] = ()
    dedicated_nano_usd_per_h: tuple[float | None, ...] = ()
    shared_nano_usd_per_h: tuple[float | None, ...] = ()
    dedicated_nano_usd_per_mtok: tuple[float | None, ...] = ()
    break_even_nano_usd_per_mtok: tuple[float | None, ...] = ()


class Health(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`status` is `ready` or `draining`; `degraded` says, by part, what does not work as it should."""

    status: str
    degraded: dict[str, str] = {}


class LiveView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The whole of it at `as_of`. `version` is Spillway's, `started_at` since when this process serves.

    Rates ending in `_per_s_here` are over the last `rates_s`, shares and counts of routes over the last `shares_s`.
    `decisions` are the last that ended, newest first; `notable` those of them, and older ones, that spilled, failed
    over, failed or were refused: under much traffic the former cover only a moment. `money` is null while the store is
    away. `waiting_room_here` counts requests that wait for room. `processes` of the cluster were heard of within the
    hour, null while the store is away. `worker` is the number of the process that answers, where there are several.
    """

    format: int = FORMAT
    version: str
    as_of: float
    started_at: float
    policy: PolicyStatus
    health: Health
    rates_s: float
    shares_s: float
    targets: tuple[TargetView, ...]
    routes: tuple[RouteView, ...]
    decisions: tuple[DecisionHere, ...] = ()
    notable: tuple[DecisionHere, ...] = ()
    money: MoneyView | None = None
    budgets: tuple[BudgetView, ...] = ()
    waiting_room_here: int = 0
    event_loop_lag_s_here: float = 0.0
    history: HistoryHere
    processes: int | None = None
    worker: int | None = None
