"""The last minutes."""

from __future__ import annotations

from proxy.meters.summary import Summary
from proxy.meters.window import Window


def at(seconds: float, requests: int) -> Summary:
    return Summary(as_of_s=seconds, tallies={("llama", "together"): {"requests": requests}}, gpus={})


def test_an_empty_window_has_nothing_to_compare_with() -> None:
    assert Window().before(at(1.0, 1)) is None


def test_it_answers_with_the_oldest_sample_until_that_leaves_the_span() -> None:
    window = Window(span_s=60.0)
    oldest = []
    for seconds in range(0, 200, 20):
        window.add(at(float(seconds), seconds))
        before = window.before(at(float(seconds), seconds))
        assert before is not None
        oldest.append(before.as_of_s)
    assert oldest == [0, 0, 0, 0, 20, 40, 60, 80, 100, 120]


def test_a_gap_longer_than_the_span_keeps_the_last_sample_before_it() -> None:
    """A window that spans more than it should is honest, since the report says how long it is."""
    window = Window(span_s=60.0)
    window.add(at(0.0, 1))
    window.add(at(1000.0, 5))
    before = window.before(at(1001.0, 6))
    assert before is not None
    assert before.as_of_s == 0.0


def test_a_wiped_store_starts_it_again() -> None:
    window = Window()
    window.add(at(0.0, 10))
    assert window.before(at(5.0, 1)) is None
    window.add(at(6.0, 1))
    before = window.before(at(7.0, 3))
    assert before is not None
    assert before.as_of_s == 6.0
