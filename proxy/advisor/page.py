"""What the pages of reports have in common: one HTML file, no script, no link, nothing to be fetched, good on paper."""

from __future__ import annotations

from html import escape

_STYLE = """
body { background: #fff; color: #1a1a1a; font: 16px/1.5 system-ui, "DejaVu Sans", Verdana, sans-serif;
  max-width: 66rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .4rem; }
p.note, figcaption, footer { color: #555; font-size: .85rem; }
figure { margin: 0; } svg { width: 100%; height: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; margin: .6rem 0; }
div.wide { overflow-x: auto; }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #ddd; } th { border-bottom: 1px solid #888; }
th:first-child, td:first-child { text-align: left; padding-left: 0; } tr.best td { font-weight: 600; }
@media print { section { break-inside: avoid; } }
"""


def page(title: str, body: str, style: str) -> str:
    """The whole file. `body` is HTML, and `style` what only this report needs of CSS."""
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}{style}</style>'
    view = '<meta name="viewport" content="width=device-width">'
    return f'<!doctype html>\n<html lang="en"><head>{head}{view}</head><body>\n{body}</body></html>\n'


def section(heading: str, svg: str, note: str = "", table: str = "") -> str:
    """A plot below what it shows, line by line, and above how to read it; `svg` and `table` are HTML."""
    caption = f"<figcaption>{escape(note)}</figcaption>" if note else ""
    lines = escape(heading).replace("\n", "<br>")
    return f"<section><h2>{lines}</h2><figure>{svg}{caption}</figure>{table}</section>"
