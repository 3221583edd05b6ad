"""The three shapes that most panels have, each in one call."""

from __future__ import annotations

from dashboards.model import Kind, Panel, Query, Unit

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


def lines(title: str, means: str, unit: Unit, *queries: Query, width: int = 8, limits: tuple[Limit, ...] = ()) -> Panel:
    """Lines through time, and a dashed one for each limit."""
    base = "transparent" if limits else "green"
    return Panel(title=title, means=means, unit=unit, queries=queries, width=width, limits=limits, base=base)


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
