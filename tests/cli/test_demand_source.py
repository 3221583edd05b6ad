"""The demand that a proxy has metered, fetched from its admin port."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from proxy.cli.demand_source import read_demand
from proxy.cli.meters_source import LedgerUnavailable
from proxy.meters.demand_rows import AppHour, DemandHour, DemandRow, Watched
from proxy.meters.usage_rows import Complete, Failed

WATCHED = Watched(from_s=10.0, to_s=7200.0)
HOUR = DemandHour(start_s=0, target="llama", model="", bin_ms=3000, bins=(0, 2))
APP = AppHour(start_s=0, target="llama", model="", tenant="bank", key="", asked="m", sums={"requests": 2})


class _Admin(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.body)  # type: ignore[attr-defined]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def admin() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), _Admin)
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def read(server: HTTPServer, *rows: DemandRow) -> list[Watched | DemandHour | AppHour]:
    server.body = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)  # type: ignore[attr-defined]
    return read_demand(f"http://127.0.0.1:{server.server_address[1]}/", 0.0, 7200.0)


def test_the_rows_of_a_span(admin: HTTPServer) -> None:
    assert read(admin, WATCHED, HOUR, APP, Complete(rows=2)) == [WATCHED, HOUR, APP]
    (path,) = admin.asked  # type: ignore[attr-defined]
    assert urlsplit(path).path == "/admin/demand"
    assert parse_qs(urlsplit(path).query) == {"from": ["0.0"], "to": ["7200.0"]}


def test_what_was_cut_off_or_is_of_another_kind_is_not_taken_for_whole(admin: HTTPServer) -> None:
    for rows, words in [
        ((WATCHED, HOUR), "cut off"),
        ((WATCHED, HOUR, Complete(rows=2)), "cut off"),
        ((WATCHED, Failed(message="no answer")), "no answer"),
    ]:
        with pytest.raises(LedgerUnavailable, match=words):
            read(admin, *rows)
    admin.body = b'{"type":"usage"}\n'  # type: ignore[attr-defined]
    with pytest.raises(LedgerUnavailable, match="of this release"):
        read_demand(f"http://127.0.0.1:{admin.server_address[1]}", 0.0, 1.0)
