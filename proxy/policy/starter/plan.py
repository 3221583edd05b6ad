"""Which routes a starting policy has, and what each asks for: the suggestions of a kind, as the answers change them.

Theory of operation
-------------------
The answers choose among a kind's works (offline, online, what the named models can take), replace some figures, and
add gates: residency for all tenants is a gate on every route; residency for some gives each route a twin before it, for
callers that carry the tag.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from proxy.policy.model import NEEDED, Endpoint, Enforce, Modality, Prefer, Price
from proxy.policy.promises import blended_nano_usd_per_mtok
from proxy.policy.starter.answers import (
    Answers,
    DedicatedAnswer,
    GpusAnswer,
    LatencyAnswer,
    Minded,
    Pattern,
    SharedAnswer,
)
from proxy.policy.starter.engine import Fit, fit
from proxy.policy.starter.kinds import Rule, Work, ask, offline_work
from proxy.policy.starter.layout import rounded_up
from proxy.policy.starter.profiles import PROFILES
from proxy.policy.targets import PriceOf
from proxy.policy.units import NANO, nano_usd

GPUS = GpusAnswer(usd_per_hour="2.99")
"""One H100 at what specialised clouds charge for it."""

HOURS_A_MONTH = 730
FIRST_BUDGET = "$500/month"
"""Where nothing is known to compare with."""

_MONEY = ("max_usd_per_request", "usd_per_mtok")
_YOURS = "your own figure"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRoute:
    """A route to be: its work, under its own name; `tag` is what its callers must carry, `bound` whether bytes stay."""

    name: str
    work: Work
    tag: str = ""
    bound: bool = False


def settled(answers: Answers, price_of: PriceOf) -> Answers:
    """The answers, with a price of tokens that the providers they name can keep, and a budget that can count them.

    Work that is all offline has no other route than the one with the cap, so what is named must be below it. A hard
    budget bars what has no price; one that is not asked to be hard is soft then.
    """
    prices = [_blended(one, price_of) for model in answers.models.values() for one in model.shared]
    if answers.economics.enforce is None and None in prices:
        answers = replace(answers, economics=replace(answers.economics, enforce=Enforce.SOFT))
    dearest = max((price for price in prices if price is not None), default=0)
    suggested = nano_usd(PROFILES[answers.interface].offline_usd_per_mtok)
    economics = answers.economics
    if answers.usage.traffic is not Pattern.OFFLINE or economics.usd_per_mtok is not None or dearest <= suggested:
        return answers
    cents = -(-dearest // 10_000_000)
    return replace(answers, economics=replace(economics, usd_per_mtok=f"{cents // 100}.{cents % 100:02d}"))


def _blended(shared: SharedAnswer, price_of: PriceOf) -> int | None:
    price = price_of(shared.provider, shared.model)
    if shared.price is not None:
        price = Price(
            input_nano_usd_per_mtok=nano_usd(shared.price.input),
            output_nano_usd_per_mtok=nano_usd(shared.price.output),
        )
    return None if price is None else blended_nano_usd_per_mtok(price)


def budget_of(answers: Answers) -> str:
    """The limit to what providers may be paid; empty for none.

    Whoever minds the budget and gives no figure gets one: as much again as the GPUs cost.
    """
    economics = answers.economics
    if economics.budget is not None or not any(model.shared for model in answers.models.values()):
        return economics.budget or ""
    return suggested_budget(answers) if economics.minded is Minded.BUDGET else ""


def suggested_budget(answers: Answers) -> str:
    """What the GPUs cost in a month, in two digits; without any, a figure to begin with."""
    engines = [model.dedicated for model in answers.models.values() if model.dedicated is not None]
    hourly = sum(_nano_usd_per_hour(one, answers) for one in engines)
    return f"${rounded_up(hourly * HOURS_A_MONTH // NANO)}/month" if hourly else FIRST_BUDGET


def _nano_usd_per_hour(engine: DedicatedAnswer, answers: Answers) -> int:
    gpus = engine.gpus or answers.economics.gpus or GPUS
    return nano_usd(gpus.usd_per_hour) * gpus.count * len(engine.url)


def planned_routes(answers: Answers) -> tuple[PlannedRoute, ...]:
    """The routes in the order of the file; the last one matches everything."""
    works = works_of(answers)
    residency, tag = answers.usage.residency, residency_tag(answers)
    if residency is None:
        return tuple(PlannedRoute(name=work.name, work=work) for work in works)
    if not tag:
        return tuple(PlannedRoute(name=work.name, work=work, bound=True) for work in works)
    twins = (PlannedRoute(name=f"{tag}-{work.name}", work=work, tag=tag, bound=True) for work in works)
    return (*twins, *(PlannedRoute(name=work.name, work=work) for work in works))


def residency_tag(answers: Answers) -> str:
    """What the tenants carry that are bound to a region, when the others are not; `eu-*` gives `eu`."""
    usage = answers.usage
    if usage.residency is None or not usage.residency.tenants or set(usage.residency.tenants) >= set(usage.tenants):
        return ""
    return re.sub(r"[^a-z0-9]+", "-", usage.residency.region[0]).strip("-") or "resident"


def endpoint_of(answers: Answers, model: str) -> Endpoint:
    """What apps call `model` by: as answered, or else as the main work of the kind does."""
    return answers.models[model].endpoint or PROFILES[answers.interface].works[-1].endpoint


def works_of(answers: Answers) -> tuple[Work, ...]:
    """The works in the order of their routes; the last one matches everything."""
    profile, pattern = PROFILES[answers.interface], answers.usage.traffic
    served = {endpoint_of(answers, model) for model in answers.models}
    narrowed = (_narrowed(work, answers) for work in profile.works if work.endpoint in served)
    kept = [work for work in narrowed if work is not None] or [profile.works[-1]]
    works = [_answered(work, answers) for work in kept]
    works[-1] = _with_latency(replace(works[-1], match=(), modalities=()), answers.latency)
    if pattern is Pattern.ONLINE:
        return tuple(works)
    beside = pattern is Pattern.BOTH
    # Routes that are twins count apart: each has its part of what offline work may hold.
    in_flight = held_in_flight(answers, works if beside else []) // (2 if residency_tag(answers) else 1)
    offline = _answered(offline_work(profile, beside_online=beside, in_flight=in_flight), answers)
    if offline.endpoint not in served:
        offline = replace(offline, endpoint=kept[-1].endpoint, max_output_tokens=kept[-1].max_output_tokens)
    return (offline,) if pattern is Pattern.OFFLINE else (offline, *works)


def _narrowed(work: Work, answers: Answers) -> Work | None:
    """The work as far as some target may take what is in its prompts; None when nobody can."""
    targets = [one for model in answers.models.values() for one in (model.dedicated, *model.shared) if one is not None]

    def is_taken(modality: Modality) -> bool:
        return any(one.supports is None or NEEDED[modality] in one.supports for one in targets)

    modalities = tuple(filter(is_taken, work.modalities))
    return replace(work, modalities=modalities) if modalities or not work.modalities else None


def held_in_flight(answers: Answers, works: Iterable[Work]) -> int:
    """What the smallest of the engines holds; 0 without one."""
    engines = [model.dedicated for model in answers.models.values() if model.dedicated is not None]
    pace_s = gap_s(works)
    return min((room_of(one, answers, pace_s).max_in_flight * len(one.url) for one in engines), default=0)


def room_of(target: DedicatedAnswer, answers: Answers, pace_s: float | None) -> Fit:
    """How full the engine may run; `pace_s` is the time between two tokens that must be kept."""
    gpus = target.gpus or answers.economics.gpus or GPUS
    return fit(target, gpus, PROFILES[answers.interface].max_in_flight, pace_s)


def _answered(work: Work, answers: Answers) -> Work:
    """The work as the answers would have it paid for and ordered."""
    return _ordered(_priced(work, answers), answers)


def _priced(work: Work, answers: Answers) -> Work:
    """Where nothing is paid by the token, no rule speaks of it; and work can only wait for a GPU where there is one."""
    economics, require, want = answers.economics, list(work.require), list(work.want)
    if any(model.dedicated is None for model in answers.models.values()):
        require = [rule for rule in require if rule.key != "usd_per_mtok"]
    for name in _MONEY:
        usd = getattr(economics, name)
        if usd is not None:
            require = _with(require, ask(name, usd, _YOURS))
            want = [rule for rule in want if rule.key != name]
    if not any(model.shared for model in answers.models.values()):
        require, want = ([rule for rule in rules if rule.key not in _MONEY] for rules in (require, want))
    return replace(work, require=tuple(require), want=tuple(want))


def _ordered(work: Work, answers: Answers) -> Work:
    minded, prefer, why = answers.economics.minded, work.prefer, work.why
    if minded is Minded.BUDGET:
        prefer, why = Prefer.COST, "GPUs that are paid for first, then the cheapest provider"
    elif minded is Minded.LATENCY and work.name != "offline":
        prefer, why = Prefer.LATENCY, "whoever answers first, as measured"
    if prefer is not Prefer.LATENCY and all(model.dedicated is None for model in answers.models.values()):
        prefer, why = Prefer.COST, "the cheapest provider first"
    return replace(work, prefer=prefer, why=why)


def _with_latency(work: Work, latency: LatencyAnswer) -> Work:
    for name in LatencyAnswer.__slots__:
        value = getattr(latency, name)
        if value is not None:
            work = replace(work, want=tuple(_with(work.want, ask(name, value, _YOURS))))
    return work


def _with(rules: Iterable[Rule], rule: Rule) -> list[Rule]:
    """The rules with one that takes the place of its namesake, or else comes first."""
    kept = list(rules)
    for index, one in enumerate(kept):
        if one.key == rule.key and not one.shadow:
            kept[index] = rule
            return kept
    return [rule, *kept]


def gap_s(works: Iterable[Work]) -> float | None:
    """The time between two tokens that the most demanding of the works allows."""
    paces = [float(rule.value) for work in works for rule in work.want if rule.key == "perceived_tps"]
    return 1 / max(paces) if paces else None
