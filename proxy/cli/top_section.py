"""A section of `spillway top`: a heading and rows, as many as there is room for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from proxy.cli.top_words import DIM, word

HEADING = "bold bright_white on grey23"
WIDE = 120
USUAL = 72
"""Columns that a terminal must have for what is less important."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column, as wide as what it holds. One that `gives` is at most `most` wide, and narrower where room is short;
    one that `takes` has all that is left. It is shown where the terminal is at least `since` wide.
    """

    name: str
    right: bool = False
    gives: bool = False
    takes: bool = False
    most: int | None = None
    since: int = 0


@dataclass(frozen=True, slots=True)
class Section:
    """Rows under a heading. `more` is what rows beyond the room are called."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Text | str]]
    more: str

    def drawn(self, room: int, width: int) -> RenderableType:
        """The heading and at most `room` rows; the last says how many there were no room for."""
        shown = [at for at, column in enumerate(self.columns) if column.since <= width]
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, expand=True, header_style=HEADING)
        for column in [self.columns[at] for at in shown]:
            table.add_column(
                Text(column.name, no_wrap=True),
                justify="right" if column.right else "left",
                ratio=1 if column.takes else None,
                max_width=column.most,
                # What may wrap is what rich makes narrower; the cells do not wrap, and end in an ellipsis.
                no_wrap=not (column.gives or column.takes),
                overflow="ellipsis",
            )
        if not any(column.takes for column in self.columns):
            table.add_column("", ratio=1)
        fits = len(self.rows) <= room
        for row in self.rows if fits else self.rows[: max(0, room - 1)]:
            table.add_row(*[row[at] for at in shown])
        if fits:
            return table
        return Group(table, word(f" and {len(self.rows) - max(0, room - 1)} more {self.more}", DIM))
