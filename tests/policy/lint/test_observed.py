"""What targets were seen to do is read from metrics, cautiously, and from JSON."""

from __future__ import annotations

import math

import pytest
from proxy.policy.lint.observed import LEAST_SAMPLES, NotObservations, at_least, parse_observations
from proxy.telemetry.metrics import Metrics


def metrics(samples: int, seconds: float) -> str:
    """The page of a proxy whose target `own` had so many first tokens after so many seconds, on two routes."""
    shown = Metrics()
    for route in ("a", "b"):
        child = shown.ttft.labels(route, "own")
        for _ in range(samples // 2):
            child.observe(seconds)
    return b"".join(shown.exposition()).decode()


def test_a_quantile_is_at_least_the_lower_bound_of_its_bucket() -> None:
    seen = parse_observations(metrics(LEAST_SAMPLES, 0.7))
    assert seen == {"own": {"ttft_p50": 0.5, "ttft_p90": 0.5, "ttft_p95": 0.5, "ttft_p99": 0.5}}


def test_few_samples_say_nothing() -> None:
    assert parse_observations(metrics(LEAST_SAMPLES - 2, 0.7)) == {}


def test_what_lies_beyond_the_last_bucket_is_at_least_its_bound() -> None:
    assert at_least({0.5: 0.0, 1.0: 10.0, math.inf: 100.0}, 0.99) == 1.0
    assert at_least({0.5: 100.0, math.inf: 100.0}, 0.5) == 0.0


def test_json_is_taken_as_it_is() -> None:
    assert parse_observations('{"targets": {"own": {"e2e_p95": 3}}}') == {"own": {"e2e_p95": 3.0}}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<html></html>", "no metrics of a Spillway"),
        ("", "no metrics of a Spillway"),
        ("{}", "expected"),
        ('{"targets": {"own": {"ttft_p99": "fast"}}}', "expected"),
        ('{"targets": {"own": {"ttft": 1}}}', "`ttft` is no latency"),
        ("{" * 100_000, "expected"),
    ],
)
def test_anything_else_is_refused(text: str, says: str) -> None:
    with pytest.raises(NotObservations, match=says):
        parse_observations(text)
