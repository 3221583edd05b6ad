"""`spillway policy check`: says all that is wrong with a policy, or what it amounts to."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from proxy.meters.prices import PriceList
    from proxy.policy.model import Price

app = typer.Typer(add_completion=False)


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="Policy file, or a folder of them")],
    without_secrets: Annotated[
        bool,
        typer.Option("--without-secrets", help="Take environment variables that are not set as set, as CI needs it"),
    ] = False,
) -> None:
    """Compile the policy as `serve` would. Exit status: 0 fine, 1 it has mistakes, 2 there is no such file."""
    from proxy.cli.policy_summary import summary
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
    print("\n".join(summary(compiled.snapshot)))
    for warning in compiled.warnings:
        print(f"warning: {warning}")


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
