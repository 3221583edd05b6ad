"""What `spillway advise` does with its options: reads, asks the advisor, and tells."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer

from proxy.advisor.advice import Advice, Asked, advise
from proxy.advisor.reasons import Promise, Seen
from proxy.cli import advise_options as read
from proxy.cli.advise_options import CannotAdvise
from proxy.cli.advise_question import Choices, Pool, allowed, other_choices, pools
from proxy.cli.advise_source import Metered, Source, Summed, from_file, from_meters
from proxy.cli.policy_assumed import Assumed
from proxy.meters.prices import PriceList, PriceListUnreadable
from proxy.policy.compile import compile_policy
from proxy.policy.model import Snapshot
from proxy.policy.price import Price
from proxy.policy.problem import PolicyError

SEED = 1
"""Drawing again gives the same advice."""
PIPE_COLUMNS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """The options as they were written."""

    trace: Path | None
    samples: tuple[Path, ...]
    policy: Path | None
    target: str | None
    allow: tuple[str, ...]
    gpus: tuple[str, ...]
    prices: tuple[str, ...]
    have: int | None
    replicas: str
    growth: str
    commit: str
    steps: str
    observed: str
    ttft: str
    itl: str
    begins: str
    from_: str
    to: str
    admin_url: str


def run(wishes: Wishes) -> list[Advice]:
    """The advice for each pool that anything was asked of. Raises CannotAdvise."""
    choices = Choices(
        target=wishes.target,
        allow=read.names(wishes.allow) if wishes.allow else None,
        gpus=tuple(map(read.gpu, wishes.gpus)),
        prices=dict(map(read.price, wishes.prices)),
        ttft_s=read.seconds("--ttft", wishes.ttft) if wishes.ttft else None,
        itl_s=read.seconds("--itl", wishes.itl) if wishes.itl else None,
    )
    snapshot = None if wishes.policy is None else _policy(wishes.policy)
    source = _source(wishes)
    seen = _seen(wishes)
    there = pools(snapshot, choices, source.apps)
    asked = [one for pool in there if (one := _asked(wishes, choices, source, pool, seen)) is not None]
    if not asked:
        raise CannotAdvise(_nothing(source, snapshot))
    return [advise(one, np.random.default_rng(SEED)) for one in asked]


def _nothing(source: Source, snapshot: Snapshot | None) -> str:
    if not source.apps:
        return "nothing was asked for in that time"
    if snapshot is None:
        return "nothing was asked for"
    return "no dedicated target of the policy may serve any of it (hint: `spillway policy explain`)"


def _source(wishes: Wishes) -> Source:
    if wishes.trace is None:
        from proxy.cli.meters_time import point_in_time

        now_s = time.time()
        try:
            begin, end = point_in_time(wishes.from_, now_s), point_in_time(wishes.to, now_s)
        except ValueError as error:
            raise CannotAdvise(str(error)) from None
        return from_meters(wishes.admin_url, begin, end)
    return from_file(wishes.trace, wishes.samples, read.begins(wishes.begins) if wishes.begins else None, SEED)


def _asked(wishes: Wishes, choices: Choices, source: Source, pool: Pool, seen: Sequence[Seen]) -> Asked | None:
    demand = source.demand(pool)
    if demand is None or not demand.sums.any():
        return None
    if isinstance(source, Metered):
        pool = source.aligned(pool, demand)
    lawful = allowed(pool, choices, _price_of)
    named = {one.target for some in lawful for one in some}
    have = wishes.have if wishes.have is not None else (pool.have if isinstance(source, Metered) else 0)
    fewest, most = read.replicas(wishes.replicas) if wishes.replicas else (0, None)
    return Asked(
        demand=demand,
        offer=pool.offer,
        lawful=lawful,
        providers=other_choices(pool, lawful, choices),
        others=pool.others,
        have=have,
        fewest=fewest,
        most=most,
        growth=read.growth(wishes.growth) if wishes.growth else 0.0,
        terms=read.terms(wishes.commit),
        seen=[one for one in seen if one.target in named],
        promise=Promise(ttft_s=pool.ttft_s),
        steps=read.steps(wishes.steps) if wishes.steps else None,
        ttft_s=pool.ttft_s,
        drawn=_drawn(source),
    )


def _drawn(source: Source) -> str:
    if not isinstance(source, Summed):
        return ""
    minutes = f"in rows of {source.usage.row_s / 60:g} minutes"
    return f"{minutes}, as in the sample" if source.textures.apps else f"{minutes}, as other people's traffic comes"


def _seen(wishes: Wishes) -> list[Seen]:
    from proxy.cli.advise_seen import observed, recorded

    found = {} if wishes.trace is not None else recorded(wishes.admin_url, wishes.from_, wishes.to)
    return observed(wishes.observed, found) if wishes.observed else list(found.values())


def _policy(path: Path) -> Snapshot:
    if not path.exists():
        raise CannotAdvise(f"no such file or folder: `{path}`")
    try:
        return compile_policy(path, env=Assumed(os.environ), price_of=_price_of)
    except PolicyError as error:
        raise CannotAdvise(f"`{path}` is no policy: {error} (hint: `spillway policy check {path}`)") from None


@functools.cache
def _prices() -> PriceList:
    try:
        return PriceList.load()
    except PriceListUnreadable as error:
        raise CannotAdvise(str(error)) from None


def _price_of(provider: str, model: str) -> Price | None:
    return _prices().price_of(provider, model)


def tell(advices: Sequence[Advice], *, as_json: bool) -> None:
    """Print the advice."""
    if as_json:
        from proxy.advisor.advice_json import to_json

        typer.echo(to_json(advices))
        return
    from rich.console import Console

    from proxy.cli.advise_table import print_advice

    console = Console() if sys.stdout.isatty() else Console(width=PIPE_COLUMNS)
    for advice in advices:
        print_advice(advice, console)


def write_page(advices: Sequence[Advice], path: Path) -> None:
    """Write the page with plots. Raises CannotAdvise."""
    from proxy.advisor.advice_html import to_html

    try:
        path.write_text(to_html(advices), encoding="utf-8")
    except OSError as error:
        raise CannotAdvise(f"`{path}` cannot be written: {(error.strerror or str(error)).lower()}") from None
