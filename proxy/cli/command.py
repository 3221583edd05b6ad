"""The verbs of `spillway`, put together. Each imports what it needs when it runs: `serve` is up within a second."""

from __future__ import annotations

import typer

from proxy import __version__
from proxy.cli.advise import advise
from proxy.cli.calibrate import calibrate
from proxy.cli.demo import demo
from proxy.cli.init import init
from proxy.cli.keys import app as keys
from proxy.cli.meters import app as meters
from proxy.cli.policy import app as policy
from proxy.cli.replay import replay
from proxy.cli.serve import serve
from proxy.cli.simulate import app as simulate
from proxy.cli.status import status
from proxy.cli.top import top

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="An OpenAI-compatible proxy that fills your own GPUs first and spills to shared APIs by policy.",
)
app.command()(serve)
app.command()(status)
app.command()(top)
app.command()(demo)
app.command()(init)
app.command()(replay)
app.command()(advise)
app.command()(calibrate)
app.add_typer(policy, name="policy")
app.add_typer(keys, name="keys")
app.add_typer(meters, name="meters")
app.add_typer(simulate, name="simulate")


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)
