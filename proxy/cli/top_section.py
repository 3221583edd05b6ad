"""A section of `spillway top`: a heading and rows, as many as there is room for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from proxy.cli.top_words import DIM

HEADING = "bold bright_white on grey23"


@dataclass(frozen=True, slots=True)
class Column:
    """One column; with `ratio` it takes a part of the width that is left, else what it needs."""

    name: str
    right: bool = False
    ratio: int | None = None
    least: int | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """Rows under a heading. `more` is what rows beyond the room are called."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Text | str]]
    more: str

    def table(self, room: int) -> Table:
        """The heading and at most `room` rows; the last says how many there were no room for."""
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, expand=True, header_style=HEADING)
        for column in self.columns:
            table.add_column(
                Text(column.name, no_wrap=True),
                justify="right" if column.right else "left",
                ratio=column.ratio,
                min_width=column.least,
                no_wrap=True,
                overflow="ellipsis",
            )
        fits = len(self.rows) <= room
        for row in self.rows if fits else self.rows[: max(0, room - 1)]:
            table.add_row(*row)
        if not fits:
            table.add_row(Text(f" and {len(self.rows) - max(0, room - 1)} more {self.more}", DIM))
        return table
