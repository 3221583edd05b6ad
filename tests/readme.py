"""README.md as its tests read it: fenced blocks with the comment that stands before them, and tables by name.

A block to be run says how: `<!-- run: once -->`; `<!-- run: background; port: 8080 -->`, a server that the next blocks
talk to; `<!-- run: make -->`, targets that CI runs by themselves; or `<!-- run: cluster -->`, for which tests/helm has
stand-ins. `; expect: words` must be in the output.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
_BLOCK = re.compile(
    r"(?:^<!-- (?P<note>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_ROW = re.compile(r"^\|(.*)\|$")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block. `notes` are the comment's `key: value` pairs."""

    language: str
    text: str
    line: int
    notes: dict[str, str]

    @property
    def is_command(self) -> bool:
        return self.language in ("sh", "bash", "console", "python")


def blocks() -> list[Block]:
    """Every fenced block of the README, in order."""
    text = README.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        pairs = (pair.partition(":") for pair in (match["note"] or "").split(";"))
        notes = {key.strip(): value.strip() for key, _, value in pairs if key.strip()}
        line = text.count("\n", 0, match.start("text"))
        found.append(Block(match["language"], match["text"], line, notes))
    return found


def block(key: str, value: str) -> Block:
    """The one block whose comment says `key: value`."""
    (found,) = [one for one in blocks() if one.notes.get(key) == value]
    return found


def table(note: str) -> list[list[str]]:
    """The cells of the table below `<!-- note -->`, without its head; text may stand between the two."""
    after = README.read_text(encoding="utf-8").split(f"<!-- {note} -->\n", 1)[1]
    rows: list[list[str]] = []
    for line in after.splitlines():
        row = _ROW.match(line)
        if row:
            rows.append([cell.strip() for cell in row[1].split("|")])
        elif rows:
            break
    return rows[2:]


def names(cells: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cells)
