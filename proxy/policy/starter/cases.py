"""The test file of a starting policy: for each route what is usual, and each of its rules kept and broken.

Theory of operation
-------------------
The cases are made from the compiled policy and from what each route's requests are like. What is expected is worked
out from the policy's promises alone, never by asking the router, so that the two can disagree. Where the outcome hangs
on what nobody stated (a context window, a price), less is expected.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from proxy.policy import promises
from proxy.policy.model import (
    NEEDED,
    Budget,
    Candidate,
    Endpoint,
    Enforce,
    Lane,
    Limits,
    Match,
    Objective,
    Prefer,
    Price,
    Route,
    Rules,
    Snapshot,
    Target,
    Tenant,
    Traffic,
)
from proxy.policy.starter.kinds import Work
from proxy.policy.starter.layout import flow, rounded_up, scalar
from proxy.policy.units import spell_duration

Told = Mapping[str, str]
"""One flow mapping: keys, and values as YAML has them."""

MTOK = 1_000_000
_FULL = 256  # what a dedicated replica takes when the policy says nothing
_LONG_ENOUGH = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scene:
    """One route with the request that comes to it: its lawful targets best first, and the barred ones with the rule.

    `prices` are those of all of them, as far as they are known.
    """

    route: Route
    given: Told
    lawful: tuple[Target, ...]
    barred: Mapping[str, str]
    prices: tuple[Price, ...]

    @property
    def dedicated(self) -> tuple[Target, ...]:
        return tuple(one for one in self.lawful if one.lane is Lane.DEDICATED)

    @property
    def shared(self) -> tuple[Target, ...]:
        return tuple(one for one in self.lawful if one.lane is Lane.SHARED)


def starting_cases(snapshot: Snapshot, works: Mapping[str, Work], policy: str) -> str:
    """The text of the test file; `works` says for each route's name what its requests are like."""
    lines = [f"# Run with: spillway policy test {policy}", "cases:"]
    for route in snapshot.routes:
        scene = _scene(snapshot, route, works[route.name])
        if scene is not None:
            lines += [line for case in _cases(scene) for line in case]
    for budget in snapshot.budgets:
        lines += _when_spent(snapshot, budget, works)
    for tenant in snapshot.tenants.values():
        lines += [line for case in _tenants_cases(snapshot, tenant, works) for line in case]
    return "\n".join(lines) + "\n"


def _scene(snapshot: Snapshot, route: Route, work: Work) -> _Scene | None:
    served = ((name, _serving(candidates, work, route)) for name, candidates in snapshot.models.items())
    model, targets = next(((name, found) for name, found in served if found), ("", []))
    if not targets:
        return None
    barred = {one.name: miss for one in targets for miss in [_barring(one, route.require)] if miss}
    lawful = sorted((one for one in targets if one.name not in barred), key=lambda one: _rank(one, route.prefer))
    if not lawful:
        return None
    given = {"model": scalar(model), **_caller(snapshot, route), **_content(route, work)}
    prices = tuple(one.price for one in targets if one.price is not None)
    return _Scene(route=route, given=given, lawful=tuple(lawful), barred=barred, prices=prices)


def _serving(candidates: Iterable[Candidate], work: Work, route: Route) -> list[Target]:
    """Who can answer such a request at all: speaks its endpoint, takes what is in it, and has room for it."""
    needed = NEEDED[min(route.match.modalities)] if route.match.modalities else None
    tokens = work.input_tokens + (work.max_output_tokens or 0)
    return [
        target
        for target in (one.target for one in candidates)
        if target.serves(work.endpoint)
        and (needed is None or target.supports is None or needed in target.supports)
        and (target.context_window is None or target.context_window >= tokens)
    ]


def _barring(target: Target, require: Rules) -> str:
    misses = promises.missed_by_policy(target, require, strict=True)
    return f"require.{misses[0].rule}" if misses else ""


def _rank(target: Target, prefer: Prefer) -> tuple[int, int]:
    """Where the target stands while nothing is measured; equals stay in the model's order."""
    if prefer is Prefer.LATENCY:
        return (0, 0)
    if target.lane is Lane.DEDICATED or prefer is Prefer.DEDICATED:
        return (int(target.lane is Lane.SHARED), 0)
    return (1, promises.blended_nano_usd_per_mtok(target.price)) if target.price else (2, 0)


def _caller(snapshot: Snapshot, route: Route) -> Told:
    """A tenant with the route's tags and no others, if there is one."""
    fitting = [one for one in snapshot.tenants.values() if route.match.tags <= one.tags]
    fitting.sort(key=lambda one: len(one.tags))
    return {"tenant": scalar(fitting[0].name)} if fitting else {}


