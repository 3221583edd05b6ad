"""The bill in the columns of FOCUS, so that FinOps tools can read it beside the bills of clouds.

Theory of operation
-------------------
The FinOps Open Cost and Usage Specification names columns and says what they hold; what is ours alone has the prefix
`x_`, as it prescribes (https://focus.finops.org/focus-specification/, 1.2). Money is exact: a `Decimal` of dollars with
nine places, which is what a nano-USD needs. What a provider has not told us is empty rather than made up; the sum of
`BilledCost`, and that of `EffectiveCost`, is the bill.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum

import msgspec

from proxy.meters.bill import BillLine, Kind
from proxy.meters.fields import COUNTERS
from proxy.meters.gpu_hours import MS_PER_HOUR
from proxy.meters.usage_rows import TargetRow
from proxy.policy.model import Lane

Value = str | int | Decimal | datetime | None
OWN_PROVIDER = "self-hosted"
_UNKNOWN = TargetRow(name="", lane=Lane.SHARED, model="", region="unknown")
_MONEY = frozenset({"nano_usd", "estimated_nano_usd"})


class Type(StrEnum):
    """What a column holds: `money` is dollars with nine places, `time` is in UTC."""

    TEXT = "text"
    COUNT = "count"
    MONEY = "money"
    QUANTITY = "quantity"
    TIME = "time"


def usd(nano_usd: int) -> Decimal:
    """Exact dollars, always with nine places."""
    return Decimal(nano_usd).scaleb(-9)


def _month(start: datetime, later: int) -> datetime:
    month = start.month - 1 + later
    return datetime(start.year + month // 12, month % 12 + 1, 1, tzinfo=UTC)


def _start(line: BillLine) -> datetime:
    return datetime.fromtimestamp(line.start_s, UTC)


def _provider(line: BillLine, target: TargetRow) -> str:
    return OWN_PROVIDER if line.series.lane == Lane.DEDICATED else target.provider or line.series.target


def _described(line: BillLine, target: TargetRow) -> str:
    match line.kind:
        case Kind.TOKENS:
            return f"tokens of {line.series.model} at {line.series.target} for {line.series.tenant}"
        case Kind.GPU_ATTRIBUTED | Kind.GPU_UNCLAIMED:
            return f"busy GPU time of {line.series.target}"
        case _:
            return f"idle GPU time of {line.series.target}"


def _quantity(line: BillLine) -> Decimal:
    if line.kind is Kind.TOKENS:
        return Decimal(line.counts.get("input_tokens", 0) + line.counts.get("output_tokens", 0))
    return _hours(line.gpu_ms)


def _hours(ms: int) -> Decimal:
    return (Decimal(ms) / MS_PER_HOUR).quantize(Decimal("1e-9"))


def _tags(line: BillLine) -> str:
    tags = {name: value for name, value in line.series._asdict().items() if value}
    return msgspec.json.encode(tags).decode()


Column = tuple[Type, Callable[[BillLine, TargetRow], Value]]

_FOCUS: dict[str, Column] = {
    "BillingPeriodStart": (Type.TIME, lambda line, target: _month(_start(line), 0)),
    "BillingPeriodEnd": (Type.TIME, lambda line, target: _month(_start(line), 1)),
    "ChargePeriodStart": (Type.TIME, lambda line, target: _start(line)),
    "ChargePeriodEnd": (Type.TIME, lambda line, target: datetime.fromtimestamp(line.start_s + line.seconds, UTC)),
    "BilledCost": (Type.MONEY, lambda line, target: usd(line.billed_nano_usd)),
    "EffectiveCost": (Type.MONEY, lambda line, target: usd(line.effective_nano_usd)),
    "BillingCurrency": (Type.TEXT, lambda line, target: "USD"),
    "ChargeCategory": (Type.TEXT, lambda line, target: "Usage"),
    "ChargeFrequency": (Type.TEXT, lambda line, target: "Usage-Based"),
    "ChargeDescription": (Type.TEXT, _described),
    "ConsumedQuantity": (Type.QUANTITY, lambda line, target: _quantity(line)),
    "ConsumedUnit": (Type.TEXT, lambda line, target: "Tokens" if line.kind is Kind.TOKENS else "GPU Hours"),
    "ProviderName": (Type.TEXT, _provider),
    "PublisherName": (Type.TEXT, _provider),
    "InvoiceIssuerName": (Type.TEXT, _provider),
    "RegionId": (Type.TEXT, lambda line, target: None if target.region == "unknown" else target.region),
    "ResourceId": (Type.TEXT, lambda line, target: line.series.target),
    "ResourceName": (Type.TEXT, lambda line, target: target.model or None),
    "ResourceType": (Type.TEXT, lambda line, target: "Model" if line.kind is Kind.TOKENS else "GPU"),
    "ServiceCategory": (Type.TEXT, lambda line, target: "AI and Machine Learning"),
    "ServiceSubcategory": (Type.TEXT, lambda line, target: "Generative AI"),
    "ServiceName": (
        Type.TEXT,
        lambda line, target: "Dedicated inference" if line.series.lane == Lane.DEDICATED else "Shared inference",
    ),
    "SkuId": (
        Type.TEXT,
        lambda line, target: line.series.model if line.kind is Kind.TOKENS else target.gpu_type or None,
    ),
    "SubAccountId": (Type.TEXT, lambda line, target: line.series.tenant or None),
    "Tags": (Type.TEXT, lambda line, target: _tags(line)),
}

_LABELS = {name: f"x_{name.capitalize()}" for name in ("tenant", "key", "model", "route", "target", "lane")}


def _count(name: str) -> Callable[[BillLine, TargetRow], Value]:
    return lambda line, target: line.counts.get(name, 0)


def _money(name: str) -> Callable[[BillLine, TargetRow], Value]:
    return lambda line, target: usd(line.counts.get(name, 0))


def _label(name: str) -> Callable[[BillLine, TargetRow], Value]:
    return lambda line, target: getattr(line.series, name) or None


def _own_name(counter: str) -> str:
    words = counter.replace("nano_usd", "cost").split("_")
    return "x_" + "".join(word.capitalize() for word in words)


_OWN: dict[str, Column] = {
    "x_Kind": (Type.TEXT, lambda line, target: line.kind.value),
    **{column: (Type.TEXT, _label(name)) for name, column in _LABELS.items()},
    **{_own_name(name): (Type.COUNT, _count(name)) for name in COUNTERS if name not in _MONEY},
    _own_name("estimated_nano_usd"): (Type.MONEY, _money("estimated_nano_usd")),
    "x_GpuHours": (Type.QUANTITY, lambda line, target: _hours(line.gpu_ms)),
    "x_ReplicaHours": (Type.QUANTITY, lambda line, target: _hours(line.replica_ms)),
}

COLUMNS: Mapping[str, Type] = {name: column[0] for name, column in {**_FOCUS, **_OWN}.items()}
"""All columns in their order, and what each holds."""
_READ = {name: column[1] for name, column in {**_FOCUS, **_OWN}.items()}


def focus_row(line: BillLine, targets: Mapping[str, TargetRow]) -> dict[str, Value]:
    """A line of the bill, column by column."""
    target = targets.get(line.series.target, _UNKNOWN)
    return {name: read(line, target) for name, read in _READ.items()}
