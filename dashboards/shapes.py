"""The shapes that most panels have, each in one call."""

from __future__ import annotations

from dashboards.model import Kind, Panel, Query, State, Unit

Limit = tuple[float, str]


def figure(
    title: str, means: str, unit: Unit, expr: str, *limits: Limit, base: str = "", width: int = 4, decimals: int = 1
) -> Panel:
    """One large number; green until the first of its limits, or in the colour of text where it has none."""
    return Panel(
        title=title,
        means=means,
        unit=unit,
        queries=(Query(expr=expr, now=True),),
        kind=Kind.FIGURES,
        width=width,
        base=base or ("green" if limits else "text"),
        limits=limits,
        least=None,
        decimals=decimals,
    )


def lines(
    title: str,
    means: str,
    unit: Unit,
    *queries: Query,
    width: int = 8,
    limits: tuple[Limit, ...] = (),
    empty: str = "",
) -> Panel:
    """Lines through time, and a dashed one for each limit. `empty` is why there may be nothing to see."""
    return Panel(
        title=title,
        means=means,
        unit=unit,
        queries=queries,
        width=width,
        limits=limits,
        base="transparent" if limits else "green",
        empty_is_good=empty,
    )


def states(
    title: str, means: str, expr: str, legend: str, *words: tuple[str, str], width: int = 8, empty: str = ""
) -> Panel:
    """What a gauge of 0, 1, ... stands for through time: a word and a colour for each."""
    return Panel(
        title=title,
        means=means,
        unit=Unit.PLAIN,
        queries=(Query(expr=expr, legend=legend),),
        kind=Kind.STATES,
        width=width,
        states=tuple(State(value=value, word=word, colour=colour) for value, (word, colour) in enumerate(words)),
        empty_is_good=empty,
    )


def pile(title: str, means: str, unit: Unit, expr: str, legend: str, *, width: int = 8, empty: str = "") -> Panel:
    """Parts of a whole, through time. `empty` is why there may be nothing to see."""
    return Panel(
        title=title,
        means=means,
        unit=unit,
        queries=(Query(expr=expr, legend=legend),),
        width=width,
        stacked=True,
        empty_is_good=empty,
    )
