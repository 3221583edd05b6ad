"""Small policies, requests and readings to decide about, by hand and at random."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from hypothesis import strategies as st

from proxy.policy.model import (
    Candidate,
    Endpoint,
    Lane,
    Match,
    Prefer,
    Price,
    Require,
    Route,
    Snapshot,
    Target,
    Tenant,
    Traffic,
    Want,
)
from proxy.routing.facts import Facts
from proxy.routing.readings import Breaker, Reading, Readings

NOW = 1000.0
TENANT = Tenant(name="acme")
MODEL = "llama-70b"


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


def facts(**given: object) -> Facts:
    told: dict[str, object] = {"request_id": "r1", "tenant": TENANT, "model": MODEL, "endpoint": Endpoint.CHAT}
    return Facts(**(told | given))  # type: ignore[arg-type]


def reading(target: str, replica: int = 0, **given: object) -> Reading:
    return Reading(target=target, replica=replica, as_of=NOW, **given)  # type: ignore[arg-type]


def readings(*given: Reading) -> Readings:
    found: dict[str, tuple[Reading, ...]] = {}
    for one in given:
        found[one.target] = (*found.get(one.target, ()), one)
    return found


# At random. Few values for each field, so that rules and targets meet often.

REGIONS = ("eu-west-1", "eu-north-1", "us", "EU-west-1", "unknown")
RETENTIONS = ("zero", "30d", "unknown")
TAGS = frozenset({"gdpr", "hipaa", "gold"})
NAMES = ("alpha", "beta", "gamma", "delta")
TENANTS = (
    TENANT,
    Tenant(name="bank", tags=frozenset({"gdpr"}), models=frozenset({MODEL})),
    Tenant(name="shop", models=frozenset({"other"})),
)

_tag_sets = st.frozensets(st.sampled_from(sorted(TAGS)), max_size=2)
_maybe_lane = st.none() | st.sampled_from(Lane)
_globs = st.lists(st.sampled_from(("eu-*", "us", "*", "eu-west-?")), max_size=2).map(tuple)
_kept = st.lists(st.sampled_from(("zero", "*d", "*")), max_size=2).map(tuple)
_prices = st.none() | st.sampled_from((0.0, 0.5, 0.88, 3.0)).map(price)
_endpoints = st.frozensets(st.sampled_from(Endpoint)) | st.just(frozenset(Endpoint))


@st.composite
def targets(draw: st.DrawFn, name: str) -> Target:
    lane = draw(st.sampled_from(Lane))
    count = draw(st.integers(1, 3)) if lane is Lane.DEDICATED else 1
    return Target(
        name=name,
        lane=lane,
        model=name,
        region=draw(st.sampled_from(REGIONS)),
        retention=draw(st.sampled_from(RETENTIONS)),
        urls=tuple(f"http://{name}-{index}/v1" for index in range(count)),
        native=draw(_endpoints),
        translated=draw(_endpoints),
        tags=draw(_tag_sets),
        price=draw(_prices),
        max_in_flight=draw(st.none() | st.integers(1, 4)),
    )


routes = st.builds(
    Route,
    name=st.sampled_from(("one", "two", "three")),
    match=st.builds(
        Match,
        models=st.none() | st.just(frozenset({MODEL})),
        endpoints=st.none() | _endpoints,
        tenants=st.none() | st.frozensets(st.sampled_from(("acme", "bank"))),
        tags=_tag_sets,
        traffic=st.none() | st.sampled_from(Traffic),
        stream=st.none() | st.booleans(),
    ),
    require=st.builds(Require, regions=_globs, retention=_kept, lane=_maybe_lane, tags=_tag_sets),
    want=st.builds(
        Want,
        regions=_globs,
        retention=_kept,
        lane=_maybe_lane,
        ttft_p99_s=st.none() | st.just(0.5),
        itl_p99_s=st.none() | st.just(0.05),
        uptime=st.none() | st.just(0.99),
        nano_usd_per_mtok=st.none() | st.just(800_000_000),
    ),
    prefer=st.sampled_from(Prefer),
    lane_override=st.booleans(),
)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    listed = [draw(targets(name)) for name in names]
    return snapshot(listed, [*draw(st.lists(routes, max_size=2)), replace(draw(routes), name="rest", match=Match())])


requests = st.builds(
    facts,
    tenant=st.sampled_from(TENANTS),
    endpoint=st.sampled_from(Endpoint),
    stream=st.booleans(),
    traffic=st.sampled_from(Traffic),
    tags=_tag_sets,
    lane_override=_maybe_lane,
)


@st.composite
def readings_of(draw: st.DrawFn, policy: Snapshot) -> Mapping[str, tuple[Reading, ...]]:
    """Readings of some of the policy's targets, in any state."""
    observed = draw(st.sets(st.sampled_from(sorted(policy.targets))))
    return {
        name: tuple(
            reading(
                name,
                replica,
                in_flight=draw(st.integers(0, 5)),
                breaker=draw(st.sampled_from(Breaker)),
                open_until=draw(st.sampled_from((0.0, NOW + 20))),
                full_until=draw(st.sampled_from((0.0, NOW - 1, NOW + 2))),
                ttft_p99_s=draw(st.none() | st.floats(0.1, 2)),
                itl_p99_s=draw(st.none() | st.floats(0.01, 0.1)),
                uptime=draw(st.none() | st.floats(0.9, 1)),
            )
            for replica in range(policy.targets[name].replicas)
        )
        for name in sorted(observed)
    }


draws = st.floats(0, 1, exclude_max=True)