def _content(route: Route, work: Work) -> Told:
    told = {} if work.endpoint is Endpoint.CHAT else {"endpoint": str(work.endpoint)}
    if route.match.traffic is Traffic.OFFLINE:
        told["traffic"] = "offline"
    if route.match.modalities:
        told["modality"] = min(route.match.modalities)
    told["input_tokens"] = str(max(work.input_tokens, route.match.min_input_tokens or 0))
    if work.max_output_tokens is not None:
        told["max_output_tokens"] = str(work.max_output_tokens)
    return told


def _cases(scene: _Scene) -> Iterator[list[str]]:
    route, first = scene.route, scene.lawful[0]
    usual = {"route": scalar(route.name), "first": scalar(first.name)}
    if scene.barred:
        usual["excluded"] = _mapping(scene.barred)
    yield _case(f"{route.name}: as usual", scene.given, usual, readings=_measured(scene, first, missed=False))
    if scene.dedicated:
        yield _when_full(scene)
    if _objectives(scene) or _uptimes(scene):
        yield _when_slow(scene, first)
    yield from _when_dear(scene)
    if route.require.limits:
        yield _case(
            f"{route.name}: its rates are used up",
            scene.given,
            {"route": scalar(route.name), "refused": f"require.{_first_limit(route.require.limits)}", "status": "429"},
            rates={f"route:{route.name}": _used(route.require.limits)},
        )


def _when_full(scene: _Scene) -> list[str]:
    route = scene.route
    readings = {one.name: {"in_flight": str(one.max_in_flight or _FULL)} for one in scene.dedicated}
    if not scene.shared:
        expect = {"route": scalar(route.name), "refused": "capacity", "status": "503"}
        return _case(f"{route.name}: the engines are full, and nothing else is lawful", scene.given, expect, readings)
    excluded = _mapping({one.name: "capacity" for one in scene.dedicated})
    expect = {"route": scalar(route.name), "lane": "shared", "cause": "spillover", "excluded": excluded}
    return _case(f"{route.name}: the engines are full", scene.given, expect, readings)


def _when_slow(scene: _Scene, first: Target) -> list[str]:
    """Every measured rule broken by the target that is usually first: it stands behind the others, if there are any."""
    route, alone = scene.route, len(scene.lawful) == 1
    expect: dict[str, str] = {"route": scalar(route.name)}
    wanted = [f"want.{name}" for name in _names(route.want)]
    if wanted:
        expect |= {"relaxed": str(alone).lower(), "excluded": _mapping({first.name: flow(wanted)})}
        if scene.dedicated == (first,) and not alone:
            expect["cause"] = "spillover"
    tried = [f"require.{name}" for name in _names(route.shadow_require)]
    tried += [f"want.{name}" for name in _names(route.shadow_want)]
    if tried:
        expect["shadow"] = _mapping({first.name: flow(tried)})
    readings = _measured(scene, first, missed=True)
    return _case(f"{route.name}: {first.name} is slow and fails", scene.given, expect, readings)


