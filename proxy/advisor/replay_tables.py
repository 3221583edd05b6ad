"""The tables of a replay's report, cell by cell, for whoever draws them: the terminal and the page.

Theory of operation
-------------------
A column is a name and how its cell is read off a run, or off a part of one. Nothing here knows how wide a table may be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from proxy.advisor import replay_findings as say
from proxy.advisor.figures import LEVELS, Figures, Part
from proxy.advisor.replay_report import Report, replicas_words

MOST_ROWS = 20
"""Of a table of parts; the rest is in the JSON."""
Column = tuple[str, Callable[[Figures], str]]
Measure = tuple[str, Callable[[Figures], float], Callable[[float], str]]


def summary_columns(report: Report) -> tuple[Column, ...]:
    """What is told of each run, in a word and as it is read off."""

    def regret(run: Figures) -> str:
        times = report.regret(run)
        return "-" if times is None else f"{times:.2f}x"

    def dollars(run: Figures) -> str:
        share = report.dollar_share(run)
        return "-" if share is None else say.percent(share)

    def worst(run: Figures) -> str:
        return say.percent(float(run.minutes.attainment[run.minutes.worst]))

    return (
        ("policy", lambda run: run.policy),
        ("replicas", lambda run: replicas_words(run.replicas).removesuffix(" replicas").removesuffix(" replica")),
        ("$/h", say.hourly),
        ("GPUs", lambda run: say.usd(run.usd_per_hour(run.gpu_nano_usd))),
        ("shared", lambda run: say.usd(run.usd_per_hour(run.whole.shared_nano_usd))),
        ("$/month", say.monthly),
        ("of bound", regret),
        ("in time", lambda run: say.percent(run.whole.attainment)),
        ("worst minute", worst),
        ("TTFT P99", lambda run: say.seconds(run.whole.ttft_s.p99)),
        ("pace P99", lambda run: say.seconds(run.whole.pace_s.p99)),
        ("E2E P99", lambda run: say.seconds(run.whole.e2e_s.p99)),
        ("spilled", lambda run: say.percent(run.whole.spill_share)),
        ("share of $", dollars),
        ("refused", lambda run: f"{run.whole.refused:,}"),
    )


PART_COLUMNS: tuple[tuple[str, Callable[[Part], str]], ...] = (
    ("requests", lambda part: f"{part.requests:,}"),
    ("in time", lambda part: say.percent(part.attainment)),
    ("spilled", lambda part: say.percent(part.spill_share)),
    ("refused", lambda part: f"{part.refused:,}"),
    ("TTFT P50", lambda part: say.seconds(part.ttft_s.p50)),
    ("TTFT P95", lambda part: say.seconds(part.ttft_s.p95)),
    ("TTFT P99", lambda part: say.seconds(part.ttft_s.p99)),
    ("pace P50", lambda part: say.seconds(part.pace_s.p50)),
    ("pace P99", lambda part: say.seconds(part.pace_s.p99)),
    ("E2E P50", lambda part: say.seconds(part.e2e_s.p50)),
    ("E2E P99", lambda part: say.seconds(part.e2e_s.p99)),
)


def parts_of(run: Figures) -> dict[str, tuple[Part, ...]]:
    """Who was served, by everything of which there is more than one to tell apart."""
    kinds = {"route": run.routes, "tenant": run.tenants, "app": run.apps, "target": run.targets}
    return {kind: parts for kind, parts in kinds.items() if len(parts) > 1}


def quantile_rows(run: Figures) -> Iterator[tuple[str, ...]]:
    """What was waited for, and how long at each level."""
    kinds = {"TTFT": run.whole.ttft_s, "pace": run.whole.pace_s, "E2E": run.whole.e2e_s}
    for kind, of in kinds.items():
        yield kind, *(say.seconds(getattr(of, f"p{level}")) for level in LEVELS)


def side_by_side(report: Report) -> Iterator[tuple[str, str, str, str]]:
    """The best runs of the first two policies, measure by measure, and how the second differs."""
    first, second = (report.best(policy) for policy in report.policies[:2])
    for name, measure, words in _measures(report):
        one, other = measure(first), measure(second)
        yield name, words(one), words(other), _difference(one, other, words)


def _difference(one: float, other: float, words: Callable[[float], str]) -> str:
    change = other - one
    if change != change or not change:  # noqa: PLR0124  (NaN of what is not known)
        return "-" if change else "same"
    return ("+" if change > 0 else "-") + words(abs(change)).replace(" %", " points")


def _measures(report: Report) -> list[Measure]:
    def dollars(run: Figures) -> float:
        share = report.dollar_share(run)
        return float("nan") if share is None else share

    waits: list[Measure] = [
        (f"{kind} P{level}", _quantile(column, level), say.seconds)
        for kind, column in (("TTFT", "ttft_s"), ("pace", "pace_s"), ("E2E", "e2e_s"))
        for level in LEVELS
    ]
    return [
        ("dollars an hour", lambda run: run.usd_per_hour(run.nano_usd), say.usd),
        ("  for GPUs", lambda run: run.usd_per_hour(run.gpu_nano_usd), say.usd),
        ("  to providers", lambda run: run.usd_per_hour(run.whole.shared_nano_usd), say.usd),
        ("served in time", lambda run: run.whole.attainment, _points),
        ("in the worst minute", lambda run: float(run.minutes.attainment[run.minutes.worst]), _points),
        *waits,
        ("spilled requests", lambda run: run.whole.spill_share, _points),
        ("share of dollars", dollars, _points),
        ("refused", lambda run: run.whole.refused, lambda count: f"{count:,.0f}"),
        ("oscillations an hour", lambda run: run.oscillations_per_hour, lambda count: f"{count:.2g}"),
    ]


def _quantile(column: str, level: int) -> Callable[[Figures], float]:
    return lambda run: float(getattr(getattr(run.whole, column), f"p{level}"))


def _points(share: float) -> str:
    return "-" if share != share else f"{share * 100:.2f} %"  # noqa: PLR0124  (NaN)
