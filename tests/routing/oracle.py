"""The gates written out again, naively, so that a mistake in the router's cannot agree with itself."""

from __future__ import annotations

from fnmatch import fnmatchcase

from proxy.policy.model import Capability, Endpoint, Lane, Modality, Price, Route, Rules, Snapshot, Target
from proxy.routing.facts import Facts
from proxy.routing.readings import Reading


def route_of(policy: Snapshot, asked: Facts) -> Route | None:
    for route in policy.routes:
        match = route.match
        if (
            (match.models is None or asked.model in match.models)
            and (match.endpoints is None or asked.endpoint in match.endpoints)
            and (match.tenants is None or asked.tenant.name in match.tenants)
            and match.tags <= (asked.tags | asked.tenant.tags)
            and match.traffic in (None, asked.traffic)
            and match.stream in (None, asked.stream)
            and (match.keys is None or asked.key.name in match.keys)
            and (match.modalities is None or (asked.modalities or {Modality.TEXT}) & match.modalities)
            and match.tools in (None, asked.tools)
            and (match.min_input_tokens or 0) <= asked.input_tokens <= (match.max_input_tokens or 10**9)
        ):
            return route
    return None


def dollars(price: Price, input_tokens: float, output_tokens: float) -> float:
    spent = price.input_nano_usd_per_mtok * input_tokens + price.output_nano_usd_per_mtok * output_tokens
    return spent / 1e6 / 1e9


def affordable(target: Target, require: Rules, asked: Facts) -> bool:
    if target.lane is Lane.DEDICATED:
        return True
    if target.price is None:
        return require.nano_usd_per_mtok is None and require.max_nano_usd_per_request is None
    blended = dollars(target.price, 750_000, 250_000)
    output = 1024 if asked.max_output_tokens is None else asked.max_output_tokens
    if asked.endpoint in (Endpoint.EMBEDDINGS, Endpoint.COUNT_TOKENS):
        output = 0
    estimate = dollars(target.price, asked.input_tokens, output)
    return (require.nano_usd_per_mtok is None or blended <= require.nano_usd_per_mtok / 1e9 + 1e-9) and (
        require.max_nano_usd_per_request is None or estimate <= require.max_nano_usd_per_request / 1e9 + 1e-9
    )


def able_to_take(target: Target, asked: Facts) -> bool:
    wanted = {Capability.TOOLS} if asked.tools else set()
    wanted |= {Capability.VISION} if Modality.IMAGE in asked.modalities else set()
    window = target.context_window or 10**9
    return (target.supports is None or wanted <= target.supports) and (
        asked.input_tokens + (asked.max_output_tokens or 0) <= window
    )


def lawful(target: Target, route: Route, asked: Facts) -> bool:
    require = route.require
    in_region = any(fnmatchcase(target.region, glob) for glob in require.regions) and target.region != "unknown"
    kept = any(fnmatchcase(target.retention, glob) for glob in require.retention) and target.retention != "unknown"
    return (
        asked.endpoint in target.native | target.translated
        and (not require.regions or in_region)
        and (not require.retention or kept)
        and require.lane in (None, target.lane)
        and require.tags <= target.tags
        and (not require.no_training or target.trains is False)
        and (not require.quantization or target.quantization in require.quantization)
        and affordable(target, require, asked)
        and able_to_take(target, asked)
        and asked.lane_override in (None, target.lane)
        and (asked.lane_override is None or route.lane_override)
        and asked.target_override in (None, target.name)
        and (asked.target_override is None or route.target_override)
        and (asked.tenant.models is None or asked.model in asked.tenant.models)
    )


def measured_within(require: Rules, seen: Reading) -> bool:
    slow = any((getattr(seen.latency, one.field) or 0) > one.limit_s for one in require.objectives)
    down = seen.uptime is not None and seen.uptime < (require.uptime or 0) and seen.failures > 1
    return not slow and not down
