"""What a replay found, in sentences: the headings of its report, and the last lines in the terminal.

Theory of operation
-------------------
Whoever decides about GPUs reads the headings and nothing else, so each says what was found, with the number that
carries it and the one it has to be held against.
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from proxy.advisor.figures import HOURS_A_MONTH, MINUTE_S, Figures
from proxy.advisor.replay_report import GOAL, Report, best, replicas_words
from proxy.meters.money import format_usd

DAY_S = 86400.0
TWO_HOURS_S = 7200.0


def verdict(report: Report, policy: str) -> str:
    """What the policy's best run costs, against nothing but shared targets and against the bound."""
    run = report.best(policy)
    with_ = f"With {replicas_words(run.replicas)}" if any(run.replicas.values()) else "Without GPUs of one's own"
    words = f"{with_}, this traffic costs {hourly(run)} an hour ({monthly(run)} a month)"
    against = list(filter(None, (_against_shared(report, run), _against_bound(report, run))))
    served = f"{percent(run.whole.attainment)} of requests were served in time"
    short = "" if run.whole.attainment >= GOAL else f", below the goal of {percent(GOAL)}"
    return f"{', '.join([words, ' and '.join(against)]) if against else words}; {served}{short}."


def _against_shared(report: Report, run: Figures) -> str:
    shared = report.all_shared(run.policy)
    if shared is None or shared is run or not shared.nano_usd:
        return ""
    change = 1.0 - run.nano_usd / shared.nano_usd
    word = "less" if change >= 0 else "more"
    return f"{percent(abs(change))} {word} than with shared APIs alone ({hourly(shared)})"


def _against_bound(report: Report, run: Figures) -> str:
    regret, least = report.regret(run), report.least(run)
    if regret is None or least is None:
        return ""
    return f"{percent(regret - 1.0)} above the least that any rule could pay ({usd(run.usd_per_hour(least.nano_usd))})"


def cost_heading(report: Report) -> str:
    """Which number of replicas is the cheapest."""
    if len(report.policies) > 1:
        return _comparison(report)
    run = report.best(report.policies[0])
    shared = report.all_shared(run.policy)
    if shared is run:
        return f"Cheapest without GPUs of one's own: {hourly(run)} an hour"
    without = "" if shared is None else f", against {hourly(shared)} with none"
    few = "" if len(report.runs) > 1 else "Cost "
    return f"{few or 'Cheapest '}with {replicas_words(run.replicas)}: {hourly(run)} an hour{without}"


def _comparison(report: Report) -> str:
    runs = sorted((report.best(policy) for policy in report.policies), key=lambda run: run.nano_usd)
    cheap, dear = runs[0], runs[-1]
    if cheap.nano_usd == dear.nano_usd:
        return f"The policies cost the same: {hourly(cheap)} an hour"
    part = percent(1.0 - cheap.nano_usd / dear.nano_usd)
    return f"{cheap.policy} costs {part} less than {dear.policy}: {hourly(cheap)} against {hourly(dear)} an hour"


def baselines_heading(report: Report) -> str:
    """The policy's best run against the best other rule."""
    run = min((report.best(policy) for policy in report.policies), key=lambda one: one.nano_usd)
    other = best(report.baselines)
    change = run.nano_usd / other.nano_usd - 1.0
    word = "less" if change <= 0 else "more"
    named = f"{other.policy}, tuned in hindsight ({hourly(other)} an hour)"
    return f"{percent(abs(change))} {word} than the best other rule, {named}"


def attainment_heading(report: Report, run: Figures) -> str:
    """How bad it got, and when."""
    worst = run.minutes.worst
    share = float(run.minutes.attainment[worst])
    if share == 1.0:
        return "In every single minute all requests were served in time"
    return f"In the worst minute ({moment(report, worst)}) {percent(share)} of requests were served in time"


