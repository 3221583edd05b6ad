"""Policies with one mistake each: `broken/*.yaml`. The first three lines of each say what has to be said about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ENV = {"OPENAI_API_KEY": "sk-canary-of-the-corpus", "REGION": "eu-west-1"}
"""The environment in which each of them has exactly one mistake."""

BROKEN = sorted((Path(__file__).parent / "broken").glob("*.yaml"))


@dataclass(frozen=True, slots=True)
class Expected:
    """Where the mistake is, a part of what is said of it, and a part of the remedy."""

    line: int
    says: str
    hint: str


def expected(path: Path) -> Expected:
    """What the first lines of the file at `path` state."""
    stated = dict(line.removeprefix("# ").split(": ", 1) for line in path.read_text("utf-8").split("\n")[:3])
    return Expected(int(stated["line"]), stated["says"], stated["hint"])
