"""The plots of the advice, each as one inline SVG that can be read without colour, and aloud."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from proxy.advisor import advice_words as words
from proxy.advisor.advice import Advice
from proxy.advisor.bootstrap import Block, Certainty
from proxy.advisor.drawing import ALARM, INK, drawn
from proxy.advisor.sensitivity import Case

Floats = NDArray[np.float64]
DARK, LIGHT, HATCH = "#1f4e79", "#f0b775", "////"
DASHED: Any = (0, (6, 3))
MOST_SHOWN = 8
POINTS = 41
LARGEST_VOLUME = 2.0


def shown_replicas(advice: Advice) -> list[int]:
    """The numbers of replicas that are worth a bar."""
    sizing = advice.sizing
    last = min(sizing.most, max(sizing.best, advice.asked.have, sizing.least) + 3)
    return list(range(max(sizing.least, last - MOST_SHOWN + 1), last + 1))


def bills(advice: Advice) -> str:
    """The bill by number of replicas: GPU hours and shared tokens, with the interval of the whole."""
    sizing, certainty, counts = advice.sizing, advice.certainty, shown_replicas(advice)
    with drawn(3.7) as (figure, draw):
        axes = figure.add_subplot()
        whole = sizing.usd_per_hour[counts]
        gpus = np.array(counts) * sizing.offer.usd_per_hour
        axes.bar(counts, gpus, 0.62, color=DARK, edgecolor=INK, linewidth=0.6, label="GPU hours")
        axes.bar(
            counts,
            whole - gpus,
            0.62,
            bottom=gpus,
            color=LIGHT,
            hatch=HATCH,
            edgecolor=INK,
            linewidth=0.6,
            label="shared tokens",
        )
        tops = np.maximum(whole, _interval(axes, certainty, counts, whole))
        for count, bill, top in zip(counts, whole, tops, strict=True):
            axes.annotate(
                words.usd(bill),
                (count, top),
                xytext=(0, 4),
                textcoords="offset points",
                ha="center",
                fontsize=9,
                fontweight="bold" if count == sizing.best else "normal",
            )
        axes.set_xticks(counts)
        axes.tick_params(axis="x", length=0)
        axes.set_xlabel(f"replicas of {sizing.offer.name}")
        _dollars(axes)
        axes.set_ylim(0, 1.12 * float(tops.max()) or 1.0)
        _legend(axes, 3)
        return draw("The bill by number of replicas")


def _interval(axes: Any, certainty: Certainty, counts: list[int], whole: Floats) -> Floats:
    """Draws the intervals, edged in white where they cross dark bars; returns where they end."""
    if certainty.block is Block.NOTHING:
        return whole
    spread = certainty.bill[counts]
    reach = np.clip(np.stack((whole - spread[:, 0], spread[:, 2] - whole)), 0.0, None)
    label = f"5-95 %, {certainty.block.value}s resampled"
    drawn = axes.errorbar(counts, whole, yerr=reach, fmt="none", ecolor=INK, capsize=5, linewidth=1.2, label=label)
    for line in (*drawn.lines[1], *drawn.lines[2]):
        line.set_path_effects([withStroke(linewidth=3.5, foreground="white")])
    ends: Floats = spread[:, 2]
    return ends


def duration(advice: Advice) -> str:
    """For which share of the time demand was above so much, against the capacity of each number of replicas."""
    sizing = advice.sizing
    demand = advice.asked.demand.on(sizing.offer.profile)
    with drawn(3.7) as (figure, draw):
        axes = figure.add_subplot()
        counts = demand.counts.sum(axis=0)
        above = counts[::-1].cumsum()[::-1] / counts.sum()
        level = demand.edges[:-1]
        x, y = np.concatenate((above, [0.0])), np.concatenate((level, demand.edges[len(above) : len(above) + 1]))
        there = x > 2e-5
        x, y = x[there], y[there]
        axes.fill_betweenx(y, 0, x, facecolor=LIGHT, hatch=HATCH, edgecolor="white", linewidth=0)
        served = np.minimum(y, sizing.best * sizing.offer.capacity)
        if sizing.best:
            axes.fill_betweenx(served, 0, x, facecolor=DARK, linewidth=0, alpha=0.9)
        axes.plot(x, y, color=INK, linewidth=1.4, label=f"demand in bins of {demand.bin_s:g} s")
        top = max(float(np.interp(0.002, x[::-1], y[::-1])), (sizing.best + 1.2) * sizing.offer.capacity)
        for count in range(1, int(top / sizing.offer.capacity) + 1):
            line = count * sizing.offer.capacity
            axes.axhline(
                line,
                color=ALARM,
                linestyle=DASHED,
                linewidth=1.0,
                label="capacity of 1, 2, ... replicas" if count == 1 else None,
            )
            axes.annotate(
                f"{count}",
                (1.0, line),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                color=ALARM,
                fontsize=9,
                annotation_clip=False,
            )
        axes.set_xlim(0, 1)
        axes.set_ylim(0, top * 1.05)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        axes.set_xlabel("share of the time in which demand was at least so high")
        axes.set_ylabel("work-seconds a second")
        _legend(axes, 2)
        return draw("How long demand was how high")


def use(advice: Advice) -> str:
    """How much of each replica is used, against what pays."""
    sizing, need = advice.sizing, advice.even.utilisation
    with drawn(3.2) as (figure, draw):
        axes = figure.add_subplot()
        numbers = np.arange(1, max(2, len(shown_replicas(advice))))
        numbers = numbers[numbers <= sizing.most]
        for number in numbers:
            used = float(sizing.use[number - 1])
            pays = used >= need
            axes.bar(
                number,
                used,
                0.62,
                color=DARK if pays else "white",
                hatch="" if pays else "....",
                edgecolor=INK,
                linewidth=0.8,
            )
            axes.annotate(
                f"{words.percent(used)} {'pays' if pays else 'does not pay'}",
                (number, used),
                xytext=(0, 4),
                textcoords="offset points",
                ha="center",
                fontsize=9,
            )
        shown = min(need, 1.0)
        label = f"break-even: {words.percent(need)}" if need < 1 else f"break-even: {need:.1f}x of all there is"
        axes.axhline(shown, color=ALARM, linestyle=DASHED, linewidth=1.2, label=label)
        axes.set_ylim(0, max(1.0, shown) * 1.05)
        axes.set_xticks(numbers)
        axes.tick_params(axis="x", length=0)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        axes.set_xlabel(f"first, second, ... replica of {sizing.offer.name}")
        axes.set_ylabel("of its capacity used")
        _legend(axes, 1)
        return draw("Use of each replica against break-even")


def by_volume(advice: Advice) -> str:
    """The bill against volume, for each number of replicas: where lines cross is where the next one pays."""
    question = advice.question
    with drawn(3.5) as (figure, draw):
        axes = figure.add_subplot()
        factors = np.linspace(0.02, LARGEST_VOLUME, POINTS)
        now = words.requests_per_s(advice)
        grid = np.array([question.size(volume=float(one)).usd_per_hour for one in factors])
        least = advice.sizing.least
        counts = range(least, min(advice.sizing.best + 2, advice.sizing.most) + 1)
        for place, count in enumerate(counts):
            style = ("-", "--", "-.", ":")[place % 4]
            name = "all shared" if not count else words.replicas(count)
            axes.plot(
                factors * now,
                grid[:, count],
                color=INK if count != advice.sizing.best else DARK,
                linestyle=style,
                linewidth=2.4 if count == advice.sizing.best else 1.2,
                label=name,
            )
        axes.axvline(now, color=ALARM, linestyle=DASHED, linewidth=1.0)
        axes.annotate(
            "now",
            (now, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(4, -10),
            textcoords="offset points",
            color=ALARM,
            fontsize=9,
        )
        axes.set_xlim(0, float(factors[-1] * now))
        axes.set_ylim(0, float(grid[:, list(counts)].min(axis=1).max()) * 1.5)
        axes.set_xlabel("requests a second, on average")
        _dollars(axes)
        _legend(axes, 4)
        return draw("The bill against volume")


def tornado(advice: Advice) -> str:
    """What the replicas save of the bill in each other world, the widest pair first."""
    pairs = _pairs((*advice.cases, *advice.providers))
    base = advice.base_usd_per_hour
    shown = advice.cases[0].replicas
    middle = advice.saving(shown)
    with drawn(0.9 + 0.36 * len(pairs)) as (figure, draw):
        axes = figure.add_subplot()
        for row, (_, worlds) in enumerate(reversed(pairs)):
            for case in worlds:
                saving = case.base_usd_per_hour - case.usd_per_hour
                less = saving < middle
                axes.barh(
                    row,
                    saving - middle,
                    0.6,
                    left=middle,
                    color=LIGHT if less else DARK,
                    hatch=HATCH if less else "",
                    edgecolor=INK,
                    linewidth=0.6,
                )
                axes.annotate(
                    f"{_change(case)}{words.usd(saving)}",
                    (saving, row),
                    xytext=(-4 if less else 4, 0),
                    textcoords="offset points",
                    va="center",
                    ha="right" if less else "left",
                    fontsize=8,
                )
        axes.axvline(middle, color=INK, linewidth=1.2, label=f"as it is: {words.usd(middle)}")
        axes.axvline(0, color=ALARM, linestyle=DASHED, linewidth=1.0, label="nothing saved")
        axes.set_yticks(range(len(pairs)), [name.replace("`", "") for name, _ in reversed(pairs)])
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=True, axis="x")
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.25)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: words.whole_usd(value)))
        axes.set_xlabel(f"saved by {words.replicas(shown)} in an hour, of {words.usd(base)} as it is")
        _legend(axes, 2)
        return draw("What the saving depends on")


def _pairs(cases: tuple[Case, ...]) -> list[tuple[str, list[Case]]]:
    found: dict[str, list[Case]] = {}
    for case in cases:
        found.setdefault(_quantity(case), []).append(case)

    def width(item: tuple[str, list[Case]]) -> float:
        savings = [one.base_usd_per_hour - one.usd_per_hour for one in item[1]]
        return max(savings) - min(savings) if len(savings) > 1 else 0.0

    return sorted(found.items(), key=width, reverse=True)


def _quantity(case: Case) -> str:
    """A row of its own for each size of a change: bars of several would hide each other."""
    size = case.change.lstrip("+-")
    return f"{case.quantity} ±{size}" if size else case.quantity


def _change(case: Case) -> str:
    return f"{case.change}: " if case.change else ""


def _dollars(axes: Any) -> None:
    axes.set_ylabel("dollars an hour")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"${value:,.4g}"))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=7))


def _legend(axes: Any, columns: int) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, fontsize=9, borderaxespad=0.2)
