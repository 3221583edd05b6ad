"""Compiles a policy for verbs that only look at its decisions: environment variables that are not set are assumed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.policy.compile import Compiled
    from proxy.policy.model import Price, Snapshot
    from proxy.policy.problem import Problem
    from proxy.policy.source import Source


class Assumed(dict[str, str]):
    """An environment in which every variable is set: one that is not holds a text that may stand for any secret.

    Each differs from the others, and is what `sha256sum` could have printed, so that it stands for a tenant's key too.
    One whose name says that it is an address or a region holds such a thing.
    """

    def get(self, name: str, default: object = None) -> str:
        return super().get(name) or _assumed(name)


def _assumed(name: str) -> str:
    digest = hashlib.sha256(name.encode()).hexdigest()
    words = frozenset(name.split("_"))
    if words & {"KEY", "SECRET", "TOKEN", "SHA256"}:
        return digest
    if words & {"URL", "BASE", "ENDPOINT"}:
        return f"https://{digest[:16]}.internal/v1"
    return digest[:16] if words & {"REGION", "LOCATION"} else digest


def compiled(path: Path) -> Snapshot:
    """The policy at `path` with the packaged prices. Raises PolicyError, and PriceListUnreadable."""
    from proxy.policy.source import read_source

    return checked(read_source(path)).snapshot


def checked(source: Source) -> Compiled:
    """`compiled` for texts that have been read already."""
    from proxy.meters.prices import PriceList
    from proxy.policy.compile import check_source

    prices: list[PriceList] = []  # read when the first target asks for a price: many policies state them all

    def price_of(provider: str, model: str) -> Price | None:
        if not prices:
            prices.append(PriceList.load())
        return prices[0].price_of(provider, model)

    return check_source(source, env=Assumed(os.environ), price_of=price_of)


def listing(problems: Iterable[Problem]) -> str:
    """The problems, one a line, and how many there are."""
    lines = [str(problem) for problem in problems]
    return "\n".join([*lines, f"{len(lines)} {'problem' if len(lines) == 1 else 'problems'}"])
