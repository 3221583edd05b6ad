"""The plots of a replay's report, each as one inline SVG that can be read without colour.

Lanes differ in hatch as well as in shade, policies in line style as well as in colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from proxy.advisor.drawing import ALARM, FAINT, INK, drawn
from proxy.advisor.figures import MINUTE_S, SLOWER, Counts, Figures, Floats
from proxy.advisor.replay_findings import DAY_S, percent
from proxy.advisor.replay_report import GOAL, Report, replicas_words

STYLES: tuple[tuple[str, Any], ...] = (
    ("#1f4e79", "-"),
    ("#c05a00", "--"),
    ("#4d7a2a", "-."),
    ("#6b4c9a", (0, (6, 1, 1, 1, 1, 1))),
)
"""Of the first policies, in turn."""
FILLS = {
    "dedicated": ("#1f4e79", ""),
    "spilled": ("#f0b775", "////"),
    "shared by preference": ("#dfe3e6", "...."),
    "refused": ("#a11d1d", "xxxx"),
}
LIMIT = (0, (1, 1.6))
"""The line style of what should be kept to: dots, unlike any policy's."""
LATE = " ✗"
MOST_POINTS = 480


def cost_by_replicas(report: Report) -> str:
    """Bars of GPU hours and shared tokens for every run, against no GPUs at all and against the bound."""
    with drawn(3.9) as (figure, draw):
        axes = figure.add_subplot()
        policies, numbers = report.policies, _replica_labels(report)
        width = 0.8 / len(policies)
        for place, policy in enumerate(policies):
            offset = (place - (len(policies) - 1) / 2) * width
            for run in report.of(policy):
                at = numbers.index(_label(run)) + offset
                _bar(axes, report, run, at, width * 0.9)
        _references(axes, report, len(numbers))
        axes.set_xticks(range(len(numbers)), numbers)
        several = max(len(run.replicas) for run in report.runs) > 1
        letters = ", ".join(f"{_letter(report, policy)}: {policy}" for policy in policies)
        kind = "replicas of each dedicated target" if several else "replicas of the dedicated target"
        axes.set_xlabel(f"{kind} ({letters})" if len(policies) > 1 else kind)
        axes.set_ylabel("dollars an hour")
        axes.yaxis.set_major_formatter(_dollars)
        axes.set_xlim(-0.6, len(numbers) - 0.4)
        axes.set_ylim(0, 1.17 * max(run.usd_per_hour(run.nano_usd) for run in report.runs) or 1.0)
        axes.tick_params(axis="x", length=0)
        _legend(axes, columns=4)
        return draw("Cost by number of replicas")


def _letter(report: Report, policy: str) -> str:
    """By which one policy's bars are told from another's."""
    return chr(ord("A") + report.policies.index(policy))


def _bar(axes: Any, report: Report, run: Figures, at: float, width: float) -> None:
    gpu, shared = run.usd_per_hour(run.gpu_nano_usd), run.usd_per_hour(run.whole.shared_nano_usd)
    (dark, _), (light, hatch) = FILLS["dedicated"], FILLS["spilled"]
    first = not axes.patches
    axes.bar(at, gpu, width, color=dark, edgecolor=INK, linewidth=0.6, label="GPU hours" if first else None)
    axes.bar(
        at,
        shared,
        width,
        bottom=gpu,
        color=light,
        hatch=hatch,
        edgecolor=INK,
        linewidth=0.6,
        label="shared tokens" if first else None,
    )
    best = run is report.best(run.policy)
    enough = run.whole.attainment >= GOAL
    dollars = f"${gpu + shared:,.2f}"
    late = "" if enough else LATE
    text = f"{dollars}\n{percent(run.whole.attainment)}{late}"
    if len(report.policies) > 1:
        text = f"{_letter(report, run.policy)}{late}\n{dollars}"
    axes.annotate(
        text,
        (at, gpu + shared),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=8,
        fontweight="bold" if best else "normal",
        color=INK if enough else ALARM,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6},
    )


