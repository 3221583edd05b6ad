from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from proxy.routing.trace_context import TraceContext, read_context

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


def read(traceparent: str | bytes, *tracestate: str) -> TraceContext | None:
    value = traceparent.encode() if isinstance(traceparent, str) else traceparent
    headers = [(b"host", b"x"), (b"traceparent", value), *[(b"tracestate", one.encode()) for one in tracestate]]
    return read_context(headers, dict(headers))


def test_a_request_without_the_header_is_part_of_no_trace() -> None:
    assert read_context([(b"host", b"x")], {b"host": b"x"}) is None
    assert read_context([(b"tracestate", b"a=1")], {b"tracestate": b"a=1"}) is None


def test_what_a_caller_says_goes_on_as_it_came_where_no_spans_are_made() -> None:
    found = read(PARENT, "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
    assert found is not None
    assert (found.name, found.parent_id, found.sampled) == (TRACE, int(SPAN, 16), True)
    told = [(b"traceparent", PARENT.encode()), (b"tracestate", b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")]
    assert found.headers(0) == found.headers(3) == told


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "t",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00_{TRACE}_{SPAN}_01",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"cc-{TRACE}-{SPAN}-01-\r\nx-evil: 1",
    ],
)
def test_what_is_no_traceparent_says_nothing(traceparent: str) -> None:
    assert read(traceparent, "a=1") is None


def test_a_later_version_may_say_more() -> None:
    found = read(f"cc-{TRACE}-{SPAN}-01-what-comes")
    assert found is not None
    assert found.headers(0) == [(b"traceparent", f"cc-{TRACE}-{SPAN}-01-what-comes".encode())]


def test_two_traceparents_say_nothing() -> None:
    headers = [(b"traceparent", PARENT.encode())] * 2
    assert read_context(headers, dict(headers)) is None


def test_blanks_around_are_none_of_it() -> None:
    found = read(f" {PARENT}\t")
    assert found is not None
    assert found.traceparent == PARENT.encode()


def test_several_tracestates_are_one() -> None:
    found = read(PARENT, "a=1", "b=2, ,c@d=x y")
    assert found is not None
    assert found.tracestate == b"a=1,b=2,c@d=x y"


@pytest.mark.parametrize(
    "state", ["A=1", "a", "a=", "a=b=c", "a=\x01", "a=1\x7f", ",".join(f"k{n}=1" for n in range(33))]
)
def test_a_tracestate_with_a_fault_is_left_out_whole(state: str) -> None:
    found = read(PARENT, f"ok=1,{state}")
    assert found is not None
    assert found.tracestate == b""


def test_an_attempt_has_a_span_of_its_own_and_its_upstream_is_told() -> None:
    mine = TraceContext(trace_id=int(TRACE, 16), parent_id=1, span_id=2**64 - 1, flags=3, tracestate=b"a=1")
    ids = [mine.attempt_id(ordinal) for ordinal in range(50)]
    assert len({*ids, mine.span_id, 0}) == 52
    assert all(0 < one < 2**64 for one in ids)
    assert mine.headers(4) == [
        (b"traceparent", f"00-{TRACE}-{ids[4]:016x}-03".encode()),
        (b"tracestate", b"a=1"),
    ]


@given(
    st.text("0123456789abcdef-fF ", max_size=60)
    | st.from_regex(re.compile("[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"), fullmatch=True)
)
@example(PARENT)
def test_opentelemetry_reads_the_same(traceparent: str) -> None:
    context = get_current_span(TraceContextTextMapPropagator().extract({"traceparent": traceparent})).get_span_context()
    found = read(traceparent)
    if found is None:
        assert not context.is_valid
    else:
        assert (found.trace_id, found.parent_id) == (context.trace_id, context.span_id)
        assert found.sampled == context.trace_flags.sampled
