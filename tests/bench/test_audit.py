"""A figure counts only when every answer behind it was metered and logged."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.bench import audit


@pytest.fixture
def metered() -> Iterator[tuple[int, list[int]]]:
    """An admin port whose meters count what the list's last item says."""
    count = [0]

    class Meters(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"total": {"requests": count[-1]}}).encode())

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Meters) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port, count
        server.shutdown()
        thread.join()


def log_of(folder: Path, lines: int) -> Path:
    log = folder / "spillway.log"
    log.write_text("spillway serves 1 models\n" + '{"event":"request","at":1}\n' * lines, encoding="utf-8")
    return log


def test_nothing_is_short_when_meters_and_log_have_every_answer(metered: tuple[int, list[int]], tmp_path: Path) -> None:
    port, count = metered
    count.append(10)
    assert audit.shortfall(10, admin_port=port, log=log_of(tmp_path, 11)) is None


def test_what_is_short_is_named_with_its_count(
    metered: tuple[int, list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, count = metered
    count.append(12)
    monkeypatch.setattr(audit, "SETTLES_WITHIN_S", 0.0)
    short = audit.shortfall(12, admin_port=port, log=log_of(tmp_path, 0))
    assert short == "of 12 answers only 0 were logged"
