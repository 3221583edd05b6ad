"""Small policies, requests and readings to decide about, by hand and at random."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
from hypothesis import strategies as st
from proxy.policy.model import (
    UNLIMITED,
    Budget,
    Candidate,
    Cap,
    Capability,
    Endpoint,
    Enforce,
    Exhausted,
    Key,
    Lane,
    Limits,
    Match,
    Modality,
    Objective,
    Per,
    Prefer,
    Price,
    Route,
    Rules,
    Snapshot,
    Target,
    Tenant,
    Traffic,
)
from proxy.routing.facts import Facts
from proxy.routing.readings import Breaker, Fund, Funds, Load, Quantiles, Rate, Reading, Readings

NOW = 1000.0
TENANT = Tenant(name="acme")
MODEL = "llama-70b"
SMALL = "llama-8b"
"""What random budgets downgrade to."""


def price(usd_per_mtok: float) -> Price:
    nano_usd = round(usd_per_mtok * 1e9)
    return Price(input_nano_usd_per_mtok=nano_usd, output_nano_usd_per_mtok=nano_usd)


def dedicated(name: str = "llama-eu", *, replicas: int = 1, **given: object) -> Target:
    told = {"region": "eu-west-1", "retention": "zero", "max_in_flight": 64, "native": frozenset(Endpoint)} | given
    urls = tuple(f"http://{name}-{index}:8000/v1" for index in range(replicas))
    return Target(name=name, lane=Lane.DEDICATED, model=f"{name}-model", urls=urls, **told)  # type: ignore[arg-type]


def shared(name: str = "together", **given: object) -> Target:
    told = {"region": "us", "retention": "30d", "native": frozenset(Endpoint)} | given
    return Target(name=name, lane=Lane.SHARED, model=f"{name}-model", urls=(f"https://{name}/v1",), **told)  # type: ignore[arg-type]


def snapshot(
    targets: Iterable[Target], routes: Iterable[Route] = (Route(name="default"),), model: str = MODEL
) -> Snapshot:
    """One public model served by all of the targets, in the order given."""
    listed = tuple(targets)
    return Snapshot(
        digest="0" * 64,
        source="",
        targets={target.name: target for target in listed},
        models={model: tuple(Candidate(target=target, model=f"{target.model}-upstream") for target in listed)},
        routes=tuple(routes),
    )


def ttft_p99(limit_s: float) -> tuple[Objective, ...]:
    return (Objective(rule="ttft_p99", field="ttft_p99_s", limit_s=limit_s),)


def itl_p99(limit_s: float) -> tuple[Objective, ...]:
    return (Objective(rule="itl_p99", field="itl_p99_s", limit_s=limit_s),)


def facts(**given: object) -> Facts:
    told: dict[str, object] = {"request_id": "r1", "tenant": TENANT, "model": MODEL, "endpoint": Endpoint.CHAT}
    return Facts(**(told | given))  # type: ignore[arg-type]


def reading(target: str, replica: int = 0, **given: object) -> Reading:
    """Quantiles may be given by their own names; failures are many unless given."""
    told = {"failures": 100, **given}
    latency = Quantiles(**{name: told.pop(name) for name in Quantiles.__struct_fields__ if name in told})  # type: ignore[arg-type]
    return Reading(target=target, replica=replica, as_of=NOW, latency=latency, **told)  # type: ignore[arg-type]


def replaced(load: Load, **given: object) -> Load:
    """The same work, but for what is given."""
    return msgspec.structs.replace(load, **given)


def readings(*given: Reading) -> Readings:
    found: dict[str, tuple[Reading, ...]] = {}
    for one in given:
        found[one.target] = (*found.get(one.target, ()), one)
    return found


# At random: few values for each field, so that rules and targets meet often, and one draw for a whole value, so that
# thousands of cases stay cheap.

NAMES = ("alpha", "beta", "gamma", "delta")
TENANTS = (
    TENANT,
    Tenant(name="bank", tags=frozenset({"gdpr"}), models=frozenset({MODEL})),
    Tenant(name="shop", models=frozenset({"other"})),
    Tenant(name="limited", limits=Limits(rpm=2, tpm=5000)),
)
KEYS = (Key(tenant=TENANT), Key(tenant=TENANT, name="acme/ci", limits=Limits(concurrency=1)))
TAGS = tuple(frozenset(tags) for tags in ((), ("gdpr",), ("gold",), ("gdpr", "gold")))
LANES = (None, Lane.DEDICATED, Lane.SHARED)
ENDPOINTS = tuple(frozenset(some) for some in (Endpoint, (), (Endpoint.CHAT,), (Endpoint.MESSAGES, Endpoint.CHAT)))
REGION_GLOBS = ((), ("eu-*",), ("us",), ("*",), ("us", "eu-west-?"))
RETENTION_GLOBS = ((), ("zero",), ("*d",), ("*",))


def any_of(**choices: Sequence[object]) -> st.SearchStrategy[dict[str, Any]]:
    """One value for each name, all combinations alike, from a single draw; the first values are the simplest."""

    def decoded(index: int) -> dict[str, Any]:
        values = {}
        for name, options in choices.items():
            index, place = divmod(index, len(options))
            values[name] = options[place]
        return values

    return st.integers(0, math.prod(len(options) for options in choices.values()) - 1).map(decoded)


_targets = any_of(
    lane=(Lane.DEDICATED, Lane.SHARED),
    region=("eu-west-1", "us", "EU-west-1", "unknown"),
    retention=("zero", "30d", "unknown"),
    native=ENDPOINTS,
    translated=ENDPOINTS[1:],
    tags=TAGS,
    price=(None, price(0.5), price(3.0)),
    max_in_flight=(None, 1, 4),
    replicas=(1, 2, 3),
    trains=(None, False, True),
    quantization=("unknown", "fp8", "bf16"),
    context_window=(None, 4000, 100_000),
    supports=(None, frozenset(), frozenset({Capability.TOOLS, Capability.VISION})),
)
_matches = any_of(
    models=(None, frozenset({MODEL})),
    endpoints=(None, *ENDPOINTS),
    tenants=(None, frozenset({"bank"})),
    tags=TAGS,
    traffic=(None, Traffic.OFFLINE),
    stream=(None, True, False),
    keys=(None, frozenset({"acme/ci"})),
    modalities=(None, frozenset({Modality.TEXT}), frozenset({Modality.IMAGE, Modality.FILE})),
    tools=(None, True),
    min_input_tokens=(None, 1000),
    max_input_tokens=(None, 50_000),
)
_rules = any_of(
    regions=REGION_GLOBS,
    retention=RETENTION_GLOBS,
    lane=LANES,
    tags=TAGS,
    no_training=(False, True),
    quantization=(frozenset(), frozenset({"fp8"})),
    nano_usd_per_mtok=(None, 800_000_000),
    max_nano_usd_per_request=(None, 1_000_000),
    objectives=((), ttft_p99(0.5), itl_p99(0.05), ttft_p99(0.5) + itl_p99(0.05)),
    uptime=(None, 0.99),
    limits=(UNLIMITED, Limits(rpm=1), Limits(tpm=3000, concurrency=2)),
)
some_rules = _rules.map(lambda given: Rules(**given))
single_rules = _rules.flatmap(lambda given: st.sampled_from(sorted(given.items(), key=lambda item: item[0])))
_manners = any_of(prefer=tuple(Prefer), lane_override=(True, False), target_override=(False, True))
_readings = any_of(
    in_flight=(0, 1, 4),
    breaker=tuple(Breaker),
    open_until=(0.0, NOW + 20),
    full_until=(0.0, NOW - 1, NOW + 2),
    paced_until=(0.0, NOW + 1),
    failures=(1, 5),
    ttft_p99_s=(None, 0.4, 0.6),
    itl_p99_s=(None, 0.04, 0.06),
    uptime=(None, 0.98, 1.0),
)

_loads = any_of(
    waiting=(0, 4),
    queued_tokens=(0, 5000, 40_000),
    decoding=(0, 60),
    context_tokens=(0, 90_000, 2_000_000),
    ttft_factor=(1.0, 8.0),
    itl_factor=(1.0, 3.0),
    overdue=(0.0, 9.0),
    begun_at=(NOW - 9, NOW),
).map(lambda told: Load(**told))

requests = any_of(
    tenant=TENANTS,
    endpoint=tuple(Endpoint),
    stream=(False, True),
    traffic=tuple(Traffic),
    tags=TAGS,
    lane_override=LANES,
    target_override=(None, None, *NAMES[:2]),
    key=KEYS,
    modalities=(frozenset(), frozenset({Modality.IMAGE})),
    tools=(False, True),
    input_tokens=(10, 2000, 60_000),
    max_output_tokens=(None, 100, 8000),
).map(lambda asked: facts(**asked))

SCOPES = ("tenant:limited", "key:acme/ci", "route:one", "route:two", "route:rest")
rates = any_of(
    **{
        scope: (
            None,
            Rate(requests=1, tokens=100, in_flight=1),
            Rate(requests=9, tokens=9000, in_flight=9, frees_in_s=3.0),
        )
        for scope in SCOPES
    }
).map(lambda used: {scope: rate for scope, rate in used.items() if rate is not None})

draws = st.floats(0, 1, exclude_max=True)

loads = st.builds(
    Load,
    waiting=st.integers(0, 60),
    queued_tokens=st.integers(0, 60_000),
    decoding=st.integers(0, 300),
    context_tokens=st.integers(0, 500_000),
    prefill_tokens_per_s=st.floats(0, 20_000),
    ttft_factor=st.floats(0.2, 5),
    itl_factor=st.floats(0.2, 5),
    step_factor=st.floats(0.2, 5),
    overdue=st.floats(0, 5),
    begun_at=st.sampled_from((NOW - 60, NOW - 2, NOW - 1.9, NOW)),
    warmth=st.sampled_from((1.0, 0.3)),
)
"""The work of one replica: idle, busy or drowned, and better or worse than its profile says."""

_budgets = any_of(
    enforce=(Enforce.HARD, Enforce.SOFT, Enforce.SHADOW),
    exhausted=(Exhausted.DEDICATED_ONLY, Exhausted.DOWNGRADE, Exhausted.DOWNGRADE, Exhausted.REJECT),
    lane=(Lane.SHARED, Lane.SHARED, Lane.DEDICATED),
    tenants=(None, None, frozenset({"bank", "acme"})),
    keys=(None, None, frozenset({"acme/ci"})),
    tags=(frozenset(), frozenset(), frozenset({"gdpr"})),
    routes=(None, None, frozenset({"one"})),
    targets=(None, None, frozenset({"alpha", "small"})),
    models=(None, frozenset({MODEL})),
)
_funds = st.sampled_from(
    [
        None,
        Fund(free_nano_usd=0, limit_nano_usd=10**9, spent_nano_usd=10**9),
        Fund(free_nano_usd=-5, known=False),
        Fund(free_nano_usd=1),
        Fund(free_nano_usd=10**15),
    ]
)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """One model with one to four targets, under up to two picky routes and one that matches everything."""
    return snapshot(
        [_target(name, **draw(_targets)) for name in NAMES[: draw(st.integers(1, len(NAMES)))]],
        [
            *[_route(name, draw, Match(**draw(_matches))) for name in ("one", "two")[: draw(st.integers(0, 2))]],
            _route("rest", draw, Match()),
        ],
    )


@st.composite
def budgeted(draw: st.DrawFn) -> Snapshot:
    """The same with a smaller model on another target, and on the first one too perhaps, and up to three budgets."""
    policy = draw(snapshots())
    small = _target("small", **draw(_targets))
    serving = (small, *policy.targets.values())[: draw(st.integers(1, 2))]
    budgets = []
    for number in range(draw(st.integers(1, 3))):
        given = draw(_budgets)
        downgrade = SMALL if given["exhausted"] is Exhausted.DOWNGRADE else None
        budgets.append(Budget(name=f"b{number}", caps=(Cap(10**9, Per.DAY),), downgrade=downgrade, **given))
    return replace(
        policy,
        targets={**policy.targets, "small": small},
        models={**policy.models, SMALL: tuple(Candidate(target=one, model="small-upstream") for one in serving)},
        budgets=tuple(budgets),
    )


@st.composite
def funds_of(draw: st.DrawFn, policy: Snapshot) -> Funds:
    """What the policy's budgets have left: nothing, next to nothing, or plenty."""
    left = {budget.name: draw(_funds) for budget in policy.budgets}
    return {name: fund for name, fund in left.items() if fund is not None}


