"""Live views that never were."""

from __future__ import annotations

from typing import Any

import msgspec
from proxy.live.view import (
    BudgetView,
    DecisionHere,
    FoundView,
    Health,
    HistoryHere,
    LatencyHere,
    LiveView,
    MoneyView,
    ObjectiveHere,
    ReplicaView,
    RouteView,
    SpendToday,
    Spread,
    TargetMoney,
    TargetView,
)
from proxy.meters.standing import State
from proxy.policy.model import Enforce, Lane, Per, Prefer
from proxy.policy.status import PolicyStatus, ReloadFailure
from proxy.routing.plan import Exclusion
from proxy.routing.readings import Breaker

USD = 1_000_000_000
AT = 1_795_399_001.5
HOSTILE = "\x1b[31mred[bold]\x07\x1b]0;title\x07\u202eevil\r\n\x00\x9b2J" + "x" * 300


def target(name: str = "llama-eu", lane: Lane = Lane.DEDICATED, **more: Any) -> TargetView:
    own = lane is Lane.DEDICATED
    replica = ReplicaView(replica=0, host=f"{name}:8000", in_flight=14, breaker=Breaker.CLOSED, saturation=0.88)
    fields: dict[str, Any] = {
        "model": "llama",
        "region": "eu-west-1",
        "runs_on": "vllm" if own else "together",
        "in_flight": 14,
        "saturation": 0.88 if own else None,
        "breaker": Breaker.CLOSED,
        "replicas_serving": 1,
        "replicas": (replica,),
        "latency_here": LatencyHere(ttft=Spread(samples=99, p50_s=0.058, p95_s=0.1, p99_s=0.11)),
        "requests_per_s_here": 10.4,
        "output_tokens_per_s_here": 4630.0,
        "money": TargetMoney(
            nano_usd_per_h=5.99 * USD,
            nano_usd_per_mtok=520_000_000,
            shared_nano_usd_per_mtok=720_000_000 if own else None,
            idle_share=0.41 if own else None,
        ),
        **more,
    }
    return TargetView(name=name, lane=lane, **fields)


def decision(**more: Any) -> DecisionHere:
    fields: dict[str, Any] = {
        "at": AT - 1,
        "request_id": "req_1",
        "route": "default",
        "model": "llama-70b",
        "tenant": "bank",
        "outcome": "ok",
        "lane": Lane.SHARED,
        "target": "together",
        "cause": "spillover",
        "reason": "predicted ttft 2.3 s > 1.8 s (queue 21k tokens, 38 streams)",
        "status": 200,
        "attempts": 1,
        "ttft_s": 0.31,
        "duration_s": 1.2,
        "input_tokens": 300,
        "output_tokens": 150,
        "nano_usd": 396_000,
        **more,
    }
    return DecisionHere(**fields)


REFUSED = decision(
    request_id="req_2",
    outcome="refused",
    failure="residency_unsatisfiable",
    status=403,
    lane=None,
    target="",
    cause="",
    reason="",
    attempts=0,
    input_tokens=0,
    output_tokens=0,
    nano_usd=0,
    ttft_s=None,
    excluded=(Exclusion("together", "region", "us", "eu-*", True),),
)
ROUTE = RouteView(
    name="default",
    prefer=Prefer.COST,
    objectives=(
        ObjectiveHere(rule="ttft_p99", limit_s=2.0, observed_s=0.75, met=True, samples=99),
        ObjectiveHere(rule="itl_p99", limit_s=0.06, observed_s=0.08, met=False, samples=99),
    ),
    requests_per_s_here=21.9,
    requests_here=1314,
    dedicated_share_here=0.61,
    shared_share_here=0.39,
    spill_share_here=0.25,
    spilled_by_here={"ttft": 296, "capacity": 32},
    refused_here=7,
)
BUDGET = BudgetView(
    name="growth-spill",
    per=Per.DAY,
    limit_nano_usd=500 * USD,
    spent_nano_usd=420 * USD,
    held_nano_usd=3 * USD,
    free_nano_usd=77 * USD,
    used_share=0.84,
    state=State.ALERT,
    enforce=Enforce.HARD,
    resets_in_s=18_000.0,
    alert_percent=80,
)
MONEY = MoneyView(
    as_of=AT,
    recent_s=300.0,
    shared_nano_usd_per_h=4.8 * USD,
    dedicated_nano_usd_per_h=5.99 * USD,
    idle_nano_usd_per_h=2.45 * USD,
    saving_nano_usd_per_h=2.27 * USD,
    today=SpendToday(
        since=AT - 3600,
        shared_nano_usd=39 * USD,
        provisioned_nano_usd=50 * USD,
        attributed_nano_usd=30 * USD,
        idle_nano_usd=20 * USD,
    ),
)
HISTORY = HistoryHere(
    step_s=2.0,
    at=(AT - 4, AT - 2, AT),
    dedicated_requests_per_s=(1.0, 5.0, 10.0),
    shared_requests_per_s=(0.0, 2.0, 12.0),
    spill_share=(None, 0.2, 0.5),
    ttft_p99_s=(None, 0.4, 0.8),
)
VIEW = LiveView(
    version="1.2.3",
    as_of=AT,
    started_at=AT - 228,
    policy=PolicyStatus(revision="1b317ef3eacb", loaded_at=AT - 228, generation=3),
    health=Health(status="ready"),
    rates_s=10.0,
    shares_s=60.0,
    targets=(target("together", Lane.SHARED), target()),
    routes=(ROUTE,),
    decisions=(
        decision(),
        REFUSED,
        decision(request_id="req_3", at=AT - 9, cause="preferred", reason="preferred: cost"),
    ),
    notable=(REFUSED,),
    money=MONEY,
    budgets=(BUDGET,),
    history=HISTORY,
)


def view(**more: Any) -> LiveView:
    return msgspec.structs.replace(VIEW, **more)


def troubled() -> LiveView:
    error = ReloadFailure(revision="x", at=AT, problems=("policy.yaml:3:1: unknown key `rout`",), problem_count=2)
    policy = PolicyStatus(revision="1b317ef3eacb", loaded_at=AT, error=error)
    found = FoundView(up=False, age_s=90.0, unready=2, trouble="the service account may not `list` endpoints")
    return view(
        health=Health(status="draining", degraded={"meters": "the store is out of reach"}),
        policy=policy,
        targets=(target(found=found), target("together", Lane.SHARED)),
    )


def hostile() -> LiveView:
    bad = decision(request_id=HOSTILE, model=HOSTILE, tenant=HOSTILE, route=HOSTILE, target=HOSTILE, reason=HOSTILE)
    return view(
        version=HOSTILE,
        policy=PolicyStatus(revision=HOSTILE, loaded_at=AT),
        health=Health(status="ready", degraded={HOSTILE: HOSTILE}),
        targets=(
            target(HOSTILE, region=HOSTILE, found=FoundView(up=True, trouble=HOSTILE)),
            target(HOSTILE, Lane.SHARED, quota=HOSTILE),
        ),
        routes=(msgspec.structs.replace(ROUTE, name=HOSTILE, spilled_by_here={HOSTILE: 1}),),
        decisions=(bad, msgspec.structs.replace(REFUSED, failure=HOSTILE, at=AT - 3, model=HOSTILE)),
        notable=(),
        budgets=(msgspec.structs.replace(BUDGET, name=HOSTILE),),
    )
