"""The advice: buy, wait, do not buy, keep, or give one back, with all that it was worked out from.

Theory of operation
-------------------
The cheapest number of replicas on the days that were metered is `best`. What is *recommended* is more careful: each
replica has to be worth its price with a probability of 95 %, and in both halves of the time; and all of them together
have to save 2 % of the bill, for less is not worth anybody's trouble. If more would have been best than that, the
advice is to wait. Days are what counts: from fewer than three nothing follows but that there may be something to gain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from proxy.advisor.bootstrap import Block, Certainty, probability_less, resampled
from proxy.advisor.breakeven import BreakEven, Mean, Offer, break_even
from proxy.advisor.commit import Commitment, Terms, commitment
from proxy.advisor.demand import Demand
from proxy.advisor.reasons import Promise, Reason, Seen, Steps, orchestration, scale, specialization
from proxy.advisor.sensitivity import Case, Flip, Question, case, flips, usual_cases
from proxy.advisor.sizing import Schedule, Sizing, scheduled
from proxy.advisor.value import Shared, Value, mean_request, value_of

SURE = 0.95
"""How likely a replica has to pay before it is bought, or not to before it is given back."""
WORTHWHILE = 0.02
"""Of the bill: what saves less is not worth doing."""
CAPTIVE_QUANTILE = 0.99
"""Of all bins: how often work that may go nowhere else has to find room."""
ENOUGH_REPLICAS = 6
"""How many are looked at first: more where the best is among the last of them, up to `MOST_REPLICAS`."""
MOST_REPLICAS = 1000
FULL_WEEK_DAYS = 7
ENOUGH_DAYS = 14
"""Two of each weekday: from then on there is no caution."""
SOON_MONTHS = (0, 1, 2, 3, 6, 9, 12)
"""For which growth is told."""


class Verdict(StrEnum):
    """What to do."""

    BUY = "buy"
    WAIT = "wait"
    DO_NOT_BUY = "do not buy"
    KEEP = "keep"
    GIVE_BACK = "give back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What advice is asked on.

    `lawful[i]` are the shared targets that app i may use and whose prices count; `providers` are other such choices, by
    what to call them. `have` is how many replicas of `offer` there are, `fewest` and `most` between which numbers to
    look (None: as many as it takes); `others` are replicas of other kinds. `growth` is the demand's, per month.
    `ttft_s` is the objective by which the bins were made. `drawn` says how the demand was drawn from coarse usage, if
    it was.
    """

    demand: Demand
    offer: Offer
    lawful: Sequence[Sequence[Shared]]
    providers: Mapping[str, Sequence[Sequence[Shared]]]
    others: Sequence[Offer] = ()
    have: int = 0
    fewest: int = 0
    most: int | None = None
    growth: float = 0.0
    terms: Terms = field(default_factory=Terms)
    seen: Sequence[Seen] = ()
    promise: Promise = field(default_factory=Promise)
    steps: Steps | None = None
    ttft_s: float = 2.0
    drawn: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Replicas of another kind, as many as are best; `less` is the probability that they cost less than the best of
    the kind that was asked about.
    """

    sizing: Sizing
    even: BreakEven
    less: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """What is best in so many months, if demand grows as was said."""

    months: int
    best: int
    base_usd_per_hour: float
    usd_per_hour: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The verdict, and the figures. `recommended` is the number of replicas to have now."""

    asked: Asked
    question: Question
    value: Value
    mean: Mean
    even: BreakEven
    sizing: Sizing
    certainty: Certainty
    schedule: Schedule
    verdict: Verdict
    recommended: int
    cases: tuple[Case, ...]
    providers: tuple[Case, ...]
    flips: tuple[Flip, ...]
    commitments: tuple[Commitment, ...]
    alternatives: tuple[Alternative, ...]
    later: tuple[Later, ...]
    reasons: tuple[Reason, ...]

    @property
    def base_usd_per_hour(self) -> float:
        """The bill with the least replicas that there can be: all shared, as a rule."""
        return float(self.sizing.usd_per_hour[self.sizing.least])

    def saving(self, replicas: int) -> float:
        """What `replicas` save of that bill, in dollars an hour."""
        return self.base_usd_per_hour - float(self.sizing.usd_per_hour[replicas])

    @property
    def better(self) -> Alternative | None:
        """Replicas of another kind that cost clearly less, if there are any."""
        bill = self.sizing.usd_per_hour[self.sizing.best]
        clear = [
            one
            for one in self.alternatives
            if one.sizing.usd_per_hour[one.sizing.best] < (1 - WORTHWHILE) * bill and one.less >= SURE
        ]
        return min(clear, key=lambda one: float(one.sizing.usd_per_hour.min()), default=None)


