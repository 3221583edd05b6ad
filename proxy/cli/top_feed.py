"""The live view of a running proxy, again and again: as server-sent events, or asked for once a second.

Theory of operation
-------------------
A thread reads, since a terminal has to be drawn, and Ctrl-C heard, while nothing comes. What it finds goes into a
queue: a view, or why there is none. It begins anew whenever a connection ends, and never gives up: a proxy that is
rolled out anew is back in a moment. An event is the data of its `data:` lines up to an empty line (WHATWG HTML, section
9.2).
"""

from __future__ import annotations

import http.client
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import msgspec

from proxy.cli.admin_port import AdminPortError, NoAnswer, ask
from proxy.live.view import FORMAT, LiveView

PATH = "/admin/live"
RETRY_S = 1.0
SILENCE_S = 5.0
_EVENTS = "text/event-stream"
_HINT = "start one with `spillway serve`, or name its admin port with `--admin-url`"
_decode = msgspec.json.Decoder(LiveView).decode


class NotALiveView(AdminPortError):
    """Something answers, and not with a live view of this release."""

    def __init__(self, admin_url: str) -> None:
        super().__init__(f"`{admin_url}` does not answer like a Spillway of this release")


@dataclass(frozen=True, slots=True)
class Heard:
    """A view, and the bytes that it came as."""

    view: LiveView
    text: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """There is no view at present, and why."""

    error: AdminPortError


News = Heard | Lost


def heard_once(admin_url: str) -> Heard:
    """The view of this moment. Raises AdminPortError."""
    with ask(admin_url, PATH, hint=_HINT) as answer:
        try:
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(admin_url, error, _HINT) from None
    return read(text, admin_url)


def read(text: bytes, admin_url: str) -> Heard:
    """A view from its JSON. Raises NotALiveView."""
    try:
        view = _decode(text)
    except msgspec.MsgspecError:
        raise NotALiveView(admin_url) from None
    if view.format != FORMAT:
        raise NotALiveView(admin_url)
    return Heard(view, text)


def events(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The data of each event, as its lines come."""
    data: list[bytes] = []
    for line in lines:
        if line.startswith(b"data:"):
            data.append(line[5:].rstrip(b"\r\n").removeprefix(b" "))
        elif not line.strip() and data:
            yield b"\n".join(data)
            data = []


class Feed:
    """Follows a proxy in the background until it is closed; `news` has what was heard, newest last."""

    def __init__(self, admin_url: str) -> None:
        self.news: queue.Queue[News] = queue.Queue()
        self._admin_url = admin_url
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="top-feed", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Leave off; the thread ends by itself, at the next event at the latest."""
        self._closing.set()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._follow(self.news.put)
            except AdminPortError as error:
                self.news.put(Lost(error))
            except (OSError, ValueError, http.client.HTTPException) as error:
                self.news.put(Lost(NoAnswer(self._admin_url, error, "waiting for it to come back")))
            self._closing.wait(RETRY_S)

    def _follow(self, put: Callable[[News], None]) -> None:
        """One connection, to its end."""
        answer = ask(self._admin_url, PATH, headers={"accept": _EVENTS}, timeout_s=SILENCE_S, hint=_HINT)
        with answer:
            if answer.headers.get_content_type() != _EVENTS:
                put(read(answer.read(), self._admin_url))
                return
            for text in events(answer):
                put(read(text, self._admin_url))
                if self._closing.is_set():
                    return
        put(Lost(NoAnswer(self._admin_url, "it has closed the connection", "waiting for it to come back")))
