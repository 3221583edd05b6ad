"""What all plots of reports have in common: plain axes, text that stays text, and one SVG each that fits into a page.

The font is as wide as any that may stand in for it, so that nothing overlaps where it is missing. Several SVGs in one
page share its names: those of each begin with its title.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

WIDTH = 9.0
"""Of every plot, in inches."""
INK, FAINT, ALARM = "#1a1a1a", "#8a8a8a", "#a11d1d"
_SETTINGS: Any = {
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "hatch.linewidth": 0.7,
    "legend.frameon": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
}
_NAMED = re.compile(r'(\bid="|url\(#|href="#)')


@contextmanager
def drawn(height: float) -> Iterator[tuple[Figure, Callable[[str], str]]]:
    """A figure so many inches high, and what makes the SVG of it, under a title for those who cannot see it."""
    with mpl.rc_context({**_SETTINGS, "svg.hashsalt": "a report"}):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        canvas: Any = FigureCanvasSVG(figure)

        def draw(title: str) -> str:
            out = io.StringIO()
            canvas.print_svg(out, metadata={"Date": None, "Creator": None, "Title": title})
            text = out.getvalue()
            named = _NAMED.sub(rf"\g<1>{re.sub(r'[^a-z]+', '-', title.lower())}-", text[text.index("<svg") :])
            return named.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)

        yield figure, draw