def _when_dear(scene: _Scene) -> Iterator[list[str]]:
    """A request too large for the route's price, on every shared target whose price is known."""
    route = scene.route
    for block, rules in (("require", route.require), ("want", route.want)):
        limit = rules.max_nano_usd_per_request
        if limit is None or not scene.prices:
            continue
        output = min(price.output_nano_usd_per_mtok for price in scene.prices)
        dearest_input = max(price.input_nano_usd_per_mtok for price in scene.prices)
        part, each = ("max_output_tokens", output) if output else ("input_tokens", dearest_input)
        if not each:
            continue
        tokens = rounded_up(limit * MTOK // each + _LONG_ENOUGH)
        given = {**scene.given, part: str(tokens)}
        dear = [one for one in scene.shared if one.price is not None and (output or _input_price(one) == each)]
        yield _case(f"{route.name}: too dear", given, _dear(scene, block, dear, tokens))


def _dear(scene: _Scene, block: str, dear: list[Target], tokens: int) -> Told:
    route, rule = scene.route, f"{block}.max_usd_per_request"
    expect = {"route": scalar(route.name)}
    windows = [one.context_window for one in scene.lawful if one.context_window is not None]
    if any(window < tokens + _LONG_ENOUGH * 100 for window in windows):
        return expect | {"not": flow(scalar(one.name) for one in dear)} if block == "require" else expect
    if block == "require" and len(dear) == len(scene.lawful):
        return expect | {"refused": rule, "status": "403"}
    left_out = {**scene.barred, **{one.name: rule for one in dear}}
    if left_out:
        expect["excluded"] = _mapping(left_out)
    return expect | {"first": scalar(scene.dedicated[0].name)} if scene.dedicated else expect


def _input_price(target: Target) -> int:
    return 0 if target.price is None else target.price.input_nano_usd_per_mtok


def _when_spent(snapshot: Snapshot, budget: Budget, works: Mapping[str, Work]) -> list[str]:
    """A request to the last route that has something to buy, with no money left for it."""
    scenes = (_scene(snapshot, route, works[route.name]) for route in reversed(snapshot.routes))
    scene = next((one for one in scenes if one is not None and one.shared), None)
    if scene is None:
        return []
    rule = f'"budget:{budget.name}"'
    name, route = f"{budget.name}: the budget is used up", scalar(scene.route.name)
    unpaid = {"excluded": _mapping({one.name: rule for one in scene.shared})}
    expect = {"route": route, "refused": rule, "status": "429"}
    if budget.enforce is Enforce.SHADOW:
        expect = {"route": route, "shadow": unpaid["excluded"]}
    elif scene.dedicated:
        expect = {"route": route, "first": scalar(scene.dedicated[0].name), **unpaid}
    return _case(name, scene.given, expect, budgets={budget.name: "exhausted"})


def _tenants_cases(snapshot: Snapshot, tenant: Tenant, works: Mapping[str, Work]) -> Iterator[list[str]]:
    """A tenant within its rates, on the route that takes all it sends, and one that has used them up."""
    main = next((one for one in snapshot.routes if _takes_all_of(one, tenant)), None)
    scene = None if main is None else _scene(snapshot, main, works[main.name])
    if main is None or scene is None or not tenant.limits:
        return
    given = {**scene.given, "tenant": scalar(tenant.name)}
    scope = f"tenant:{tenant.name}"
    within = {name: str(int(used) // 2) for name, used in _used(tenant.limits).items()}
    usual = {"route": scalar(main.name), "first": scalar(scene.lawful[0].name)}
    yield _case(f"{tenant.name}: within its rates", given, usual, rates={scope: within})
    refused = {"refused": f"tenant.{_first_limit(tenant.limits)}", "status": "429"}
    yield _case(f"{tenant.name}: its rates are used up", given, refused, rates={scope: _used(tenant.limits)})


def _takes_all_of(route: Route, tenant: Tenant) -> bool:
    return route.match == Match(tags=route.match.tags) and route.match.tags <= tenant.tags


def _objectives(scene: _Scene) -> tuple[Objective, ...]:
    """All that are to be measured, the tightest of those that share a quantile last."""
    route = scene.route
    blocks = (route.require, route.shadow_require, route.shadow_want, route.want)
    found = [one for block in blocks for one in block.objectives]
    return tuple(sorted(found, key=lambda one: -one.limit_s))


def _uptimes(scene: _Scene) -> list[float]:
    route = scene.route
    blocks = (route.require, route.want, route.shadow_require, route.shadow_want)
    return [block.uptime for block in blocks if block.uptime is not None]


def _names(rules: Rules) -> list[str]:
    names = [one.rule for one in rules.objectives]
    return [*names, "uptime"] if rules.uptime is not None else names


def _measured(scene: _Scene, target: Target, *, missed: bool) -> Mapping[str, Told]:
    """Readings of one target that keep all of the route's measured rules, or that break them all."""
    told: dict[str, str] = {}
    limits: dict[str, float] = {}
    for one in _objectives(scene):
        # Two limits on one quantile: the loosest decides what breaks both, the tightest what keeps both.
        limits.setdefault(one.rule, one.limit_s)
        if not missed:
            limits[one.rule] = min(limits[one.rule], one.limit_s)
    for rule, limit_s in limits.items():
        told[rule] = _reading(rule, limit_s * (2 if missed else 0.5))
    if _uptimes(scene):
        told["uptime"] = "90%" if missed else "100%"
    return {target.name: told} if told else {}


def _reading(rule: str, seconds: float) -> str:
    if rule.startswith("perceived_tps"):
        return f"{1 / seconds:g}"
    return spell_duration(round(seconds, 4))


def _first_limit(limits: Limits) -> str:
    return next(name for name in ("rpm", "tpm", "concurrency") if getattr(limits, name) is not None)


def _used(limits: Limits) -> Told:
    uses = {"requests": limits.rpm, "tokens": limits.tpm, "in_flight": limits.concurrency}
    return {name: str(used) for name, used in uses.items() if used is not None}


def _case(
    name: str,
    given: Told,
    expect: Told,
    readings: Mapping[str, Told] | None = None,
    rates: Mapping[str, Told] | None = None,
    budgets: Told | None = None,
) -> list[str]:
    lines = [f'  - name: "{name}"', f"    given: {_mapping(given)}"]
    for section, subjects in (("readings", readings), ("rates", rates)):
        if subjects:
            lines.append(f"    {section}: {_mapping({_key(one): _mapping(told) for one, told in subjects.items()})}")
    if budgets:
        lines.append(f"    budgets: {_mapping(budgets)}")
    return [*lines, f"    expect: {_mapping(expect)}"]


def _key(name: str) -> str:
    return f'"{name}"' if ":" in name else name


def _mapping(told: Told) -> str:
    return f"{{{', '.join(f'{name}: {value}' for name, value in told.items())}}}"
