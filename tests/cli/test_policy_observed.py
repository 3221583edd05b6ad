"""Latencies are read from a file or a proxy's metrics; whatever is neither is told in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from proxy.cli.policy_observed import ObservationsUnreadable, read_observations

PAGE = (
    'spillway_time_to_first_token_seconds_bucket{le="0.5",route="r",target="own"} 0.0\n'
    'spillway_time_to_first_token_seconds_bucket{le="1.0",route="r",target="own"} 500.0\n'
    'spillway_time_to_first_token_seconds_bucket{le="+Inf",route="r",target="own"} 500.0\n'
)


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/metrics" else 404)
        self.end_headers()
        self.wfile.write(PAGE.encode())

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_running_proxy_and_a_copy_of_its_metrics_say_the_same(url: str, tmp_path: Path) -> None:
    copy = tmp_path / "metrics.txt"
    copy.write_text(PAGE)
    assert read_observations(f"{url}/metrics") == read_observations(str(copy))
    assert read_observations(str(copy))["own"]["ttft_p99"] == 0.5


def test_what_cannot_be_read_is_told(url: str, tmp_path: Path) -> None:
    for source, says in (
        (f"{url}/other", "answers 404"),
        ("http://127.0.0.1:1/metrics", "cannot be read: .*refused"),
        (str(tmp_path), "cannot be read"),
        (__file__, "no metrics of a Spillway"),
    ):
        with pytest.raises(ObservationsUnreadable, match=says):
            read_observations(source)
