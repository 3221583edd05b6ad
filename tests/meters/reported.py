"""Rows and periods of the meters' report, by hand."""

from __future__ import annotations

from typing import Any

from proxy.meters.report import Period, TargetReport
from proxy.policy.model import Lane


def row(lane: Lane = Lane.DEDICATED, **figures: Any) -> TargetReport:
    """A target that did nothing, but for `figures`; no price is known."""
    nothing = dict.fromkeys(TargetReport.__struct_fields__[2:14], 0) | {"nano_usd": None, "nano_usd_per_mtok": None}
    return TargetReport(target="gpu", lane=lane, **(nothing | figures))


def lately(*rows: TargetReport) -> Period:
    """A minute in which the targets did that."""
    return Period(
        seconds=60.0,
        targets=rows,
        requests=0,
        spilled=0,
        spill_share=None,
        shared_nano_usd=0,
        dedicated_nano_usd=0,
    )
