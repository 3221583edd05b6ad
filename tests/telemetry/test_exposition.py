"""The text that Prometheus reads is what its own client would write, byte for byte, in either format."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from proxy.gauges import replica_gauges
from proxy.routing.readings import Load, Reading
from proxy.telemetry.exposition import family_text, head, number
from proxy.telemetry.metrics import Metrics, count, gauge
from tests.telemetry.requests import API, outcome, record

HELD_S = 0.02
LABELS = st.dictionaries(st.sampled_from(["target", "of", "a", "zone"]), st.text(max_size=8), max_size=3)
VALUES = st.integers(-5, 10**12) | st.floats(allow_nan=False) | st.just(float("inf"))


class Families:
    """What prometheus_client is to write."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


@given(st.lists(st.tuples(LABELS, VALUES), max_size=5))
def test_a_family_is_written_as_its_own_client_writes_it(samples: list[tuple[dict[str, str], float]]) -> None:
    for family in (gauge("x", "What it is", *samples), count("y", "What it is", *samples)):
        assert family_text(family, openmetrics=False).encode() == generate_latest(Families([family]))
        openmetrics = family_text(family, openmetrics=True).encode() + b"# EOF\n"
        assert openmetrics == generate_openmetrics(Families([family]))


@given(st.integers(0, 10**13))
def test_whole_numbers_are_floats(value: int) -> None:
    assert number(value) == number(float(value))


def test_hostile_label_values_stay_inside_their_quotes() -> None:
    assert head("x", {"b": 'a"} 1\n', "a": "\\"}) == 'x{a="\\\\",b="a\\"} 1\\n"} '


@pytest.mark.parametrize(
    ("openmetrics", "parse", "write"),
    [(False, parse_text, generate_latest), (True, parse_openmetrics, generate_openmetrics)],
    ids=["text", "openmetrics"],
)
def test_all_that_is_counted_reads_back_as_it_was_written(openmetrics: bool, parse, write) -> None:  # type: ignore[no-untyped-def]
    """Every family of ours, through the reader of prometheus_client and its writer."""
    metrics = Metrics()
    for one in (record(outcome(ttft_s=0.02, itl_s=0.003)), record(outcome(API)), record()):
        metrics.record(one)
    text = b"".join(metrics.exposition(openmetrics=openmetrics))
    assert write(Families(parse(text.decode()))) == text


def test_a_scrape_of_a_large_fleet_never_holds_the_loop_for_long() -> None:
    """Fifty targets of eight replicas, on four routes; by the processor's time, since others may run on it too."""
    survey = {
        f"target-{number}": tuple(
            Reading(target=f"target-{number}", replica=replica, as_of=0.0, load=Load()) for replica in range(8)
        )
        for number in range(50)
    }
    metrics = Metrics(lambda: replica_gauges(survey, {}))
    for target in survey:
        for route in "abcd":
            for family in (metrics.ttft, metrics.itl, metrics.speed):
                family.labels(route, target).observe(0.1)
            metrics.duration.labels("chat", route, "dedicated", target).observe(0.1)
    held, lines, pieces = 0.0, 0, metrics.exposition()
    while True:
        before = time.thread_time()
        piece = next(pieces, b"")
        held, lines = max(held, time.thread_time() - before), lines + piece.count(b"\n")
        if not piece:
            break
    assert lines > 15_000
    assert held < HELD_S
