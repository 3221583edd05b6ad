"""The order in which a target's replicas are listed: whoever stays keeps its place among those who stay."""

from __future__ import annotations

from collections.abc import Set


def in_order(before: tuple[str, ...], now: Set[str]) -> tuple[str, ...]:
    """Those of `before` that are still there, as they were; then the new ones, sorted, so that all proxies agree."""
    return (*(url for url in before if url in now), *sorted(now - set(before)))
