"""Counters and histograms, against prometheus_client's own."""

from __future__ import annotations

import prometheus_client
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from proxy.telemetry.series import Counter, Histogram

BOUNDS = (0.00025, 0.005, 0.1, 1, 2.5, 600)
VALUES = st.sampled_from(BOUNDS) | st.floats(0, 1000)


def samples(text: str) -> set[tuple[str, frozenset[tuple[str, str]], float]]:
    families = text_string_to_metric_families(text)
    return {
        (sample.name, frozenset(sample.labels.items()), sample.value)
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@given(st.lists(st.tuples(st.sampled_from("ab"), VALUES)))
def test_a_histogram_shows_what_prometheus_clients_own_shows(seen: list[tuple[str, float]]) -> None:
    theirs = CollectorRegistry()
    family = Histogram("x_seconds", "help", BOUNDS, ("target",))
    reference = prometheus_client.Histogram("x_seconds", "help", ["target"], buckets=BOUNDS, registry=theirs)
    for target, value in seen:
        family.labels(target).observe(value)
        reference.labels(target).observe(value)
    assert samples(family.text(openmetrics=False)) == samples(generate_latest(theirs).decode())


@given(st.lists(st.tuples(st.text(max_size=5), st.integers(0, 10**9))))
def test_a_counter_shows_what_prometheus_clients_own_shows(seen: list[tuple[str, int]]) -> None:
    theirs = CollectorRegistry()
    family = Counter("x", "help", ("target",))
    reference = prometheus_client.Counter("x", "help", ["target"], registry=theirs)
    for target, count in seen:
        family.labels(target).value += count
        reference.labels(target).inc(count)
    assert samples(family.text(openmetrics=False)) == samples(generate_latest(theirs).decode())


def test_a_unit_divides_when_shown() -> None:
    family = Counter("usd", "help", unit=1_000_000_000)
    for _ in range(10):
        family.labels().value += 100_000_000
    assert samples(family.text(openmetrics=False)) == {("usd_total", frozenset(), 1.0)}


def test_a_series_is_the_same_whenever_it_is_asked_for() -> None:
    assert Counter("x", "help", ("a", "b")).labels("1", "2") is not Counter("x", "help", ("a", "b")).labels("1", "2")
    family, histogram = Counter("x", "help", ("a", "b")), Histogram("y", "help", BOUNDS)
    assert family.labels("1", "2") is family.labels("1", "2")
    assert family.labels("1", "2") is not family.labels("2", "1")
    assert histogram.labels() is histogram.labels()
