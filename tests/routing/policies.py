"""Small policies, requests and readings to decide about, by hand and at random."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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


# At random: few values for each field, so that rules and targets meet often, and one draw for a whole value, so that
# thousands of cases stay cheap.

NAMES = ("alpha", "beta", "gamma", "delta")
TENANTS = (
    TENANT,
    Tenant(name="bank", tags=frozenset({"gdpr"}), models=frozenset({MODEL})),
    Tenant(name="shop", models=frozenset({"other"})),
)
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
)
_matches = any_of(
    models=(None, frozenset({MODEL})),
    endpoints=(None, *ENDPOINTS),
    tenants=(None, frozenset({"bank"})),
    tags=TAGS,
    traffic=(None, Traffic.OFFLINE),
    stream=(None, True, False),
)
_requires = any_of(regions=REGION_GLOBS, retention=RETENTION_GLOBS, lane=LANES, tags=TAGS)
_wants = any_of(
    regions=REGION_GLOBS[:3],
    retention=RETENTION_GLOBS[:2],
    lane=LANES,
    ttft_p99_s=(None, 0.5),
    itl_p99_s=(None, 0.05),
    uptime=(None, 0.99),
    nano_usd_per_mtok=(None, 800_000_000),
)
_manners = any_of(prefer=tuple(Prefer), lane_override=(True, False))
_readings = any_of(
    in_flight=(0, 1, 4),
    breaker=tuple(Breaker),
    open_until=(0.0, NOW + 20),
    full_until=(0.0, NOW - 1, NOW + 2),
    ttft_p99_s=(None, 0.4, 0.6),
    itl_p99_s=(None, 0.04, 0.06),
    uptime=(None, 0.98, 1.0),
)

requests = any_of(
    tenant=TENANTS,
    endpoint=tuple(Endpoint),
    stream=(False, True),
    traffic=tuple(Traffic),
    tags=TAGS,
    lane_override=LANES,
).map(lambda asked: facts(**asked))

draws = st.floats(0, 1, exclude_max=True)


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
def readings_of(draw: st.DrawFn, policy: Snapshot) -> Mapping[str, tuple[Reading, ...]]:
    """Readings of some of the policy's targets, in any state."""
    observed = draw(st.integers(0, 2 ** len(policy.targets) - 1))
    return {
        name: tuple(reading(name, replica, **draw(_readings)) for replica in range(target.replicas))
        for index, (name, target) in enumerate(policy.targets.items())
        if observed >> index & 1
    }


def _target(name: str, *, lane: Lane, replicas: int, **given: object) -> Target:
    return dedicated(name, replicas=replicas, **given) if lane is Lane.DEDICATED else shared(name, **given)


def _route(name: str, draw: st.DrawFn, match: Match) -> Route:
    return Route(
        name=name, match=match, require=Require(**draw(_requires)), want=Want(**draw(_wants)), **draw(_manners)
    )
