"""The table of regrets, and whether it meets its bars."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import exp, inf, log
from typing import Any

from tests.bench.regret_robust import TROUBLES, WELL
from tests.bench.regret_runs import Least, Row

MOST_MEAN = 1.12
MOST_REGRET = 1.20
LEAST_MET = 0.995
LEAST_WORST = 0.95
MOST_ADVISOR_REGRET = 1.02
MOST_DEARER = 1.05
"""Of false profiles and stale news, which no GPU is to blame for."""
MOST_SWINGS = 1.0
MOST_RECOVERY_S = 30.0
HARDEST_MET = 0.95


@dataclass(slots=True, kw_only=True)
class Traffic:
    """All that was found for one trace. `bills` are what the advisor expects with 0, 1, ... replicas."""

    name: str
    counts: bool
    least: Least
    advised: int
    bills: Sequence[float]
    ours: Mapping[int, Row]
    peak: Row
    others: Mapping[str, Row | None] = field(default_factory=dict)

    @property
    def mine(self) -> Row:
        """Ours, with as many replicas as the advisor says."""
        return self.ours[self.advised]

    def regret(self, row: Row) -> float:
        """A cost in bounds."""
        return row.usd_per_hour / self.least.usd_per_hour

    @property
    def advisor_regret(self) -> float:
        """What the advisor's number of replicas costs more than the best one."""
        return self.mine.usd_per_hour / min(row.usd_per_hour for row in self.ours.values())

    def regret_of(self, rule: str) -> float:
        """The regret of one of the others; that of all shared where the rule is not feasible at all."""
        return self.regret(self.others[rule] or self.ours[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar, and what was measured against it."""

    name: str
    value: float
    limit: float
    at_most: bool = True

    @property
    def met(self) -> bool:
        """Whether it is met."""
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    def __str__(self) -> str:
        sign = "<=" if self.at_most else ">="
        return f"{'PASS' if self.met else 'FAIL'}  {self.name}: {self.value:.4g} (bar {sign} {self.limit:g})"


def geometric_mean(values: Sequence[float]) -> float:
    return exp(sum(map(log, values)) / len(values))


def bars(traffic: Sequence[Traffic], robust: Sequence[Row]) -> list[Bar]:
    """The bars of what counts."""
    counted = [one for one in traffic if one.counts]
    found = []
    if counted:
        regrets = [one.regret(one.mine) for one in counted]
        found = [
            Bar(name="regret, geometric mean", value=geometric_mean(regrets), limit=MOST_MEAN),
            Bar(name="regret, worst", value=max(regrets), limit=MOST_REGRET),
            Bar(name="attainment", value=min(one.mine.met for one in counted), limit=LEAST_MET, at_most=False),
            Bar(name="worst minute", value=min(one.mine.worst for one in counted), limit=LEAST_WORST, at_most=False),
            Bar(
                name="cost with the advisor's replicas, of the least",
                value=max(one.advisor_regret for one in counted),
                limit=MOST_ADVISOR_REGRET,
            ),
        ]
    return [*found, *_robust_bars(robust)]


def _robust_bars(robust: Sequence[Row]) -> Iterator[Bar]:
    """Rows come in the order of `TROUBLES`, for each trace anew: what nothing is wrong with is what others go by."""
    well = 0.0
    for row in robust:
        if row.rule == WELL:
            well = row.usd_per_hour
            yield Bar(name="swings an hour", value=row.oscillations_per_hour, limit=MOST_SWINGS)
        elif not TROUBLES[row.rule].costs:
            yield Bar(name=f"{row.rule}: cost, of that without", value=row.usd_per_hour / well, limit=MOST_DEARER)
        yield Bar(name=f"{row.rule}: attainment", value=row.met, limit=HARDEST_MET, at_most=False)
        if "recovered_s" in row.more:
            yield Bar(name=f"{row.rule}: seconds to recover", value=row.more["recovered_s"], limit=MOST_RECOVERY_S)


HEADING = "".join(
    f"{word:>{width}}"
    for word, width in (
        ("k", 37),
        ("$/h", 9),
        ("regret", 8),
        ("met %", 9),
        ("worst min %", 13),
        ("spill %", 9),
        ("of $ %", 8),
        ("req/s", 8),
    )
)


def table(traffic: Sequence[Traffic]) -> str:
    """A block for each trace, and the means below."""
    blocks = ["\n".join(_block(one)) for one in traffic]
    counted = [one for one in traffic if one.counts]
    if counted:
        blocks.append("\n".join(_means(counted)))
    return "\n\n".join(blocks)


def _block(one: Traffic) -> Iterator[str]:
    yield f"{one.name}{'' if one.counts else '  (apart: does not count)'}"
    yield HEADING
    least = one.least
    yield (
        f"  {'bound (' + least.method + ')':32}{least.replicas:3d}{least.usd_per_hour:9.2f}{1:8.3f}"
        + " " * 31
        + (f"{100 * least.spilled_value:8.1f}")
    )
    yield _line("all shared", one.ours[0], one)
    yield _line("all dedicated, for the peak", one.peak, one)
    for rule, row in one.others.items():
        yield _line(rule, row, one) if row else f"  {rule:32}  - nothing keeps 99 %, or costs less than all shared"
    for replicas in sorted(one.ours):
        if replicas:
            says = " (advised)" if replicas == one.advised else ""
            yield _line(f"ours, advisor says {one.bills[replicas]:.2f}{says}", one.ours[replicas], one)


def _line(name: str, row: Row, one: Traffic) -> str:
    named = name if row.rule in {"ours", name, "all dedicated"} else f"{name}: {row.rule}"
    return (
        f"  {named:32}{row.replicas:3d}{row.usd_per_hour:9.2f}{one.regret(row):8.3f}{100 * row.met:9.2f}"
        f"{100 * row.worst:13.2f}{100 * row.spilled:9.2f}{100 * row.spilled_value:8.1f}{row.requests_per_s:8.0f}"
    )


def _means(counted: Sequence[Traffic]) -> Iterator[str]:
    yield f"{'regret over all':34}{'geometric mean':>16}{'worst':>8}"
    rules: dict[str, list[float]] = {
        "all shared": [one.regret(one.ours[0]) for one in counted],
        "all dedicated, for the peak": [one.regret(one.peak) for one in counted],
    }
    rules |= {rule: [one.regret_of(rule) for one in counted] for rule in counted[0].others}
    rules["ours, with the advisor's replicas"] = [one.regret(one.mine) for one in counted]
    for rule, regrets in rules.items():
        yield f"  {rule:32}{geometric_mean(regrets):16.3f}{max(regrets):8.3f}"


def robust_table(name: str, rows: Sequence[Row]) -> str:
    """What became of one trace in every trouble, beside the study's figures."""
    lines = [
        f"{name}, {rows[0].replicas} replicas, in trouble",
        f"{'':36}{'$/h':>8}{'met %':>9}{'worst min %':>13}{'refused %':>11}{'swings/h':>10}   study: $/h, met %",
    ]
    for row in rows:
        paper = TROUBLES[row.rule].paper
        told = f"{paper[0]:8.2f}{100 * paper[1]:8.2f}" if paper else ""
        more = "".join(
            f"  {name.replace('_', ' ')} {value:.0f}" if name.endswith("_s") else f"  {name} {100 * value:.1f} %"
            for name, value in row.more.items()
        )
        lines.append(
            f"  {row.rule:34}{row.usd_per_hour:8.2f}{100 * row.met:9.2f}{100 * row.worst:13.2f}"
            f"{100 * row.refused:11.2f}{row.oscillations_per_hour:10.1f}   {told}{more}"
        )
    return "\n".join(lines)


def document(traffic: Sequence[Traffic], robust: Sequence[Row], judged: Sequence[Bar]) -> dict[str, Any]:
    """Everything, for other programs."""
    return {
        "traffic": [asdict(one) | {"regret": one.regret(one.mine)} for one in traffic],
        "robust": [asdict(row) for row in robust],
        "bars": [asdict(bar) | {"met": bar.met, "value": None if bar.value == inf else bar.value} for bar in judged],
    }
