"""Parts of a trace, and other paces."""

from __future__ import annotations

import numpy as np
import pytest
from proxy.advisor.trace import App, Trace
from proxy.advisor.trace_cut import asking_for, scaled, sliced

TRACE = Trace(
    name="made up",
    arrival_s=np.array([0.0, 10.0, 20.0, 30.0]),
    input_tokens=np.array([1, 2, 3, 4]),
    output_tokens=np.array([5, 6, 7, 8]),
    app=np.array([0, 1, 0, 1], np.int32),
    apps=(App(name="a"), App(name="b", model="old")),
    span_s=40.0,
    prefix=((1,), (2,), (3,), (4,)),
    began_at_s=1000.0,
)


def test_a_rate_divides_time() -> None:
    faster = scaled(TRACE, 4.0)
    assert faster.arrival_s.tolist() == [0.0, 2.5, 5.0, 7.5]
    assert faster.span_s == 10.0
    assert faster.input_tokens is TRACE.input_tokens


def test_a_slice_begins_where_it_was_cut() -> None:
    part = sliced(TRACE, 5.0, 30.0)
    assert part.arrival_s.tolist() == [5.0, 15.0]
    assert part.input_tokens.tolist() == [2, 3]
    assert part.output_tokens.tolist() == [6, 7]
    assert part.app.tolist() == [1, 0]
    assert part.prefix == ((2,), (3,))
    assert (part.span_s, part.began_at_s) == (25.0, 1005.0)


def test_a_slice_ends_with_the_trace() -> None:
    assert sliced(TRACE, 20.0, 1e9).span_s == 20.0


@pytest.mark.parametrize(("begin_s", "end_s"), [(11.0, 19.0), (50.0, 60.0), (20.0, 10.0)])
def test_a_slice_without_requests(begin_s: float, end_s: float) -> None:
    with pytest.raises(ValueError, match="no request arrives"):
        sliced(TRACE, begin_s, end_s)


def test_another_model() -> None:
    assert [(app.name, app.model) for app in asking_for(TRACE, "new").apps] == [("a", "new"), ("b", "new")]