def wait_heading(run: Figures) -> str:
    """What 99 of 100 waited for the first token, against the objective."""
    slow = run.whole.ttft_s.p99
    if np.isnan(slow):
        return "No request was served"
    objectives = sorted({ttft_s for ttft_s, _ in run.objectives if np.isfinite(ttft_s)})
    against = f", the objective being {' or '.join(map(seconds, objectives))}" if objectives else ""
    return f"99 of 100 first tokens came within {seconds(slow)}{against}"


def lanes_heading(run: Figures) -> str:
    """How much spilled, and whether anybody was refused."""
    refused = (
        f"{percent(run.whole.refused / run.whole.requests)} were refused" if run.whole.refused else "none was refused"
    )
    spilled = f"{percent(run.whole.spill_share)} of requests spilled" if run.whole.spilled else "No request spilled"
    return f"{spilled}, {refused}"


def spill_heading(run: Figures) -> str:
    """When spilling was dearest, against what a replica costs."""
    dollars = run.minutes.shared_nano_usd
    if not dollars.any():
        return "Nothing was paid to shared providers"
    per_hour = usd(float(dollars.max()) / 1e9 * 3600.0 / MINUTE_S)
    mean = usd(run.usd_per_hour(run.whole.shared_nano_usd))
    return f"Shared providers took {mean} an hour, and {per_hour} an hour in the dearest minute"


def moment(report: Report, minute: int) -> str:
    """A minute of the trace by the clock, if the trace has one, or by its number."""
    began_at_s = report.traffic.began_at_s
    if began_at_s is None and report.traffic.span_s < TWO_HOURS_S:
        return f"minute {minute}"
    if began_at_s is None:
        return f"after {minute // 60} h {minute % 60} min"
    at = datetime.fromtimestamp(began_at_s + minute * MINUTE_S, UTC)
    return at.strftime("%H:%M UTC" if report.traffic.span_s < DAY_S else "%d %b %H:%M UTC").lstrip("0")


def hourly(run: Figures) -> str:
    """Dollars an hour."""
    return usd(run.usd_per_hour(run.nano_usd))


def monthly(run: Figures) -> str:
    """Dollars a month, without cents."""
    return f"${run.usd_per_hour(run.nano_usd) * HOURS_A_MONTH:,.0f}"


def usd(dollars: float) -> str:
    """Dollars for people."""
    return format_usd(round(dollars * 1e9))


def percent(share: float) -> str:
    """With as many digits as tell it from all and from none: `58 %`, `4.5 %`, `99.99 %`."""
    if np.isnan(share):
        return "-"
    value = share * 100.0
    if 0.0 < share < 5e-5:
        return "<0.01 %"
    if 0.99995 <= share < 1.0:
        return ">99.99 %"
    rest = min(abs(value), abs(100.0 - value)) if value <= 100.0 else value
    places = 0 if rest >= 9.95 else 1 if rest >= 0.95 else 2
    return f"{value:.{places}f}".removesuffix(".00").removesuffix(".0") + " %"


def seconds(value: float) -> str:
    """`21.3 ms`, `1.4 s`, `12.3 s`, to three digits."""
    if np.isnan(value):
        return "-"
    return f"{value * 1e3:.3g} ms" if value < 0.9995 else f"{value:.3g} s"


def objective_words(ttft_s: float, pace_s: float) -> str:
    """What a route asks for: `first token within 2 s, 50 ms per output token`."""
    words = [f"first token within {seconds(ttft_s)}"] if np.isfinite(ttft_s) else []
    words += [f"{seconds(pace_s)} per output token"] if np.isfinite(pace_s) else []
    return ", ".join(words) or "any time"


def span(value_s: float) -> str:
    """How long a trace is: `58 min`, `24 h`, `7 days`."""
    if value_s < 5400.0:
        return f"{value_s / 60.0:.0f} min" if value_s >= 90.0 else f"{value_s:.0f} s"
    return f"{value_s / 3600.0:.1f}".removesuffix(".0") + " h" if value_s < 3 * DAY_S else f"{value_s / DAY_S:.0f} days"
