"""`spillway advise`: what the next GPU is worth, or the last one, in dollars and with how much certainty."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from proxy.cli.status import ADMIN_URL, AdminUrl

EXTRA = "pip install 'spillway-proxy[advisor]'"


def advise(
    trace: Annotated[
        Path | None, typer.Option(help="Requests, or usage by the minutes: CSV, JSON lines, Parquet")
    ] = None,
    from_meters: Annotated[bool, typer.Option("--from-meters", help="What a running proxy has metered")] = False,
    sample: Annotated[
        list[Path], typer.Option(help="A trace of some of the same traffic, that says how it comes within usage rows")
    ] = [],  # noqa: B006  (typer copies it)
    policy: Annotated[
        Path | None, typer.Option(envvar="SPILLWAY_POLICY", help="Policy file, or a folder of them")
    ] = None,
    target: Annotated[str | None, typer.Option(help="The dedicated target; default: each that there is")] = None,
    allow: Annotated[
        list[str], typer.Option(help="Targets and providers whose prices may be used; default: all of the policy's")
    ] = [],  # noqa: B006
    gpu: Annotated[
        list[str],
        typer.Option(metavar="PROFILE=USD", help="Another replica and its price an hour: 70b-fp8-1xh200=3.50"),
    ] = [],  # noqa: B006
    price: Annotated[
        list[str],
        typer.Option(metavar="NAME=IN/OUT", help="Dollars a million tokens, and allowed: deepinfra=0.23/0.40"),
    ] = [],  # noqa: B006
    have: Annotated[
        int | None, typer.Option(min=0, help="Replicas that you have; default: none, with --from-meters the policy's")
    ] = None,
    replicas: Annotated[
        str, typer.Option(metavar="0..6", help="How many to look at; default: as many as it takes")
    ] = "",
    growth: Annotated[str, typer.Option(metavar="10%/month", help="How demand grows")] = "",
    commit: Annotated[
        str, typer.Option(metavar="30%/1 month", help="What a commitment is worth, for how long")
    ] = "30%/1 month",
    steps: Annotated[
        str, typer.Option(metavar="12x80ms", help="Calls in a task, and each one's time on the network")
    ] = "",
    observed: Annotated[str, typer.Option(metavar="FILE|URL", help="Latencies of targets, as for `policy check`")] = "",
    ttft: Annotated[str, typer.Option(metavar="2s", help="Objective of the first token; default: the routes'")] = "",
    itl: Annotated[
        str, typer.Option(metavar="50ms", help="Objective of the gap between tokens; default: the routes'")
    ] = "",
    begins: Annotated[
        str, typer.Option(metavar="DATE", help="When the trace begins: weekends are told apart then")
    ] = "",
    from_: Annotated[str, typer.Option("--from", metavar="TIME", help="With --from-meters: since when")] = "-14d",
    to: Annotated[str, typer.Option("--to", metavar="TIME", help="With --from-meters: until when")] = "now",
    as_json: Annotated[bool, typer.Option("--json", help="Print the advice as JSON")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page with plots")] = None,
    admin_url: AdminUrl = ADMIN_URL,
) -> None:
    """Say in dollars whether to buy a GPU, to wait, or to give one back, and what would change that."""
    _need_the_extra()
    from proxy.cli import advise_run
    from proxy.cli.advise_options import CannotAdvise

    if (trace is None) != from_meters:
        _fail("give either `--trace FILE` or `--from-meters`")
    try:
        wishes = advise_run.Wishes(
            trace=trace,
            samples=tuple(sample),
            policy=policy,
            target=target,
            allow=tuple(allow),
            gpus=tuple(gpu),
            prices=tuple(price),
            have=have,
            replicas=replicas,
            growth=growth,
            commit=commit,
            steps=steps,
            observed=observed,
            ttft=ttft,
            itl=itl,
            begins=begins,
            from_=from_,
            to=to,
            admin_url=admin_url,
        )
        advices = advise_run.run(wishes)
        if html is not None:
            advise_run.write_page(advices, html)
        advise_run.tell(advices, as_json=as_json)
    except CannotAdvise as error:
        _fail(str(error))


def _need_the_extra() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("numpy", "scipy", "matplotlib", "pyarrow") if find_spec(name) is None]
    if missing:
        _fail(f"this needs {', '.join(missing)} (hint: `{EXTRA}`)")


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(1)
