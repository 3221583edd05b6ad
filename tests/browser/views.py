"""Live views made of values, as the JSON that a proxy would send."""

from __future__ import annotations

from typing import Any, cast

import msgspec
from proxy.live.view import (
    BudgetView,
    DecisionHere,
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
from proxy.policy.status import PolicyStatus
from proxy.routing.plan import Exclusion
from proxy.routing.readings import Breaker

View = dict[str, Any]
NANO = 1_000_000_000


def spread(p50_s: float) -> Spread:
    return Spread(samples=200, p50_s=p50_s, p95_s=2 * p50_s, p99_s=3 * p50_s)


def target(name: str, lane: Lane, *, replicas: int = 1, saturation: float = 0.6) -> TargetView:
    """One that serves."""
    own = lane is Lane.DEDICATED
    one = ReplicaView(
        replica=0,
        host="10.0.0.1:8000",
        in_flight=9,
        breaker=Breaker.CLOSED,
        saturation=saturation if own else None,
        saturated_by="ttft" if own else "",
        waiting=1 if own else None,
        queued_prompt_tokens=2100 if own else None,
        decoding=8 if own else None,
        ttft_factor=1.1 if own else None,
        itl_factor=0.9 if own else None,
        uptime_here=0.999,
    )
    price = NANO // 2 if own else NANO
    return TargetView(
        name=name,
        lane=lane,
        model="llama",
        region="eu-west-1",
        runs_on="vllm" if own else "openai",
        gpus="4 x H100" if own else "",
        in_flight=9 * replicas,
        waiting=replicas if own else None,
        saturation=saturation if own else None,
        breaker=Breaker.CLOSED,
        replicas_serving=replicas,
        replicas=tuple(msgspec.structs.replace(one, replica=at, host=f"10.0.0.{at}:8000") for at in range(replicas)),
        latency_here=LatencyHere(ttft=spread(0.2), itl=spread(0.01), e2e=spread(2.0)),
        requests_per_s_here=3.0 if own else 1.0,
        money=TargetMoney(
            nano_usd_per_h=12.0 * NANO if own else 2.0 * NANO,
            nano_usd_per_mtok=price,
            shared_target="api" if own else None,
            shared_nano_usd_per_mtok=NANO if own else None,
        ),
    )


def decision(number: int, *, spilled: bool = False, **more: Any) -> DecisionHere:
    """The `number`-th request that ended."""
    why = "dedicated at capacity: 16 of 16 in flight on gpu-0" if spilled else "a dedicated replica has room"
    fields = {
        "at": 1_700_000_000.0 + number,
        "request_id": f"req_{number}",
        "route": "default",
        "model": "llama",
        "tenant": "bank",
        "outcome": "ok",
        "lane": Lane.SHARED if spilled else Lane.DEDICATED,
        "target": "api-0" if spilled else "gpu-0",
        "cause": "spillover" if spilled else "preferred",
        "reason": why,
        "status": 200,
        "attempts": 1,
        "ttft_s": 0.25,
        "duration_s": 2.0,
        "input_tokens": 100,
        "output_tokens": 50,
        "nano_usd": 12345 if spilled else 0,
        "excluded": (Exclusion("gpu-0", "capacity", "16 of 16 in flight", "16 in flight", False),) if spilled else (),
    }
    return DecisionHere(**(fields | more))


def view(*, own: int = 2, shared: int = 1, replicas: int = 2, decisions: int = 6, second: int = 0) -> View:
    """A proxy that is well, `second` seconds after the first view, as the JSON that it would send."""
    now = 1_700_000_000.0 + 10_000 + second
    ended = tuple(decision(at + second, spilled=at % 3 == 0) for at in reversed(range(decisions)))
    points = 150
    made = LiveView(
        version="1.2.3",
        as_of=now,
        started_at=now - 7200,
        policy=PolicyStatus(revision="9896461ab188", loaded_at=now - 600),
        health=Health(status="ready"),
        rates_s=10.0,
        shares_s=60.0,
        targets=tuple(
            [target(f"gpu-{at}", Lane.DEDICATED, replicas=replicas) for at in range(own)]
            + [target(f"api-{at}", Lane.SHARED) for at in range(shared)]
        ),
        routes=(
            RouteView(
                name="default",
                prefer=Prefer.COST,
                objectives=(ObjectiveHere(rule="ttft_p99", limit_s=2.0, observed_s=0.6, met=True, samples=200),),
                requests_per_s_here=4.0,
                requests_here=240,
                dedicated_share_here=0.75,
                shared_share_here=0.25,
                spill_share_here=0.25,
                spilled_by_here={"capacity": 60},
            ),
        ),
        decisions=ended,
        notable=tuple(one for one in ended if one.cause == "spillover"),
        money=MoneyView(
            as_of=now,
            recent_s=60.0,
            shared_nano_usd_per_h=2.0 * NANO,
            dedicated_nano_usd_per_h=24.0 * NANO,
            idle_nano_usd_per_h=4.0 * NANO,
            saving_nano_usd_per_h=3.5 * NANO,
            spill_share=0.25,
            requests_per_s=4.0,
            today=SpendToday(
                since=now - 3600,
                shared_nano_usd=2 * NANO,
                provisioned_nano_usd=24 * NANO,
                attributed_nano_usd=20 * NANO,
                idle_nano_usd=4 * NANO,
            ),
        ),
        budgets=(
            BudgetView(
                name="growth",
                per=Per.DAY,
                limit_nano_usd=100 * NANO,
                spent_nano_usd=40 * NANO,
                held_nano_usd=NANO,
                free_nano_usd=59 * NANO,
                used_share=0.4,
                state=State.OPEN,
                enforce=Enforce.HARD,
                resets_in_s=3600.0,
            ),
        ),
        history=HistoryHere(
            step_s=2.0,
            at=tuple(now - 2.0 * (points - at) for at in range(points)),
            dedicated_requests_per_s=(3.0,) * points,
            shared_requests_per_s=(1.0,) * points,
            refused_per_s=(0.0,) * points,
            failed_per_s=(0.0,) * points,
            tokens_per_s=(900.0,) * points,
            ttft_p50_s=(0.2,) * points,
            ttft_p99_s=(0.6,) * points,
            spill_share=(0.25,) * points,
            dedicated_nano_usd_per_h=(24.0 * NANO,) * points,
            shared_nano_usd_per_h=(2.0 * NANO,) * points,
            dedicated_nano_usd_per_mtok=(NANO / 2,) * points,
            break_even_nano_usd_per_mtok=(1.0 * NANO,) * points,
        ),
        processes=3,
    )
    return cast(View, msgspec.json.decode(msgspec.json.encode(made)))


def ill() -> View:
    """The same with everything that can be wrong."""
    said = view(second=1)
    gpu = said["targets"][0]
    gpu |= {"breaker": "open", "replicas_serving": 0}
    for replica in gpu["replicas"]:
        replica |= {"breaker": "open", "open_for_s": 12.0}
    said["health"]["degraded"] = {"meters": "the store is away since 12:00"}
    said["policy"]["error"] = {
        "revision": "f00",
        "at": said["as_of"],
        "problems": ["policy.yaml:3:5: unknown key `regoin`"],
        "problem_count": 3,
    }
    said["routes"][0] |= {"refused_here": 9, "refused_by_here": {"budget:growth": 9}, "failed_here": 3}
    said["routes"][0]["objectives"][0] |= {"observed_s": 3.1, "met": False}
    said["budgets"][0] |= {"state": "exhausted", "spent_nano_usd": 100 * 10**9, "used_share": 1.0}
    return said
