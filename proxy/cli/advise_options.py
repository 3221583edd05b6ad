"""What is written behind the options of `spillway advise`, read: prices, GPUs, growth, commitments, dates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from proxy.advisor.commit import Terms
from proxy.advisor.reasons import Steps
from proxy.policy.engine_profile import EngineProfile
from proxy.policy.engine_profiles import PROFILES, profile_of
from proxy.policy.price import Price
from proxy.policy.problem import Mistake
from proxy.policy.units import duration_s

NANO_USD_PER_MTOK = 1_000_000_000
_PERCENT = r"([+-]?\d+(?:\.\d+)?) ?%"
_MONTHS = {"month": 1, "mo": 1, "year": 12, "yr": 12}


class CannotAdvise(Exception):
    """There is nothing to advise on; the text says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One replica's engine, and what it costs an hour."""

    profile: EngineProfile
    usd_per_hour: float


def gpu(text: str) -> Gpu:
    """`70b-fp8-2xh100=5.98`."""
    name, _, price = text.partition("=")
    profile = profile_of(name)
    if profile is None:
        known = ", ".join(PROFILES)
        raise CannotAdvise(f"`--gpu {text}`: unknown engine profile `{name}` (hint: {known}, or another of this form)")
    return Gpu(profile=profile, usd_per_hour=_amount(price, f"--gpu {text}", "70b-fp8-2xh100=5.98"))


def price(text: str) -> tuple[str, Price]:
    """`deepinfra=0.23/0.40`: a name, and dollars for a million tokens of input and of output."""
    name, _, rates = text.partition("=")
    into, _, out = rates.partition("/")
    example = "deepinfra=0.23/0.40"
    amounts = [round(_amount(one, f"--price {text}", example) * NANO_USD_PER_MTOK) for one in (into, out)]
    if not name:
        raise CannotAdvise(f"`--price {text}` names nobody (hint: `{example}`)")
    return name, Price(
        input_nano_usd_per_mtok=amounts[0], output_nano_usd_per_mtok=amounts[1], source="the command line"
    )


def growth(text: str) -> float:
    """`10%/month`, or a year's, as a share per month."""
    found = re.fullmatch(rf"{_PERCENT}/ ?(month|mo|year|yr)", text)
    if found is None or float(found[1]) <= -100:
        raise CannotAdvise(f"`--growth {text}` is no rate (hint: `10%/month`)")
    return float((1 + float(found[1]) / 100) ** (1 / _MONTHS[found[2]]) - 1)


def terms(text: str) -> Terms:
    """`30%/12 months`: how much less, for how long."""
    found = re.fullmatch(rf"{_PERCENT}/ ?(\d+)? ?(month|mo|year|yr)s?", text)
    if found is None or not 0 <= float(found[1]) < 100 or found[2] == "0":
        raise CannotAdvise(f"`--commit {text}` is no commitment (hint: `30%/12 months`)")
    return Terms(discount=float(found[1]) / 100, months=float(found[2] or 1) * _MONTHS[found[3]])


def steps(text: str) -> Steps:
    """`12x80ms`: calls in a task, and what the network takes of each."""
    calls, _, each = text.partition("x")
    try:
        return Steps(calls=float(calls), network_s=duration_s(each))
    except (ValueError, Mistake):
        raise CannotAdvise(f"`--steps {text}` is no number of calls (hint: `12x80ms`)") from None


def replicas(text: str) -> tuple[int, int]:
    """`0..6`, or `6` for the same."""
    found = re.fullmatch(r"(?:(\d{1,4})\.\.)?(\d{1,4})", text)
    fewest, most = (int(found[1] or 0), int(found[2])) if found else (1, 0)
    if most < max(1, fewest):
        raise CannotAdvise(f"`--replicas {text}` is no range (hint: `0..6`)")
    return fewest, most


def seconds(option: str, text: str) -> float:
    """A duration with its unit."""
    try:
        found = duration_s(text)
    except Mistake as error:
        raise CannotAdvise(f"`{option} {text}`: {error}") from None
    if found <= 0:
        raise CannotAdvise(f"`{option} {text}` leaves no time")
    return found


def begins(text: str) -> float:
    """A date or a time, UTC unless it says otherwise, as Unix time."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise CannotAdvise(f"`--begins {text}` is no date (hint: `2026-11-16`)") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def names(texts: Sequence[str]) -> tuple[str, ...]:
    """Names, by commas or by repeated options."""
    return tuple(name for text in texts for name in re.split(r"[\s,]+", text) if name)


def _amount(text: str, option: str, example: str) -> float:
    try:
        amount = float(text.removeprefix("$"))
    except ValueError:
        amount = -1.0
    if not 0 <= amount < 1e6:
        raise CannotAdvise(f"`{option}` has no price in dollars (hint: `{example}`)")
    return amount