@st.composite
def readings_of(draw: st.DrawFn, policy: Snapshot, *, loaded: bool = False) -> Mapping[str, tuple[Reading, ...]]:
    """Readings of some of the policy's targets, in any state; `loaded` with the work of dedicated replicas."""
    observed = draw(st.integers(0, 2 ** len(policy.targets) - 1))
    return {
        name: tuple(
            reading(
                name,
                replica,
                **draw(_readings),
                load=draw(_loads) if loaded and target.lane is Lane.DEDICATED else None,
            )
            for replica in range(target.replicas)
        )
        for index, (name, target) in enumerate(policy.targets.items())
        if observed >> index & 1
    }


def _target(name: str, *, lane: Lane, replicas: int, **given: object) -> Target:
    return dedicated(name, replicas=replicas, **given) if lane is Lane.DEDICATED else shared(name, **given)


def _route(name: str, draw: st.DrawFn, match: Match) -> Route:
    """Most rules are empty, or nothing would ever be lawful."""
    chosen = {
        place: Rules(**draw(_rules)) if draw(st.integers(0, odds)) == 0 else _only_one(draw)
        for place, odds in (("require", 5), ("want", 1), ("shadow_require", 3), ("shadow_want", 5))
    }
    return Route(name=name, match=match, **chosen, **draw(_manners))


def _only_one(draw: st.DrawFn) -> Rules:
    """One rule at most."""
    given = draw(_rules)
    name = draw(st.sampled_from(["nothing", *given]))
    return Rules(**({name: given[name]} if name in given else {}))
