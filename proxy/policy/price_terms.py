"""Compiles `price`: what each kind of token costs, in which tier, and from which length of input on.

Theory of operation
-------------------
What a policy says is charged, however odd. But a bill may only be found odd after a month, so figures that stand on the
wrong side of each other (a discount that costs more, a surcharge that costs less) are pointed out.
"""

from __future__ import annotations

from dataclasses import fields
from types import MappingProxyType
from typing import Any

from proxy.policy.checks import Check
from proxy.policy.document import Loc
from proxy.policy.findings import Findings
from proxy.policy.price import LongRates, Price, Tariff
from proxy.policy.schema import PriceSpec, RatesSpec, TariffSpec

DISCOUNTED = ("batch", "flex")
TIERS = (*DISCOUNTED, "priority")

_WHOLE = ("input", "output")


def compile_price(loc: Loc, spec: PriceSpec, findings: Findings) -> Price:
    """The price that stands at `loc`."""
    given = {name: tier for name in TIERS if (tier := getattr(spec, name)) is not None}
    for name, tier in given.items():
        _hold_against(tier, spec, (*loc, name), findings, cheaper=name in DISCOUNTED, than="the standard tier's")
    return Price(
        **_rates(spec),
        above=_above(loc, spec, findings),
        tiers=MappingProxyType({name: _tariff((*loc, name), tier, findings) for name, tier in given.items()}),
    )


def _tariff(loc: Loc, spec: TariffSpec, findings: Findings) -> Tariff:
    return Tariff(**_rates(spec), above=_above(loc, spec, findings))


def _above(loc: Loc, spec: TariffSpec, findings: Findings) -> tuple[LongRates, ...]:
    """The rates of long prompts, shortest first; and all that is odd about the tariff."""
    _check_kinds(loc, spec, findings)
    shorter: RatesSpec = spec
    rates: list[LongRates] = []
    for index, item in sorted(enumerate(spec.above), key=lambda numbered: numbered[1].tokens):
        place = (*loc, "above", index)
        if rates and rates[-1].above_tokens == item.tokens:
            message = f"two prices above {item.tokens} tokens"
            findings.problem((*place, "tokens"), message, "keep one of them", check=Check.DUPLICATE)
        _check_kinds(place, item, findings)
        _hold_against(item, shorter, place, findings, cheaper=False, than="that of a shorter input")
        rates.append(LongRates(**_rates(item), above_tokens=item.tokens))
        shorter = item
    return tuple(rates)


def _check_kinds(loc: Loc, spec: RatesSpec, findings: Findings) -> None:
    if spec.cached_input is not None and spec.cached_input > spec.input:
        _odd((*loc, "cached_input"), "cached input costs more than input", findings)
    if spec.cache_write is not None and spec.cached_input is not None and spec.cache_write < spec.cached_input:
        _odd((*loc, "cache_write"), "writing to the cache costs less than reading from it", findings)
    if None not in (spec.cache_write, spec.cache_write_1h) and (spec.cache_write_1h or 0) < (spec.cache_write or 0):
        _odd((*loc, "cache_write_1h"), "an hour in the cache costs less than some minutes", findings)


def _hold_against(spec: RatesSpec, base: RatesSpec, loc: Loc, findings: Findings, *, cheaper: bool, than: str) -> None:
    for kind in _WHOLE:
        ours, theirs = getattr(spec, kind), getattr(base, kind)
        if ours > theirs if cheaper else ours < theirs:
            _odd((*loc, kind), f"this {kind} costs {'more' if cheaper else 'less'} than {than}", findings)


def _odd(loc: Loc, message: str, findings: Findings) -> None:
    findings.warning(Check.ODD_PRICE, loc, message, "check both figures: they are charged as they stand", key=False)


def _rates(spec: RatesSpec) -> dict[str, Any]:
    return {f"{one.name}_nano_usd_per_mtok": getattr(spec, one.name) for one in fields(RatesSpec)}
