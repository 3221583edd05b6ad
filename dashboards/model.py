"""What a dashboard is made of, in our words: panels in rows, each a question with the queries that answer it.

Theory of operation
-------------------
A panel flows to the right of the one before it and into the next line when the 24 columns are full; places are
reckoned when the JSON is made (`grafana.py`), so nobody counts columns here. Every panel has a unit and a text that
says what it means and what to do about it: both are required.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

COLUMNS = 24


class Kind(StrEnum):
    """How a panel shows its answer: Grafana's names."""

    FIGURES = "stat"
    LINES = "timeseries"
    BARS = "bargauge"
    TABLE = "table"
    STATES = "state-timeline"


class Unit(StrEnum):
    """Grafana's identifiers of units."""

    USD = "currencyUSD"
    SECONDS = "s"
    SHARE = "percentunit"
    BYTES = "bytes"
    COUNT = "short"
    PLAIN = "none"
    PER_S = "reqps"
    PER_MIN = "suffix: /min"
    TOKENS = "suffix: tokens"
    TOKENS_PER_S = "suffix: tok/s"
    GPUS = "suffix: GPUs"
    REPLICAS = "suffix: replicas"
    TIMES = "suffix:x"
    AGE = "dtdurations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One PromQL expression. `legend` names its series, and in a table its column, which may have a unit of its own.

    `now` asks for one value at the end of the time range instead of a line through it.
    """

    expr: str
    legend: str = ""
    colour: str = ""
    dashed: bool = False
    now: bool = False
    unit: Unit | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a value means, in a word and a colour."""

    value: int
    word: str
    colour: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One question. `limits` are (from this value on, this colour), below the first of them it is `base`.

    `empty_is_good` says why there may be nothing to show for weeks, and is shown then; all others show something on
    every installation that serves.
    """

    title: str
    means: str
    unit: Unit
    queries: tuple[Query, ...]
    kind: Kind = Kind.LINES
    width: int = 12
    base: str = "green"
    limits: tuple[tuple[float, str], ...] = ()
    states: tuple[State, ...] = ()
    colours: tuple[tuple[str, str], ...] = ()
    stacked: bool = False
    least: float | None = 0.0
    most: float | None = None
    decimals: int | None = None
    empty_is_good: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Panels of one height under one heading."""

    title: str
    panels: tuple[Panel, ...]
    height: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A variable at the top of a dashboard: values of a label (`query`), or given ones with the words shown for them.

    `any_of` lets several be chosen, and begins with all of them.
    """

    name: str
    label: str
    query: str = ""
    given: tuple[tuple[str, str], ...] = ()
    any_of: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """One page. `name` is its file and part of its address, so it stays as it is."""

    name: str
    title: str
    means: str
    choices: tuple[Choice, ...]
    rows: tuple[Row, ...]
