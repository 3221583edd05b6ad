"""`spillway top`: what it draws in any size, what it says where there is no terminal, and how it starts and ends."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest
from proxy.cli.admin_port import AdminPortError, NoAnswer
from proxy.cli.command import app
from proxy.cli.top_feed import Feed, Heard, Lost, NotALiveView, events, heard_once, read
from proxy.cli.top_rows import decisions_of, why
from proxy.cli.top_screen import Frame, picture, shared_out, summary
from proxy.cli.top_words import DOT, bar, plain, rate, seconds, spark, usd
from proxy.live.view import LiveView
from proxy.policy.model import Lane
from proxy.routing.readings import Breaker
from rich.cells import cell_len
from rich.console import Console
from tests.cli.live_views import HOSTILE, REFUSED, VIEW, decision, hostile, target, troubled, view
from typer.testing import CliRunner, Result

ROOT = Path(__file__).resolve().parents[2]
SIZES = [(80, 24), (160, 50), (60, 12), (120, 30), (40, 8), (240, 70)]


def drawn(shown: LiveView, width: int = 160, height: int | None = None, note: str = "") -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False, highlight=False, record=True)
    console.print(picture(shown, Frame(width, height, note)))
    return console.export_text()


def spillway(*options: str) -> Result:
    return CliRunner().invoke(app, ["top", *options])


class Port:
    """An admin port that answers as it is told."""

    def __init__(self, *answers: Callable[[BaseHTTPRequestHandler], None]) -> None:
        self.asked: list[dict[str, str]] = []
        port, queue = self, list(answers)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                port.asked.append({name.lower(): value for name, value in self.headers.items()})
                (queue.pop(0) if len(queue) > 1 else queue[0])(self)

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *args: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@contextlib.contextmanager
def answering(*answers: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[Port]:
    port = Port(*answers)
    thread = threading.Thread(target=port.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield port
    finally:
        port.server.shutdown()
        port.server.server_close()


def whole(body: bytes, status: int = 200) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def stream(*views: LiveView, then: Callable[[], object] = lambda: None) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("connection", "close")
        handler.end_headers()
        for one in views:
            handler.wfile.write(b"id: 1\ndata: %b\n\n" % msgspec.json.encode(one))
            handler.wfile.flush()
        then()
        handler.close_connection = True

    return answer


JSON = whole(msgspec.json.encode(VIEW))


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("shown", [VIEW, troubled(), hostile(), view(targets=(), routes=(), budgets=(), decisions=())])
def test_it_fits_the_terminal_whatever_its_size(shown: LiveView, width: int, height: int) -> None:
    lines = drawn(shown, width, height).splitlines()
    assert len(lines) <= height
    assert max(map(cell_len, lines)) <= width


def test_the_important_things_are_seen_at_the_usual_size() -> None:
    text = drawn(VIEW, 80, 24)
    for words in ("spillway 1.2.3", "ready", "20.8 req/s", "spilled 25%", "$5.99/h", "41% idle", "$4.80/h", "+$2.27/h"):
        assert words in text
    for words in ("llama-eu", "together", "88%", "58ms", "110ms", "$0.52", "61%", "ttft 296", "growth-spill", "84%"):
        assert words in text
    assert "ttft_p99 750ms✓ of 2.00s" in text
    assert "predicted ttft 2.3 s" in text
    assert "refused: residency" in text


def test_a_wide_one_says_more() -> None:
    text = drawn(VIEW, 200, 50)
    for words in (
        "itl_p99 80ms✗ of 60ms",
        "bank",
        "llama-70b",
        "llama-eu:8000",
        "eu-west-1",
        "ttft p99 ",
        "today $50.00 + $39.00",
    ):
        assert words in text
    assert "refused: residency_unsatisfiable (together region us)" in text


def test_troubles_and_a_lost_proxy_are_told() -> None:
    text = drawn(troubled(), 160, 50, "as of 9 s ago: no proxy answers")
    assert "draining" in text
    assert "degraded: meters: the store is out of reach" in text
    assert "policy.yaml:3:1: unknown key `rout` (and 1 more)" in text
    assert "as of 9 s ago" in text
    assert "2 not ready; the service account may not `list` endpoints" in drawn(troubled(), 200, 50)
    assert "2 not r" in drawn(troubled(), 80, 24)
    assert " pods" not in drawn(VIEW, 200, 50)


def test_what_is_not_known_is_not_nothing() -> None:
    unknown = view(money=None, targets=(target(money=None, saturation=None, breaker=None, replicas=()),))
    text = drawn(unknown, 80, 24)
    assert "have not said" in text
    assert "asleep" in text
    assert "$0" not in text.split("time")[0].replace("$0.00040", "")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"breaker": Breaker.OPEN, "open_for_s": 4.2}, "open 4.20s"),
        ({"breaker": Breaker.HALF_OPEN}, "trying"),
        ({"full_for_s": 0.5}, "full 500ms"),
    ],
)
def test_a_target_that_does_not_serve_says_for_how_long(more: dict[str, object], words: str) -> None:
    replica = msgspec.structs.replace(target().replicas[0], **more)
    shown = view(targets=(target(breaker=replica.breaker, replicas=(replica,)),))
    assert words in drawn(shown, 80, 24)


def test_of_many_targets_the_busiest_are_shown_and_the_others_counted() -> None:
    many = tuple(target(f"t{at:02}", in_flight=at) for at in range(60))
    text = drawn(view(targets=many), 80, 24)
    assert "t59" in text
    assert "t01" not in text
    assert re.search(r"and \d+ more targets", text)
    assert len(re.findall(r"^\d\d:\d\d:\d\d", text, re.MULTILINE)) >= 3


def test_lines_are_shared_out_by_turns() -> None:
    assert shared_out([3, 3, 3], 100) == [3, 3, 3]
    assert shared_out([60, 3, 2], 15) == [10, 3, 2]
    assert shared_out([60, 60], 2) == [2, 2]
    assert shared_out([], 10) == []


def test_hostile_names_are_shown_and_not_obeyed() -> None:
    for width, height in SIZES:
        console = Console(
            width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor", highlight=False
        )
        console.print(picture(hostile(), Frame(width, height)))
        told = console.file.getvalue()  # type: ignore[attr-defined]
        left = re.sub(r"\x1b\[[0-9;]*m", "", told)  # our own colours, and nothing else, may remain
        assert {unicodedata.category(one) for one in left} & {"Cc", "Cf", "Cs", "Co"} <= {"Cc"}
        assert {one for one in left if unicodedata.category(one) == "Cc"} <= {"\n"}
    assert "[bold]" in drawn(hostile(), 240, 70)


def test_a_name_keeps_what_can_be_read() -> None:
    assert plain("llama-3.3 70B é 中文 🦙") == "llama-3.3 70B é 中文 🦙"
    assert plain("a\x1b[2Jb\u202ec\n") == f"a{DOT}[2Jb{DOT}c{DOT}"
    assert len(plain(HOSTILE * 100)) == 500


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0042, "4.2ms"),
        (0.058, "58ms"),
        (0.9996, "1.00s"),
        (1.204, "1.20s"),
        (59.94, "59.9s"),
        (601, "10min"),
        (7200, "2.0h"),
        (200_000, "2d"),
    ],
)
def test_durations(value: float | None, text: str) -> None:
    assert seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "$0.00"),
        (999, "$0.00"),
        (396_000, "$0.00040"),
        (50_000_000, "$0.050"),
        (5.99e9, "$5.99"),
        (-1.5e12, "-$1,500.00"),
    ],
)
def test_money(value: float | None, text: str) -> None:
    assert usd(value) == text


def test_rates_bars_and_sparks() -> None:
    assert [rate(one) for one in (0, 0.012, 21.94, 999.9, 4630, 2.5e6)] == ["0", "0.01", "21.9", "1k", "4.63k", "2.5M"]
    assert bar(0.5, 6).plain == "███░░░  50%"
    assert bar(12.0, 6).plain == "██████ 999%"
    assert bar(None, 6).plain == "-"
    assert spark([None, 0.0, 0.5, 1.0], 6) == "   ▁▄█" or len(spark([None, 0.0, 0.5, 1.0], 6)) == 6


def test_half_of_the_decisions_are_out_of_the_ordinary() -> None:
    ordinary = tuple(decision(request_id=f"o{at}", at=100.0 + at) for at in range(20, 0, -1))
    odd = tuple(decision(request_id=f"n{at}", at=50.0 + at) for at in range(10, 0, -1))
    chosen = decisions_of(view(decisions=ordinary, notable=odd), 8)
    assert [one.request_id for one in chosen] == ["o20", "o19", "o18", "o17", "n10", "n9", "n8", "n7"]


def test_reasons() -> None:
    assert why(decision(reason="preferred: cost", relaxed=True)) == "preferred: cost (relaxed)"
    assert why(decision(outcome="failed", failure="connect")) == "failed: connect"
    assert why(decision(outcome="client_left", failure="client_left")) == "client left"
    assert why(REFUSED) == "refused: residency_unsatisfiable (together region us)"


def test_one_frame_for_a_pipe_is_plain_text() -> None:
    with answering(JSON) as port:
        result = spillway("--once", "--admin-url", port.url)
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "llama-eu" in result.stdout
    assert "growth-spill" in result.stdout


def test_the_view_itself() -> None:
    with answering(JSON) as port:
        result = spillway("--once", "--json", "--admin-url", port.url)
    assert json.loads(result.stdout) == json.loads(msgspec.json.encode(VIEW))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (whole(b"not json"), "does not answer like a Spillway of this release"),
        (whole(b'{"format": 2}'), "does not answer like a Spillway of this release"),
        (whole(b"nothing here", 404), "answers 404: is that the admin port of a Spillway?"),
        (
            whole(b'{"error": {"message": "the admin token is missing"}}', 401),
            "answers 401: the admin token is missing",
        ),
    ],
)
@pytest.mark.parametrize("once", [["--once"], []])
def test_what_is_no_proxy_ends_it_with_one_line(answer: Callable[..., None], said: str, once: list[str]) -> None:
    with answering(answer) as port:
        result = spillway(*once, "--admin-url", port.url)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_nobody_there() -> None:
    result = spillway("--admin-url", "http://127.0.0.1:1")
    assert result.exit_code == 1
    assert "no proxy answers at `http://127.0.0.1:1`" in result.stderr
    assert "is no URL" in spillway("--once", "--admin-url", "localhost:9090").stderr


def test_events_are_their_data() -> None:
    lines = [
        b"retry: 1\n",
        b"id: 1\n",
        b"data: a\n",
        b"\n",
        b": hush\n",
        b"\n",
        b"data:b\r\n",
        b"data: c\r\n",
        b"\r\n",
        b"data: cut",
    ]
    assert list(events(lines)) == [b"a", b"b\nc"]


def followed(url: str, most: int) -> list[Heard | Lost]:
    feed = Feed(url)
    feed.start()
    try:
        return [feed.news.get(timeout=10) for _ in range(most)]
    finally:
        feed.close()


def test_events_are_followed_and_a_connection_that_ends_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.cli.top_feed.RETRY_S", 0.01)
    monkeypatch.setenv("SPILLWAY_ADMIN_TOKEN", "a-token")
    with answering(stream(VIEW, view(version="2")), whole(b"{}", 503), stream(view(version="3"))) as port:
        news = followed(port.url, 5)
    versions = [one.view.version if isinstance(one, Heard) else "lost" for one in news]
    assert versions == ["1.2.3", "2", "lost", "lost", "3"]
    assert {one["accept"] for one in port.asked} == {"text/event-stream"}
    assert {one["authorization"] for one in port.asked} == {"Bearer a-token"}


def test_who_has_no_events_is_asked_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.cli.top_feed.RETRY_S", 0.01)
    with answering(JSON) as port:
        assert all(isinstance(one, Heard) for one in followed(port.url, 3))
    assert len(port.asked) >= 3


def test_silence_is_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.cli.top_feed.SILENCE_S", 0.5)
    over = threading.Event()
    with answering(stream(VIEW, then=lambda: over.wait(5))) as port:
        heard, lost = followed(port.url, 2)
        over.set()
    assert isinstance(heard, Heard)
    assert isinstance(lost, Lost)
    assert isinstance(lost.error, NoAnswer)


def test_what_is_not_a_view_is_told_apart() -> None:
    with pytest.raises(NotALiveView):
        read(b"[]", "http://x")
    with answering(whole(b"{}", 500)) as port, pytest.raises(AdminPortError, match="answers 500"):
        heard_once(port.url)


def test_a_moment_in_one_line() -> None:
    line = summary(VIEW)
    assert "\n" not in line
    for words in (
        "ready",
        "dedicated 14 in flight 10.4 req/s $5.99/h",
        "shared 14 in flight",
        "spilled 25%",
        "saving +$2.27/h",
    ):
        assert words in line
    assert "degraded: meters" in summary(troubled())
    assert "saving" not in summary(view(money=None))


class Terminal:
    """`spillway top` in a terminal of its own."""

    def __init__(self, url: str, columns: int = 80, rows: int = 24) -> None:
        self.pid, self._screen = pty.fork()
        if not self.pid:
            env = {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
            os.execve(sys.executable, [sys.executable, "-m", "proxy", "top", "--admin-url", url], env)
        self.resize(columns, rows)
        self.said = b""

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._screen, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, words: bytes, within_s: float = 20.0) -> None:
        """Read on until it has said this since the last time."""
        begin, end = len(self.said), time.monotonic() + within_s
        while words not in self.said[begin:]:
            assert time.monotonic() < end, self.said[begin:]
            if select.select([self._screen], [], [], 0.1)[0]:
                self.said += os.read(self._screen, 1 << 16)

    def end(self, number: int) -> int:
        os.kill(self.pid, number)
        with contextlib.suppress(OSError):
            while part := os.read(self._screen, 1 << 16):
                self.said += part
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self._screen)
        return status


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_a_terminal_it_draws_follows_and_leaves_it_as_it_was(number: int) -> None:
    over = threading.Event()
    answers = stream(VIEW, then=lambda: None), stream(view(version="9.9.9"), then=lambda: over.wait(30))
    with answering(*answers) as port:
        terminal = Terminal(port.url)
        terminal.until(b"1.2.3")
        terminal.until(b"no proxy answers")
        terminal.until(b"9.9.9")  # another one has come in its place
        terminal.resize(160, 50)
        terminal.until(b"llama-eu:8000")  # for which there is room now
        status = terminal.end(number)
        over.set()
    assert status == 0
    assert b"\x1b[?1049h" in terminal.said
    assert terminal.said.rstrip().endswith((b"\x1b[?1049l", b"\x1b[?25h"))
    assert b"Traceback" not in terminal.said


def test_elsewhere_it_says_a_line_for_each_view_until_it_is_told_to_end() -> None:
    over = threading.Event()
    with answering(
        stream(VIEW, view(health=msgspec.structs.replace(VIEW.health, status="draining")), then=lambda: over.wait(30))
    ) as port:
        command = [sys.executable, "-m", "proxy", "top", "--admin-url", port.url]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as ran:
            assert ran.stdout is not None
            lines = [ran.stdout.readline().decode() for _ in range(2)]
            ran.send_signal(signal.SIGINT)
            assert ran.wait(10) == 0
            assert ran.stderr is not None
            assert ran.stderr.read() == b""
        over.set()
    assert "ready" in lines[0]
    assert "draining" in lines[1]


def test_lanes_have_colours_that_differ() -> None:
    console = Console(
        width=80, file=io.StringIO(), force_terminal=True, color_system="standard", no_color=False, highlight=False
    )
    console.print(picture(VIEW, Frame(80, 24)))
    told = console.file.getvalue()  # type: ignore[attr-defined]
    colour = {name: re.search(rf"\x1b\[([0-9;]+)m{name}", told) for name in ("llama-eu", "together")}
    assert all(colour.values())
    assert len({found[1] for found in colour.values() if found}) == len(Lane)
