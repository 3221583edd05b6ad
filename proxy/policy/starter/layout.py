"""Lays a policy out as text: two blanks a level, and the reasons in a column of their own beside what they explain."""

from __future__ import annotations

from collections.abc import Iterable

WIDTH = 120
_LATEST_COLUMN = 46

Line = tuple[int, str, str]
"""The level, the text, and the reason (empty for none)."""


def laid_out(lines: Iterable[Line]) -> str:
    """The text, with a line break at its end.

    A reason is given once, where its line stands first; one that does not fit beside its line stands above it.
    """
    written: list[tuple[str, str]] = []
    told: set[tuple[str, str]] = set()
    for level, text, why in lines:
        written.append(("  " * level + text, "" if (text, why) in told else why))
        told.add((text, why))
    widths = [len(text) for text, why in written if why and len(text) <= _LATEST_COLUMN]
    column = max(widths, default=0) + 2
    return "\n".join(_placed(text, why, column) for text, why in written) + "\n"


def flow(items: Iterable[str]) -> str:
    """A flow sequence of words that are plain already."""
    return f"[{', '.join(items)}]"


def scalar(text: str) -> str:
    """`text` as YAML reads it back as text: in quotes where it would be something else."""
    plain = text[0].isalnum() and text[-1] not in ": " and not set(text) & set("#,[]{}'\"\\")
    if plain and ": " not in text and not _reads_as_other(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def rounded_up(count: int) -> int:
    """The next number of two digits and zeros: 1,020,000 is 1,100,000."""
    step: int = 10 ** max(0, len(str(count)) - 2)
    return -(-count // step) * step


def _placed(text: str, why: str, column: int) -> str:
    if not why:
        return text
    beside = f"{text:<{column}}# {why}" if len(text) + 2 <= column else f"{text}  # {why}"
    if len(beside) <= WIDTH:
        return beside
    indent = text[: len(text) - len(text.lstrip())]
    return f"{indent}# {why}\n{text}"


def _reads_as_other(text: str) -> bool:
    if text.lower() in ("true", "false", "null", "~"):
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True
