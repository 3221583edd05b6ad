"""The soft rules: what a route would like of its targets. They order a plan; they never remove a target from it.

Theory of operation
-------------------
A want is missed only when that is *known*: a target without a price or without enough samples keeps its place. What the
policy alone settles (region, retention, lane, price) is judged once per snapshot, the rest for each request from its
readings. Misses are recorded as exclusions with `hard=False`, although the target stays in the plan.
"""

from __future__ import annotations

from proxy.policy.model import Lane, Price, Target, Want, matches_any
from proxy.routing.gates import UNKNOWN
from proxy.routing.plan import Exclusion
from proxy.routing.readings import Reading


def blended_nano_usd_per_mtok(price: Price) -> int:
    """One figure for a two-part price: three input tokens to one output token, the blend that price lists quote."""
    return (3 * price.input_nano_usd_per_mtok + price.output_nano_usd_per_mtok) // 4


def needs_readings(want: Want) -> bool:
    """Whether anything in `want` has to be measured."""
    return want.ttft_p99_s is not None or want.itl_p99_s is not None or want.uptime is not None


def missed_by_policy(target: Target, want: Want) -> tuple[Exclusion, ...]:
    """The wants that the target misses whatever happens.

    A dedicated target has no price per token at the margin and meets any price; an unknown region or retention misses
    a want for one, as it would a requirement.
    """
    misses = []
    if want.regions and (target.region in UNKNOWN or not matches_any(target.region, want.regions)):
        misses.append(_missed(target, "want.region", target.region, ", ".join(want.regions)))
    if want.retention and (target.retention in UNKNOWN or not matches_any(target.retention, want.retention)):
        misses.append(_missed(target, "want.retention", target.retention, ", ".join(want.retention)))
    if want.lane is not None and target.lane is not want.lane:
        misses.append(_missed(target, "want.lane", target.lane, want.lane))
    if want.nano_usd_per_mtok is not None and target.lane is Lane.SHARED and target.price is not None:
        blended = blended_nano_usd_per_mtok(target.price)
        if blended > want.nano_usd_per_mtok:
            misses.append(_missed(target, "want.usd_per_mtok", _usd(blended), _usd(want.nano_usd_per_mtok)))
    return tuple(misses)


def missed_by_reading(target: Target, want: Want, reading: Reading) -> tuple[Exclusion, ...]:
    """The wants that the replica of `reading` is measured to miss; unmeasured is not missed."""
    misses: tuple[Exclusion, ...] = ()
    if want.ttft_p99_s is not None and reading.ttft_p99_s is not None and reading.ttft_p99_s > want.ttft_p99_s:
        misses += (_missed(target, "want.ttft_p99", _seconds(reading.ttft_p99_s), _seconds(want.ttft_p99_s)),)
    if want.itl_p99_s is not None and reading.itl_p99_s is not None and reading.itl_p99_s > want.itl_p99_s:
        misses += (_missed(target, "want.itl_p99", _seconds(reading.itl_p99_s), _seconds(want.itl_p99_s)),)
    if want.uptime is not None and reading.uptime is not None and reading.uptime < want.uptime:
        misses += (_missed(target, "want.uptime", f"{reading.uptime:.2%}", f"{want.uptime:.2%}"),)
    return misses


def _missed(target: Target, rule: str, observed: str, limit: str) -> Exclusion:
    return Exclusion(target.name, rule, str(observed), str(limit), False)


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def _usd(nano_usd: int) -> str:
    return f"${nano_usd / 1e9:.2f}/M tokens"