def advise(asked: Asked, draws: np.random.Generator) -> Advice:
    """The advice on `asked`; `draws` only resample the days."""
    value = value_of(asked.demand, asked.lawful)
    mean = mean_request(asked.demand, value, asked.offer.profile)
    question = _question(asked, asked.offer, value)
    sizing = question.size()
    certainty = resampled(sizing, draws)
    verdict, recommended = _verdict(sizing, certainty, asked.have)
    even = break_even(asked.offer, mean)
    shown = max(1, recommended, sizing.best)
    return Advice(
        asked=asked,
        question=question,
        value=value,
        mean=mean,
        even=even,
        sizing=sizing,
        certainty=certainty,
        schedule=scheduled(sizing),
        verdict=verdict,
        recommended=recommended,
        cases=usual_cases(question, shown),
        providers=_provider_cases(asked, value, shown),
        flips=flips(question, sizing.best),
        commitments=tuple(commitment(sizing, k, asked.terms) for k in range(1, min(shown + 1, sizing.most) + 1)),
        alternatives=tuple(_alternative(asked, other, value, sizing, draws) for other in asked.others),
        later=_later(question, asked.growth) if asked.growth else (),
        reasons=_reasons(asked, value, even, sizing),
    )


def captive_share(demand: Demand, value: Value) -> float:
    """The share of the work that no shared target may do."""
    work = demand.work_s(demand.profile).sum(axis=0)
    whole = float(work.sum())
    return float(work[value.captive].sum()) / whole if whole else 0.0


def _question(asked: Asked, offer: Offer, value: Value) -> Question:
    mean = mean_request(asked.demand, value, offer.profile)
    captive = _least(asked.demand.on(offer.profile), captive_share(asked.demand, value), offer.capacity)
    least = max(captive, asked.fewest)
    most = max(asked.most or ENOUGH_REPLICAS, asked.have, least)
    question = Question(demand=asked.demand, offer=offer, usd_per_work_s=mean.usd_per_work_s, most=most, least=least)
    while asked.most is None and question.most < MOST_REPLICAS and question.size().best > question.most - 2:
        question = replace(question, most=2 * question.most)
    return question


def _least(demand: Demand, share: float, capacity: float) -> int:
    """How many replicas captive work needs to be served in time: its bursts are taken to be like those of all."""
    if share <= 0 or capacity <= 0:
        return 0
    reached = np.cumsum(demand.counts.sum(axis=0)) / demand.counts.sum()
    quantile = demand.edges[1:][min(int(np.searchsorted(reached, CAPTIVE_QUANTILE)), len(reached) - 1)]
    return max(1, int(np.ceil(share * quantile / capacity)))


def _verdict(sizing: Sizing, certainty: Certainty, have: int) -> tuple[Verdict, int]:
    """What to do, and how many replicas to have then."""
    bills, best = sizing.usd_per_hour, sizing.best
    base = bills[sizing.least]
    worthwhile = best > sizing.least and base - bills[best] >= WORTHWHILE * base
    sure = _sure(sizing, certainty) if worthwhile else sizing.least
    if have > sizing.least and have > best and _surely_less(certainty, have):
        while have - 1 >= best and have > sizing.least and _surely_less(certainty, have):
            have -= 1
        return Verdict.GIVE_BACK, have
    if sure > have:
        return Verdict.BUY, sure
    if worthwhile and best > have:
        return Verdict.WAIT, have
    return (Verdict.KEEP if have else Verdict.DO_NOT_BUY), have


def _sure(sizing: Sizing, certainty: Certainty) -> int:
    """The largest number of which every single replica is worth its price, as far as can be known."""
    replicas = sizing.least
    if certainty.block is not Block.DAY:
        return replicas
    while replicas < sizing.best and certainty.adds[replicas + 1] >= SURE and certainty.trend[replicas + 1] > 0:
        replicas += 1
    return replicas


def _surely_less(certainty: Certainty, have: int) -> bool:
    return certainty.block is Block.DAY and certainty.adds[have] <= 1 - SURE and certainty.trend[have] < 0


def _provider_cases(asked: Asked, value: Value, replicas: int) -> tuple[Case, ...]:
    cases = []
    for name, lawful in asked.providers.items():
        there = value_of(asked.demand, lawful)
        if there.chosen == value.chosen:
            continue
        sizing = _question(asked, asked.offer, there).size()
        cases.append(case(name, "", sizing, min(replicas, sizing.most)))
    return tuple(cases)


def _alternative(asked: Asked, other: Offer, value: Value, sizing: Sizing, draws: np.random.Generator) -> Alternative:
    there = _question(asked, other, value).size()
    less = probability_less(there, there.best, sizing, sizing.best, draws)
    even = break_even(other, mean_request(asked.demand, value, other.profile))
    return Alternative(sizing=there, even=even, less=less)


def _later(question: Question, growth: float) -> tuple[Later, ...]:
    found = []
    for months in SOON_MONTHS:
        sizing = question.size(volume=(1 + growth) ** months)
        bills = sizing.usd_per_hour
        best = sizing.best
        found.append(
            Later(
                months=months, best=best, base_usd_per_hour=float(bills[sizing.least]), usd_per_hour=float(bills[best])
            )
        )
    return tuple(found)


def _reasons(asked: Asked, value: Value, even: BreakEven, sizing: Sizing) -> tuple[Reason, ...]:
    captive = [app.model or app.name for app, alone in zip(asked.demand.apps, value.captive, strict=True) if alone]
    share = captive_share(asked.demand, value)
    return (
        scale(even, float(sizing.use[0])),
        specialization(list(dict.fromkeys(captive)), share, asked.seen, asked.promise),
        orchestration(asked.steps),
    )