def _references(axes: Any, report: Report, count: int) -> None:
    """Lines at what shared targets alone cost, and at the least that anybody could pay; one where policies agree."""
    alone: dict[float, list[str]] = {}
    least: dict[float, list[str]] = {}
    for policy in report.policies:
        run, bound = report.all_shared(policy), report.bounds.get(policy)
        if run is not None and count > 1:
            alone.setdefault(round(run.usd_per_hour(run.nano_usd), 2), []).append(policy)
        if bound is not None:
            least.setdefault(round(report.best(policy).usd_per_hour(bound.nano_usd), 2), []).append(policy)
    for name, lines, color, style in (("shared APIs alone", alone, FAINT, ":"), ("least possible", least, INK, "--")):
        for dollars, policies in lines.items():
            letters = ", ".join(_letter(report, policy) for policy in policies)
            label = name if len(policies) == len(report.policies) else f"{name} ({letters})"
            axes.axhline(dollars, color=color, linestyle=style, linewidth=1.3, label=label)


def against_others(report: Report) -> str:
    """Horizontal bars of other rules beside the policies' best runs, cheapest first."""
    chosen = [report.best(policy) for policy in report.policies]
    runs = sorted([*chosen, *report.baselines], key=lambda run: run.nano_usd)
    with drawn(0.9 + 0.42 * len(runs)) as (figure, draw):
        axes = figure.add_subplot()
        for row, run in enumerate(reversed(runs)):
            gpu, shared = run.usd_per_hour(run.gpu_nano_usd), run.usd_per_hour(run.whole.shared_nano_usd)
            labels = ("GPU hours", "shared tokens") if row == 0 else (None, None)
            enough = run.whole.attainment >= GOAL
            axes.barh(row, gpu, 0.62, color=FILLS["dedicated"][0], edgecolor=INK, linewidth=0.6, label=labels[0])
            light, hatch = FILLS["spilled"]
            axes.barh(
                row, shared, 0.62, left=gpu, color=light, hatch=hatch, edgecolor=INK, linewidth=0.6, label=labels[1]
            )
            axes.annotate(
                f"${gpu + shared:,.2f}, {percent(run.whole.attainment)} in time{'' if enough else LATE}",
                (gpu + shared, row),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                fontweight="bold" if run in chosen else "normal",
                color=INK if enough else ALARM,
            )
        axes.set_yticks(range(len(runs)), [f"{run.policy}, {replicas_words(run.replicas)}" for run in reversed(runs)])
        axes.set_xlabel("dollars an hour")
        axes.xaxis.set_major_formatter(_dollars)
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.3)
        axes.tick_params(axis="y", length=0)
        _legend(axes, columns=2)
        return draw("Cost against other rules")


def attainment_by_minute(report: Report) -> str:
    """The share served in time, minute by minute; of a long trace the worst minute of each point."""
    runs = [report.best(policy) for policy in report.policies]
    with drawn(2.9) as (figure, draw):
        axes = figure.add_subplot()
        each = _minutes_a_point(runs[0])
        for run, (color, style) in zip(runs, _styles(runs), strict=True):
            worst = _folded(run.minutes.attainment, each, np.nanmin)
            name = run.policy if len(runs) > 1 else "served in time"
            _steps(axes, run, worst * 100, each, color=color, linestyle=style, linewidth=1.3, label=name)
        axes.axhline(GOAL * 100, color=ALARM, linestyle=LIMIT, linewidth=1.8, label=f"goal: {percent(GOAL)} of all")
        low = min(float(np.nanmin(run.minutes.attainment)) for run in runs) * 100
        axes.set_ylim(max(min(low - 1.0, 97.0), -2.0), 100.4)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
        axes.set_ylabel("of a minute's requests" if each == 1 else f"in the worst of {each} minutes")
        _time_axis(axes, runs[0])
        _legend(axes, columns=3)
        return draw("Share of requests served in time, by minute")


