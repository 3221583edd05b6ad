"""Sums of the bill by any of its dimensions, as a table, as JSON, or as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from proxy.cli.status_table import compact
from proxy.meters.bill import BillLine, Kind
from proxy.meters.focus import usd
from proxy.meters.money import TOKENS_PER_MTOK, divide_half_even, format_usd
from proxy.policy.model import Lane


class Dimension(StrEnum):
    """What a report can be broken down by."""

    TENANT = "tenant"
    KEY = "key"
    MODEL = "model"
    ROUTE = "route"
    TARGET = "target"
    LANE = "lane"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


IDLE = "(idle)"
"""Stands where it cannot be said whose time it was, for nobody used it."""
UNCLAIMED = "(unclaimed)"
"""Stands for whoever keeps a GPU busy with requests that have not ended."""
_NAMELESS = "-"
_ANY_WIDTH = 10_000
_SPANS = {Dimension.HOUR: "%Y-%m-%dT%H:00Z", Dimension.DAY: "%Y-%m-%d", Dimension.MONTH: "%Y-%m"}


@dataclass(slots=True)
class Sums:
    """What a group of lines adds up to. Money is nano-USD; `gpu` is what its requests used, `idle` what nobody did."""

    requests: int = 0
    attempts: int = 0
    spilled: int = 0
    failures: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    estimated_tokens: int = 0
    unpriced_attempts: int = 0
    shared_nano_usd: int = 0
    gpu_nano_usd: int = 0
    idle_nano_usd: int = 0

    @property
    def total_nano_usd(self) -> int:
        """All of it."""
        return self.shared_nano_usd + self.gpu_nano_usd + self.idle_nano_usd

    @property
    def nano_usd_per_mtok(self) -> int | None:
        """What a million of its tokens cost, idle time included; None without tokens, or where some have no price."""
        tokens = self.input_tokens + self.output_tokens
        if not tokens or self.unpriced_attempts:
            return None
        return divide_half_even(self.total_nano_usd * TOKENS_PER_MTOK, tokens)

    def add(self, line: BillLine) -> None:
        """Take one line of the bill in."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + line.counts.get(name, 0))
        if line.kind is Kind.GPU_IDLE:
            self.idle_nano_usd += line.effective_nano_usd
        elif line.series.lane == Lane.DEDICATED:
            self.gpu_nano_usd += line.effective_nano_usd
        else:
            self.shared_nano_usd += line.effective_nano_usd


_COUNTS = (
    "requests",
    "attempts",
    "spilled",
    "failures",
    "input_tokens",
    "output_tokens",
    "estimated_tokens",
    "unpriced_attempts",
)
Report = Mapping[tuple[str, ...], Sums]


def report(lines: Iterable[BillLine], by: tuple[Dimension, ...]) -> Report:
    """The sums of each group, in the order of the groups' names."""
    groups: dict[tuple[str, ...], Sums] = {}
    for line in lines:
        if line.kind is not Kind.GPU_ATTRIBUTED:  # its money stands with those who used it
            groups.setdefault(_group(line, by), Sums()).add(line)
    return dict(sorted(groups.items()))


def _group(line: BillLine, by: tuple[Dimension, ...]) -> tuple[str, ...]:
    return tuple(_value(line, one) for one in by)


def _value(line: BillLine, dimension: Dimension) -> str:
    if dimension in _SPANS:
        return datetime.fromtimestamp(line.start_s, UTC).strftime(_SPANS[dimension])
    value: str = getattr(line.series, dimension.value)
    return value or (_NAMELESS if line.kind is Kind.TOKENS else IDLE if line.kind is Kind.GPU_IDLE else UNCLAIMED)


def as_table(found: Report, by: tuple[Dimension, ...], console: Console) -> None:
    """One row a group, and the sum of all."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_footer=len(found) > 1)
    whole = _whole(found)
    for index, one in enumerate(by):
        table.add_column(one.value, footer="all" if index == 0 else "", no_wrap=True)
    for name, told in _TOLD.items():
        table.add_column(name, footer=told(whole), justify="right", no_wrap=True)
    for group, sums in found.items():
        table.add_row(*group, *(told(sums) for told in _TOLD.values()))
    if not found:
        console.print("nothing was counted in that time")
        return
    # Figures that were cut off to fit would be wrong ones: a narrow terminal wraps the lines instead.
    needed = Measurement.get(console, console.options.update(width=_ANY_WIDTH), table).maximum
    console.width = max(needed, console.width)
    console.print(table)
    if whole.unpriced_attempts:
        console.print(
            f"{whole.unpriced_attempts:,} attempts have no known price, and are not in it",
            style="yellow",
            highlight=False,
        )
    if whole.estimated_tokens:
        share = whole.estimated_tokens / (whole.input_tokens + whole.output_tokens)
        console.print(f"{share:.2%} of the tokens are estimates: no upstream confirmed them", highlight=False)


def _whole(found: Report) -> Sums:
    whole = Sums()
    for sums in found.values():
        for name in Sums.__slots__:
            setattr(whole, name, getattr(whole, name) + getattr(sums, name))
    return whole


def _price(sums: Sums) -> str:
    per_mtok = sums.nano_usd_per_mtok
    return "-" if per_mtok is None else format_usd(per_mtok)


_TOLD: dict[str, Callable[[Sums], str]] = {
    "requests": lambda sums: compact(sums.requests),
    "spilled": lambda sums: compact(sums.spilled),
    "in": lambda sums: compact(sums.input_tokens),
    "out": lambda sums: compact(sums.output_tokens),
    "shared": lambda sums: format_usd(sums.shared_nano_usd),
    "GPUs": lambda sums: format_usd(sums.gpu_nano_usd),
    "idle": lambda sums: format_usd(sums.idle_nano_usd),
    "total": lambda sums: format_usd(sums.total_nano_usd),
    "$/M": _price,
}


def _plain(group: tuple[str, ...], by: tuple[Dimension, ...], sums: Sums) -> dict[str, object]:
    """A group as data: dollars are exact decimals, in text."""
    money = {
        "shared_usd": sums.shared_nano_usd,
        "gpu_usd": sums.gpu_nano_usd,
        "idle_usd": sums.idle_nano_usd,
        "total_usd": sums.total_nano_usd,
    }
    per_mtok = sums.nano_usd_per_mtok
    return {
        **{one.value: value for one, value in zip(by, group, strict=True)},
        **{name: getattr(sums, name) for name in _COUNTS},
        **{name: f"{usd(nano_usd):f}" for name, nano_usd in money.items()},
        "usd_per_mtok": None if per_mtok is None else f"{usd(per_mtok):f}",
    }


def as_json(found: Report, by: tuple[Dimension, ...]) -> str:
    """A list of groups."""
    rows = [_plain(group, by, sums) for group, sums in found.items()]
    return msgspec.json.format(msgspec.json.encode(rows)).decode()


def as_csv(found: Report, by: tuple[Dimension, ...]) -> str:
    """A line a group, under a line of names."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _plain(tuple("" for _ in by), by, Sums()), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_plain(group, by, sums) for group, sums in found.items())
    return text.getvalue()
