"""`spillway policy check`: says all that is wrong with a policy, or what it amounts to."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from proxy.meters.prices import PriceList
    from proxy.policy.compile import Compiled
    from proxy.policy.model import Match, Price, Require, Route, Snapshot, Target, Want

app = typer.Typer(name="policy", no_args_is_help=True, help="Work on a policy before it serves.")

NANO = 10**9


@app.callback()
def _policy() -> None:
    """Work on a policy before it serves."""


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="Policy file, or a folder of them")],
    without_secrets: Annotated[
        bool,
        typer.Option("--without-secrets", help="Take environment variables that are not set as set, as CI needs it"),
    ] = False,
) -> None:
    """Compile the policy as `serve` would. Exit status: 0 fine, 1 it has mistakes, 2 there is no such file."""
    from proxy.meters.prices import PriceListUnreadable
    from proxy.policy.compile import check_policy
    from proxy.policy.problem import PolicyError

    if not path.exists():
        print(f"no such file or folder: `{path}`", file=sys.stderr)
        raise typer.Exit(2)
    env: Mapping[str, str] = _Assumed(os.environ) if without_secrets else os.environ
    try:
        compiled = check_policy(path, env=env, price_of=_price_of)
    except PolicyError as error:
        count = len(error.problems)
        print(error, f"{count} {'problem' if count == 1 else 'problems'}", sep="\n")
        raise typer.Exit(1) from None
    except PriceListUnreadable as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    print("\n".join(summary(compiled)))


class _Assumed(dict[str, str]):
    """An environment in which every variable is set."""

    def get(self, name: str, default: object = None) -> str:
        return super().get(name) or "assumed"


@functools.cache
def _prices() -> PriceList:
    from proxy.meters.prices import PriceList

    return PriceList.load()


def _price_of(provider: str, model: str) -> Price | None:
    return _prices().price_of(provider, model)


def summary(compiled: Compiled) -> Iterator[str]:
    """What the policy amounts to, line by line."""
    snapshot = compiled.snapshot
    yield f"{snapshot.source} is fine: policy {snapshot.revision}, digest sha256:{snapshot.digest}"
    yield "targets"
    yield from _table(_target(target) for target in snapshot.targets.values())
    yield "models"
    yield from _table(
        (name, ", ".join(_candidate(one.target, one.model) for one in candidates))
        for name, candidates in snapshot.models.items()
    )
    yield "routes, the first that matches"
    yield from _table(_route(route) for route in snapshot.routes)
    yield f"callers: {_callers(snapshot)}"
    for warning in compiled.warnings:
        yield f"warning: {warning}"


def _table(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """The rows with their columns aligned."""
    lines = list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _target(target: Target) -> tuple[str, ...]:
    from proxy.routing.capacity import max_in_flight

    vendor = target.engine or target.provider or "openai-compatible"
    place = f"region {target.region}, retention {target.retention}"
    limit = max_in_flight(target)
    full = "" if limit is None else f"full at {limit} in flight{' each' if target.replicas > 1 else ''}"
    return target.name, target.lane, vendor, target.model, place, _cost(target), full


def _cost(target: Target) -> str:
    if target.gpus is not None:
        gpus = target.gpus
        hourly = _usd(gpus.replica_nano_usd_per_hour)
        replicas = f"{target.replicas} replicas, each " if target.replicas > 1 else ""
        return f"{replicas}{gpus.count} {gpus.type} at {hourly}/h"
    if target.price is None:
        return "cost unknown"
    price = target.price
    paid = f"{_usd(price.input_nano_usd_per_mtok)} in, {_usd(price.output_nano_usd_per_mtok)} out per M tokens"
    return f"{paid} ({price.source})"


def _usd(nano_usd: int) -> str:
    dollars, rest = divmod(nano_usd, NANO)
    return f"${dollars}.{f'{rest:09d}'.rstrip('0').ljust(2, '0')}"


def _candidate(target: Target, model: str) -> str:
    return target.name if model == target.model else f"{target.name} as {model}"


def _route(route: Route) -> tuple[str, ...]:
    gates, wants = _require(route.require), _want(route.want)
    return (
        route.name,
        _match(route.match),
        f"require {gates}" if gates else "no gates",
        f"want {wants}" if wants else "",
        f"prefer {route.prefer}",
    )


def _match(match: Match) -> str:
    parts = (
        _one_of("model", match.models),
        _one_of("endpoint", match.endpoints),
        _one_of("tenant", match.tenants),
        f"tags {', '.join(sorted(match.tags))}" if match.tags else "",
        match.traffic or "",
        "" if match.stream is None else "streamed" if match.stream else "not streamed",
    )
    return "; ".join(part for part in parts if part) or "everything"


def _require(require: Require) -> str:
    parts = (
        _one_of("region", require.regions),
        _one_of("retention", require.retention),
        f"lane {require.lane}" if require.lane else "",
        f"tags {', '.join(sorted(require.tags))}" if require.tags else "",
    )
    return "; ".join(part for part in parts if part)


def _want(want: Want) -> str:
    from proxy.policy.units import spell_duration

    parts = (
        _one_of("region", want.regions),
        _one_of("retention", want.retention),
        f"lane {want.lane}" if want.lane else "",
        f"ttft_p99 {spell_duration(want.ttft_p99_s)}" if want.ttft_p99_s else "",
        f"itl_p99 {spell_duration(want.itl_p99_s)}" if want.itl_p99_s else "",
        f"uptime {want.uptime:.10g}" if want.uptime else "",
        f"{_usd(want.nano_usd_per_mtok)} per M tokens" if want.nano_usd_per_mtok is not None else "",
    )
    return "; ".join(part for part in parts if part)


def _one_of(what: str, values: Iterable[str] | None) -> str:
    return f"{what} {' or '.join(sorted(values))}" if values else ""


def _callers(snapshot: Snapshot) -> str:
    if snapshot.open_to_all:
        return "everybody who reaches the port (auth: none)"
    if not snapshot.tenants:
        return "this machine only, since there are no tenants"
    keys = f"{len(snapshot.keys)} {'key' if len(snapshot.keys) == 1 else 'keys'}"
    return f"{keys} of {', '.join(sorted(snapshot.tenants))}"