def waits(report: Report) -> str:
    """Which share of requests took longer than so many seconds, for TTFT, pace and the whole; both axes logarithmic."""
    runs = [report.best(policy) for policy in report.policies]
    with drawn(3.3) as (figure, draw):
        panels = figure.subplots(1, 3, sharey=True)
        kinds = (("ttft_s", "time to first token"), ("pace_s", "time per output token"), ("e2e_s", "whole response"))
        for place, (axes, (kind, title)) in enumerate(zip(panels, kinds, strict=True)):
            for run, (color, style) in zip(runs, _styles(runs), strict=True):
                slowest: Floats = getattr(run.distributions, kind)
                if np.isfinite(slowest).any():
                    axes.plot(slowest, SLOWER * 100, color=color, linestyle=style, linewidth=1.5, label=run.policy)
            for objective in {pair[place] for run in runs for pair in run.objectives} if place < 2 else ():
                if np.isfinite(objective):
                    axes.axvline(objective, color=ALARM, linestyle=LIMIT, linewidth=1.8, label="objective")
            _log_panel(axes, title)
        panels[0].set_ylabel("requests that took longer")
        panels[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
        named = {
            name: handle for axes in panels for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(named.values(), named.keys(), loc="outside upper left", ncols=4, fontsize=9)
        return draw("How long requests took")


def _log_panel(axes: Any, title: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(0.01, 100)
    axes.set_xlabel(title)
    axes.grid(axis="both")
    low, high = axes.get_xlim()
    few = LogLocator(numticks=5) if high / low > 100 else LogLocator(subs=(1.0, 2.0, 5.0), numticks=8)
    axes.xaxis.set_major_locator(MaxNLocator(3) if high / low < 4 else few)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))


def _dollars(value: float, _: float) -> str:
    return f"${value:,.4g}"


def _short(value: float) -> str:
    return f"{value * 1e3:g} ms" if value < 0.9995 else f"{value:g} s"


def lanes_over_time(report: Report) -> str:
    """Requests a minute by lane, stacked, a panel for each policy's best run."""
    runs = [report.best(policy) for policy in report.policies]
    with drawn(0.7 + 2.3 * len(runs)) as (figure, draw):
        panels = np.atleast_1d(figure.subplots(len(runs), 1, sharex=True, sharey=True))
        for axes, run in zip(panels, runs, strict=True):
            _stack(axes, run)
            axes.set_ylabel("requests a minute")
            if len(runs) > 1:
                axes.set_title(f"{run.policy}, {replicas_words(run.replicas)}", loc="left", fontsize=10)
        _time_axis(panels[-1], runs[0])
        named = {
            name: handle for axes in panels for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(named.values(), named.keys(), loc="outside upper left", ncols=4, fontsize=9)
        return draw("Requests a minute by lane")


def _stack(axes: Any, run: Figures) -> None:
    minutes, each = run.minutes, _minutes_a_point(run)
    lanes = dict(
        zip(FILLS, (minutes.dedicated, minutes.spilled, minutes.preferred_shared, minutes.refused), strict=True)
    )
    below: Floats = np.zeros(1)
    for name, counted in lanes.items():
        if not counted.any():
            continue
        mean = _folded(_rates(run, counted), each, np.mean)
        at, step = _time(run, len(mean), each)
        edges = np.append(at, at[-1] + step)
        top = below + mean
        fill, hatch = FILLS[name]
        low, high = np.append(np.broadcast_to(below, mean.shape), 0.0), np.append(top, 0.0)
        low[-1], high[-1] = low[-2], high[-2]
        axes.fill_between(
            edges, low, high, step="post", facecolor=fill, hatch=hatch, edgecolor=INK, linewidth=0.4, label=name
        )
        below = top
    axes.set_ylim(bottom=0)
    axes.margins(x=0)


def shared_dollars(report: Report) -> str:
    """What shared providers take, as a rate by the hour, against the price of one more replica."""
    runs = [report.best(policy) for policy in report.policies]
    with drawn(2.9) as (figure, draw):
        axes = figure.add_subplot()
        for run, (color, style) in zip(runs, _styles(runs), strict=True):
            each = _minutes_a_point(run)
            rate = _folded(_rates(run, run.minutes.shared_nano_usd) / 1e9 * 60.0, each, np.mean)
            name = run.policy if len(runs) > 1 else "shared providers"
            edges, steps = _steps(axes, run, rate, each, color=color, linestyle=style, linewidth=1.2, label=name)
            if len(runs) == 1:
                light, hatch = FILLS["spilled"]
                axes.fill_between(
                    edges, steps, step="post", facecolor=light, hatch=hatch, edgecolor="white", linewidth=0
                )
        price = replica_usd_per_hour(report)
        if price is not None:
            axes.axhline(price, color=ALARM, linestyle=LIMIT, linewidth=1.8, label="one more replica")
        axes.set_ylim(bottom=0)
        axes.set_ylabel("dollars an hour")
        axes.yaxis.set_major_formatter(_dollars)
        _time_axis(axes, runs[0])
        _legend(axes, columns=3)
        return draw("Dollars paid to shared providers over time")


def _steps(axes: Any, run: Figures, values: Floats, each: int, **look: Any) -> tuple[Floats, Floats]:
    """Draws a line that keeps each value for the minutes that it is of; returns what the line goes through."""
    at, step = _time(run, len(values), each)
    edges, steps = np.append(at, at[-1] + step), np.append(values, values[-1])
    axes.plot(edges, steps, drawstyle="steps-post", **look)
    return edges, steps


def replica_usd_per_hour(report: Report) -> float | None:
    """The price of one replica, where every run had so many of one target."""
    for run in report.runs:
        number = sum(run.replicas.values())
        if number and len(run.replicas) == 1:
            return run.usd_per_hour(run.gpu_nano_usd) / number
    return None


def _replica_labels(report: Report) -> list[str]:
    ordered = sorted(report.runs, key=lambda run: tuple(run.replicas.values()))
    return list(dict.fromkeys(map(_label, ordered)))


def _label(run: Figures) -> str:
    numbers = set(run.replicas.values())
    return replicas_words(run.replicas) if len(numbers) > 1 else str(next(iter(numbers), 0))


def _styles(runs: Sequence[Figures]) -> list[tuple[str, Any]]:
    return [STYLES[place % len(STYLES)] for place in range(len(runs))]


def _minutes_a_point(run: Figures) -> int:
    return -(-len(run.minutes) // MOST_POINTS)


def _folded(values: Floats, each: int, by: Any) -> Floats:
    """`values` of every `each` minutes as one; NaN where there were none."""
    padded = np.append(values, np.full(-len(values) % each, np.nan)).reshape(-1, each)
    found = np.full(len(padded), np.nan)
    known = np.isfinite(padded).any(axis=1)
    best = {np.mean: np.nanmean}.get(by, by)
    found[known] = best(padded[known], axis=1)
    return found


def _rates(run: Figures, counted: Counts) -> Floats:
    """What was counted, by the minute: of the last one, of which the trace saw only a part, as if it had been whole."""
    rates = counted.astype(np.float64)
    seen = run.span_s / MINUTE_S - (len(rates) - 1)
    if len(rates) > 1:
        rates[-1] = rates[-1] / seen if 0.2 < seen < 1.0 else rates[-1] if seen >= 1.0 else rates[-2]
    return rates


def _unit(run: Figures) -> tuple[float, str]:
    if run.span_s <= 3 * 3600.0:
        return MINUTE_S, "minutes"
    return (3600.0, "hours") if run.span_s <= 3 * DAY_S else (DAY_S, "days")


def _time(run: Figures, count: int, each: int) -> tuple[Floats, float]:
    step = each * MINUTE_S / _unit(run)[0]
    return np.arange(count, dtype=np.float64) * step, step


def _time_axis(axes: Any, run: Figures) -> None:
    unit_s, name = _unit(run)
    axes.set_xlim(0, run.span_s / unit_s)
    axes.set_xlabel(f"{name} from the beginning of the trace")
    if name == "hours":
        axes.xaxis.set_major_locator(MaxNLocator(nbins=9, steps=[1, 2, 3, 4, 6, 10]))


def _legend(axes: Any, columns: int) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, fontsize=9, borderaxespad=0.2)
