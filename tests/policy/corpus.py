"""Policies with one thing to say about each; the first lines of each file state it.

`broken/*.yaml` are refused. `doubtful/*.yaml` may be served, and `spillway policy check` warns of them or advises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ENV = {"OPENAI_API_KEY": "sk-canary-of-the-corpus", "REGION": "eu-west-1"}
"""The environment in which each of them has exactly one finding."""

BROKEN = sorted((Path(__file__).parent / "broken").glob("*.yaml"))
DOUBTFUL = sorted((Path(__file__).parent / "doubtful").glob("*.yaml"))
_STATED = re.compile(r"^# (line|says|hint|check|also): (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Expected:
    """Where the finding is, a part of what is said of it, a part of the remedy, and the name of the check.

    `also` is the check of a second finding that cannot be had without the first.
    """

    line: int
    says: str
    hint: str
    check: str
    also: str = ""


def expected(path: Path) -> Expected:
    """What the first lines of the file at `path` state."""
    stated = dict(_STATED.findall(path.read_text("utf-8", errors="replace")))
    return Expected(int(stated["line"]), stated["says"], stated["hint"], stated["check"], stated.get("also", ""))
