"""`spillway demo`: watch traffic fill the GPUs, spill, and come back. Only the proxy is real."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

Seconds = Annotated[
    float | None, typer.Option(min=20, help="End by itself, and fail unless traffic spilled and came back")
]
Tui = Annotated[bool, typer.Option(help="Draw a live picture, where there is a terminal")]


def demo(seconds: Seconds = None, tui: Tui = True) -> None:
    """Watch a rising load fill simulated GPUs, spill to a simulated provider, and come back: no GPU, key or bill."""
    import asyncio

    from proxy.cli.demo_scene import perform
    from proxy.cli.demo_stage import StageError

    try:
        story = asyncio.run(perform(seconds, tui))
    except StageError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    if seconds is not None and (story.failures or not story.complete):
        raise typer.Exit(1)
