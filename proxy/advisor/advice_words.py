"""The advice in sentences, for the terminal and the page alike: what to do, why, and what would turn it over."""

from __future__ import annotations

from collections.abc import Iterator

from proxy.advisor import engine_advice
from proxy.advisor.advice import (
    CAPTIVE_QUANTILE,
    ENOUGH_DAYS,
    FULL_WEEK_DAYS,
    SURE,
    WORTHWHILE,
    Advice,
    Verdict,
    captive_share,
)
from proxy.advisor.bootstrap import Block
from proxy.advisor.breakeven import HOURS_A_MONTH, SECONDS_AN_HOUR
from proxy.advisor.reasons import Why
from proxy.advisor.sensitivity import Flip

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_ORDINALS = ("0th", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
DAY_HOURS = 24.0


def usd(amount: float) -> str:
    """Dollars as people say them: `$13.90`, `$5.8k`, `$1.2M`."""
    sign, size = "-" if amount < -0.004 else "", abs(amount)
    if size < 999.5:
        return f"{sign}${size:,.2f}"
    number, unit = (size / 1e3, "k") if size < 999_500 else (size / 1e6, "M")
    return f"{sign}${number:,.1f}{unit}" if number < 99.95 else f"{sign}${number:,.0f}{unit}"


def whole_usd(amount: float) -> str:
    """Dollars as an axis has them: `-$5`."""
    return f"{'-' if amount < 0 else ''}${abs(amount):,.4g}"


def hourly(amount: float) -> str:
    """Dollars an hour."""
    return f"{usd(amount)}/h"


def monthly(amount: float) -> str:
    """Dollars an hour, as dollars a month of 730 hours."""
    return f"{usd(amount * HOURS_A_MONTH)} a month"


def percent(share: float) -> str:
    """A share in per cent, with a decimal where it is small."""
    return f"{share:.1%}" if 0.0005 <= abs(share) < 0.0995 else f"{abs(share) if abs(share) < 0.0005 else share:.0%}"


def number(count: int) -> str:
    """A small number as a word."""
    return _NUMBERS[count] if count < len(_NUMBERS) else f"{count:,}"


def ordinal(count: int) -> str:
    """`second`."""
    return _ORDINALS[count] if 0 < count < len(_ORDINALS) else f"{count}th"


def rate(per_s: float) -> str:
    """Requests a second, as exactly as anybody wants to know."""
    return f"{per_s:.2g} requests/s" if per_s < 99.5 else f"{per_s:,.0f} requests/s"


def replicas(count: int) -> str:
    """`one replica`."""
    return f"{number(count)} replica{'' if count == 1 else 's'}"


def per_mtok(amount: float) -> str:
    """Dollars for a million tokens."""
    return f"${amount:.3f}/M" if amount < 0.1 else f"${amount:.2f}/M"


def headline(advice: Advice) -> str:
    """The verdict in so many words."""
    asked, sizing = advice.asked, advice.sizing
    name, have, to = f"`{asked.offer.name}`", asked.have, advice.recommended
    match advice.verdict:
        case Verdict.BUY:
            more = "more " if have else ""
            return f"Buy {number(to - have)} {more}{_noun(to - have)} of {name}: {_gain(advice, have, to)}"
        case Verdict.GIVE_BACK:
            return f"Give {number(have - to)} of {replicas(have)} of {name} back: {_gain(advice, have, to)}"
        case Verdict.KEEP:
            return f"Keep {replicas(have)} of {name}: {_why_keep(advice)}"
        case Verdict.WAIT:
            return f"Wait: {replicas(sizing.best)} of {name} would have paid, but {_why_wait(advice)}"
        case Verdict.DO_NOT_BUY:
            return f"Do not buy a GPU: {_why_not(advice)}"


def _noun(count: int) -> str:
    return "replica" if count == 1 else "replicas"


def _gain(advice: Advice, have: int, to: int) -> str:
    sizing = advice.sizing
    if to <= sizing.least and to > have:
        share = captive_share(advice.asked.demand, advice.value)
        need = f"{number(to)} serve it in time in {CAPTIVE_QUANTILE:.0%} of all moments"
        return f"no allowed shared target may serve {percent(share)} of the work, and {need}"
    gain = float(sizing.usd_per_hour[have] - sizing.usd_per_hour[to]) if have >= sizing.least else advice.saving(to)
    before = float(sizing.usd_per_hour[max(have, sizing.least)])
    return f"{hourly(gain)} less ({monthly(gain)}), {percent(gain / before if before else 0.0)} of the bill"


def _why_keep(advice: Advice) -> str:
    sizing, have = advice.sizing, advice.asked.have
    said = f"the {ordinal(have)} is used {percent(float(sizing.use[have - 1]))} of the time"
    need = f"and pays from {percent(advice.even.utilisation)} on"
    if have == sizing.least:
        return "no shared target that is allowed may serve what they do"
    if have <= sizing.best:
        return f"{said}, {need}; one more would not pay"
    return f"{said}, {need}, which is not certain enough to give it back"


def _why_wait(advice: Advice) -> str:
    certainty, best = advice.certainty, advice.sizing.best
    gain = advice.saving(best)
    told = f"{hourly(gain)} ({percent(gain / advice.base_usd_per_hour)} of the bill)"
    if certainty.block is not Block.DAY:
        return f"{told} on {watched(advice)} proves nothing about other days"
    next_one = min(advice.recommended + 1, best)
    if certainty.adds[next_one] < SURE:
        return (
            f"{told} is not certain: the {ordinal(next_one)} pays with a probability of {certainty.adds[next_one]:.0%}"
        )
    return f"{told} does not last: in one half of {watched(advice)} the {ordinal(next_one)} did not pay"


def _why_not(advice: Advice) -> str:
    even, sizing = advice.even, advice.sizing
    if not advice.mean.usd:
        return "nothing was asked for that has a price elsewhere"
    if not even.ever:
        full = f"a replica of `{advice.asked.offer.name}` that is always full makes a million tokens for"
        return f"{full} {per_mtok(even.usd_per_mtok)}, and shared they cost {per_mtok(even.shared_usd_per_mtok)}"
    if sizing.best > sizing.least:
        gain = advice.saving(sizing.best)
        share = percent(gain / advice.base_usd_per_hour)
        little = f"{replicas(sizing.best)} would save {hourly(gain)}, {share} of the bill"
        return f"{little}, and less than {WORTHWHILE:.0%} is not worth it"
    used, need = percent(float(sizing.use[0])), percent(even.utilisation)
    return f"it would be used {used} of the time, and pays from {need} on"


def watched(advice: Advice) -> str:
    """How long demand was watched."""
    hours = float(advice.sizing.hours.sum())
    if hours < 1:
        return f"{hours * 60:.0f} minutes"
    if hours < 48:
        return f"{hours:.1f} hours" if hours < 10 else f"{hours:.0f} hours"
    return f"{hours / DAY_HOURS:.3g} days"


def range_words(advice: Advice, count: int) -> str:
    """The 5th to the 95th percentile of what `count` replicas save, and the probability that it is anything."""
    low, _, high = advice.certainty.saving[count]
    if advice.certainty.block is Block.NOTHING:
        return "no interval from so little"
    return f"{usd(low)} to {usd(high)}/h, P(saves) {advice.certainty.positive[count]:.0%}"


def cautions(advice: Advice) -> Iterator[str]:
    """What is to be known before anybody believes it."""
    hours = float(advice.sizing.hours.sum())
    days = hours / DAY_HOURS
    if advice.certainty.block is Block.HOUR:
        yield f"{watched(advice)} is very little: intervals say how this day varied, and nothing of other days"
    elif advice.certainty.block is Block.NOTHING:
        yield f"{watched(advice)} is too little for any interval: watch {ENOUGH_DAYS} days"
    elif days < FULL_WEEK_DAYS - 0.1:
        yield f"{watched(advice)} is no whole week: weekends are often a third of weekdays; watch {ENOUGH_DAYS} days"
    elif days < ENOUGH_DAYS - 0.1:
        yield f"{watched(advice)} is one week, and another may differ more than its days do: watch {ENOUGH_DAYS}"
    if advice.asked.drawn:
        yield f"the traffic within rows of usage was drawn, {advice.asked.drawn}; meter it in seconds to be sure"
    if advice.sizing.best == advice.sizing.most:
        yield f"{replicas(advice.sizing.most)} is the most that was looked at: even more may pay"


def turning_points(advice: Advice) -> Iterator[str]:
    """What would flip the advice, a sentence for each direction and quantity."""
    best = advice.sizing.best
    for flip in advice.flips:
        told = _turning_point(advice, flip)
        if told:
            yield f"{told}: {_best_words(flip.into)}"
    for case in advice.providers:
        if case.best != best:
            yield f"{case.quantity}: {_best_words(case.best)} (all shared would be {hourly(case.base_usd_per_hour)})"


def _best_words(count: int) -> str:
    if not count:
        return "buy nothing"
    return f"{replicas(count)} {'is' if count == 1 else 'are'} best"


def _turning_point(advice: Advice, flip: Flip) -> str:
    factor = flip.factor
    if factor is None:
        return ""
    change = f"{factor - 1:+.0%}" if factor < 2 else f"x{factor:.1f}"
    shared, replica = advice.even.shared_usd_per_mtok, advice.asked.offer.usd_per_hour
    match flip.what:
        case "shared price":
            return f"shared tokens {change} ({per_mtok(shared)} -> {per_mtok(shared * factor)})"
        case "GPU price":
            return f"the replica {change} ({hourly(replica)} -> {hourly(replica * factor)})"
        case "demand":
            now = requests_per_s(advice)
            return f"demand {change} ({now:.3g} -> {now * factor:.3g} requests/s on average)"
        case what:
            return f"{what} {change}"


def requests_per_s(advice: Advice) -> float:
    """The mean rate of all requests over the time that was watched."""
    return float(advice.asked.demand.sums[:, :, 0].sum()) / (SECONDS_AN_HOUR * float(advice.sizing.hours.sum()))


def shared_mix(advice: Advice) -> dict[str, float]:
    """Which shared targets' prices make up the bill without GPUs, and what share of it each is."""
    spent: dict[str, float] = {}
    for index, one in enumerate(advice.value.chosen):
        if one is not None:
            spent[one.target] = spent.get(one.target, 0.0) + float(advice.value.usd[:, index].sum())
    whole = sum(spent.values())
    return {name: amount / whole for name, amount in sorted(spent.items(), key=lambda item: -item[1]) if whole}


def chunk_tokens(advice: Advice) -> int | None:
    """The `max_num_batched_tokens` with which such an engine keeps the objectives for such requests; None if none."""
    offer, mean = advice.asked.offer, advice.mean
    advised = engine_advice.advise(
        offer.profile,
        itl_s=offer.itl_s,
        ttft_s=advice.asked.ttft_s,
        input_tokens=max(1, round(mean.input_tokens)),
        output_tokens=max(1, round(mean.output_tokens)),
    )
    return None if advised is None else advised.max_batched_tokens


def cases(advice: Advice) -> Iterator[str]:
    """Each "what if": what the replicas would save then, and which number would be best."""
    for case in (*advice.cases, *advice.providers) if advice.mean.usd else ():
        least = advice.sizing.least
        world, count = f"{case.quantity} {case.change}", replicas(case.replicas)
        more = case.usd_per_hour - case.base_usd_per_hour
        told = (
            f"{world:<22} {count} {'saves' if case.replicas == 1 else 'save'} {percent(case.saving)} of"
            if more <= 0
            else f"{world:<22} {count} {'costs' if case.replicas == 1 else 'cost'} {hourly(more)} more than"
        )
        better = "" if case.best == case.replicas else f"; best is {number(case.best) if case.best > least else 'none'}"
        yield f"{told} {hourly(case.base_usd_per_hour)}{better}"


def alternatives(advice: Advice) -> Iterator[str]:
    """Replicas of other kinds, beside the one that was asked about."""
    bill = float(advice.sizing.usd_per_hour[advice.sizing.best])
    for one in advice.alternatives:
        there = one.sizing
        least = float(there.usd_per_hour[there.best])
        told = f"{there.best} x `{there.offer.name}` ({hourly(there.offer.usd_per_hour)}): {hourly(least)} in all"
        by = f"{hourly(abs(bill - least))} {'less' if least < bill else 'more'}"
        volume = f"pays from {rate(one.even.requests_per_s)} on" if one.even.ever else "can never pay"
        clear = ": the better choice" if one is advice.better else ""
        yield f"{told}, {by} (P(less) {one.less:.2f}); the first {volume}{clear}"


def growth(advice: Advice) -> Iterator[str]:
    """What is best in so many months."""
    for one in advice.later:
        yield (
            f"in {one.months:>2} months: {replicas(one.best)}, {hourly(one.usd_per_hour)} "
            f"instead of {hourly(one.base_usd_per_hour)}"
        )


def commitments(advice: Advice) -> Iterator[str]:
    """Whether to commit to each replica for a term."""
    terms = advice.asked.terms
    months = f"{terms.months:g} month{'' if terms.months == 1 else 's'}"
    for one in advice.commitments:
        fee = f"{months} at -{terms.discount:.0%} cost {usd(one.fee_usd)}"
        paid = f"without it {hourly(one.flexible_usd_per_hour)} against {hourly(one.committed_usd_per_hour)}"
        if not one.worth:
            yield f"{ordinal(one.replica)} replica: do not commit: {paid}"
        elif one.due:
            yield f"{ordinal(one.replica)} replica: commit now: {fee}, and {usd(one.paid_usd)} were paid without it"
        else:
            days = one.due_after_hours / DAY_HOURS
            yield f"{ordinal(one.replica)} replica: commit after {days:.0f} days like these ({fee}; {paid})"


def demand(advice: Advice) -> str:
    """What was asked for, and what it costs without GPUs."""
    mean = advice.mean
    rate = f"{requests_per_s(advice):.2f} requests/s of {mean.input_tokens:,.0f} + {mean.output_tokens:,.0f} tokens"
    mix = ", ".join(f"{name} {percent(share)}" for name, share in shared_mix(advice).items())
    priced = f", priced at {mix}" if mix else ", which no allowed shared target may serve"
    base = advice.base_usd_per_hour
    return (
        f"{watched(advice)} of {rate}{priced}: {hourly(base)}, {monthly(base)}"
        f" {'all shared' if not advice.sizing.least else 'with the least replicas'}; "
        f"metered in bins of {advice.asked.demand.bin_s:g} s"
    )


def even(advice: Advice) -> str:
    """From when on a replica pays."""
    there, offer = advice.even, advice.asked.offer
    full_rate = rate(there.full_requests_per_s)
    full = f"a replica of {offer.name} ({hourly(offer.usd_per_hour)}) takes {full_rate} of these"
    price = f"at full use {per_mtok(there.usd_per_mtok)}, shared {per_mtok(there.shared_usd_per_mtok)}"
    if not advice.mean.usd:
        return f"{full}, at full use {per_mtok(there.usd_per_mtok)}"
    if not there.ever:
        return f"{full}, {price}: it can never pay"
    volume = f"{rate(there.requests_per_s)}, {there.tokens_per_month / 1e9:,.1f} G tokens a month"
    return f"{full}, {price}: it pays from {percent(there.utilisation)} use on ({volume})"


def moving(advice: Advice) -> str:
    """What replicas that come and go could save beyond."""
    best = float(advice.sizing.usd_per_hour[advice.sizing.best])
    if not advice.mean.usd:
        return f"the last of them is used {percent(float(advice.sizing.use[advice.sizing.best - 1]))} of the time"
    plan, knowing = advice.schedule.usd_per_hour, advice.sizing.clairvoyant_usd_per_hour
    return (
        f"replicas that come and go by a schedule: {hourly(plan)} at best; by the hour, known beforehand: "
        f"{hourly(knowing)}. Scaling could save another {percent(max(0.0, 1 - plan / best))} to "
        f"{percent(max(0.0, 1 - knowing / best))}; the {_over_words(advice)}"
    )


def _over_words(advice: Advice) -> str:
    count = max(1, advice.sizing.best)
    above = float((advice.sizing.use_by_hour[count - 1] >= advice.even.utilisation).mean()) * DAY_HOURS
    return f"{ordinal(count)} replica is above break-even {above:.0f} hours a day"


_HOLDS = {True: "yes", False: "no", None: "unknown"}


def reasons(advice: Advice) -> Iterator[str]:
    """The three reasons to go dedicated, and whether they hold."""
    for reason in advice.reasons:
        yield f"{reason.why:<15} {_HOLDS[reason.holds]:<8} {reason.because}"


def evidence(advice: Advice) -> Iterator[tuple[str, str]]:
    """What a buyer has to show, in order: its name, and what it is."""
    best, least = advice.sizing.best, advice.sizing.least
    bill = float(advice.sizing.usd_per_hour[best])
    yield "Shared bill", f"{demand(advice)}"
    yield (
        "Hybrid bill",
        f"{replicas(best)}: {hourly(bill)}, {monthly(bill)}"
        + (f"; saves {hourly(advice.saving(best))}, {range_words(advice, best)}" if best > least else ""),
    )
    yield "Use against break-even", f"{even(advice)}; {_over_words(advice)}"
    yield "Commitment", "; ".join(commitments(advice))
    yield "SLO and uptime", _spare(advice)
    yield "What would flip it", "; ".join(turning_points(advice))
    yield "Replay of these days", "`spillway replay` plays the same trace through the router: dedicated, hybrid, shared"
    yield "Verdict", headline(advice)


def _spare(advice: Advice) -> str:
    told = next(reason.because for reason in advice.reasons if reason.why is Why.SPECIALIZATION)
    return f"{told}; shared targets are the spare, so no replica is kept only for the case that another fails"
