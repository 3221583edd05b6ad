"""Runs `spillway top`: on a terminal as a picture, elsewhere as a line a second.

Theory of operation
-------------------
Two sources of events: news from the proxy, and Ctrl-C or SIGTERM, which both end it in order, with the terminal as it
was. Between news the picture is drawn again when the terminal has another size, or to say for how long nothing came.
What goes wrong before the first view ends the program with its reason: there is nothing to wait for behind a wrong URL.
Afterwards it waits, and says so.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType

import typer
from rich.console import Console
from rich.live import Live

from proxy.cli.admin_port import AdminPortError
from proxy.cli.top_feed import Feed, Heard, Lost, heard_once
from proxy.cli.top_screen import Frame, picture, summary

REDRAW_S = 0.25
PIPE_COLUMNS = 160
LATE_S = 3.0


def show_once(admin_url: str, *, as_json: bool) -> None:
    """One frame, as high as it has to be. Raises AdminPortError."""
    heard = heard_once(admin_url)
    if as_json:
        typer.echo(heard.text)
        return
    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=PIPE_COLUMNS)
    console.print(picture(heard.view, Frame(console.width, None)))


def run(admin_url: str, *, as_json: bool) -> None:
    """Until Ctrl-C. Raises AdminPortError if there is nothing to show to begin with."""
    feed = Feed(admin_url)
    feed.start()
    try:
        with _terminable():
            first = feed.news.get()
            if isinstance(first, Lost):
                raise first.error
            console = Console(highlight=False)
            if as_json or not console.is_terminal:
                _tell(feed, first, as_json=as_json)
            else:
                _draw(feed, first, console, admin_url)
    except KeyboardInterrupt:
        pass
    finally:
        feed.close()


def _tell(feed: Feed, first: Heard, *, as_json: bool) -> None:
    """A line for each view; troubles go to standard error, once each."""
    news: Heard | Lost = first
    lost = ""
    while True:
        if isinstance(news, Heard):
            typer.echo(news.text if as_json else summary(news.view))
            lost = ""
        elif str(news.error) != lost:
            lost = str(news.error)
            typer.echo(f"{lost}; waiting", err=True)
        news = feed.news.get()


def _draw(feed: Feed, first: Heard, console: Console, admin_url: str) -> None:
    heard, heard_at, lost = first, time.monotonic(), None
    with Live(console=console, screen=True, auto_refresh=False, redirect_stderr=False) as live:
        while True:
            silent_s = time.monotonic() - heard_at
            frame = Frame(console.width, console.height, _note(admin_url, lost, silent_s))
            live.update(picture(heard.view, frame), refresh=True)
            for news in _waited_for(feed, console):
                if isinstance(news, Heard):
                    heard, heard_at, lost = news, time.monotonic(), None
                else:
                    lost = news.error


def _waited_for(feed: Feed, console: Console) -> list[Heard | Lost]:
    """What came, all of it; nothing if the terminal changed its size, or a second went by."""
    size, until = console.size, time.monotonic() + 1.0
    while time.monotonic() < until and console.size == size:
        with contextlib.suppress(queue.Empty):
            news = [feed.news.get(timeout=REDRAW_S)]
            while not feed.news.empty():
                news.append(feed.news.get_nowait())
            return news
    return []


def _note(admin_url: str, lost: AdminPortError | None, silent_s: float) -> str:
    if lost is not None:
        return f"as of {silent_s:.0f} s ago: {lost}"
    return f"nothing from `{admin_url}` for {silent_s:.0f} s" if silent_s > LATE_S else ""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end it as Ctrl-C does: the terminal has to be left as it was."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
