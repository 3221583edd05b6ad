"""What the guard makes of hostile heads and bodies, held against a strict reading by the standard library."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from proxy.api.guard import (
    MAX_CONTAINERS,
    MAX_DEPTH,
    MAX_HEADERS,
    MAX_MEMBERS,
    check_content_type,
    check_headers,
    read_members,
    too_large,
)
from proxy.routing.plan import Refusal

SPACE = st.text(" \t\r\n", max_size=2)
TEXT = st.text(st.characters(codec="utf-8"), max_size=6)
NUMBERS = st.integers(-(2**70), 2**70).map(str) | st.sampled_from(["0", "-0", "1.5", "1e9", "1E-3", "1e400", "-1.0e+3"])


def spelled(text: str, escape: bool) -> str:
    """A JSON string, every character escaped if `escape`."""
    if not escape:
        return json.dumps(text, ensure_ascii=False)
    units = text.encode("utf-16-be")
    return '"' + "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2)) + '"'


STRINGS = st.builds(spelled, TEXT, st.booleans())
SCALARS = STRINGS | NUMBERS | st.sampled_from(["true", "false", "null"])


def listed(values: list[str], space: str) -> str:
    return "[" + f"{space},{space}".join(values) + "]"


def of_members(members: list[tuple[str, str]], space: str) -> str:
    return "{" + ",".join(f"{space}{key}{space}:{space}{value}{space}" for key, value in members) + "}"


VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.builds(listed, st.lists(inner, max_size=3), SPACE)
        | st.builds(of_members, st.lists(st.tuples(STRINGS, inner), max_size=3), SPACE)
    ),
    max_leaves=8,
)
KEYS = st.builds(spelled, st.sampled_from(["model", "stream", "a", "é", "", 'q"', "\\"]) | TEXT, st.booleans())
BODIES = st.builds(
    lambda before, members, space, after: before + of_members(members, space) + after,
    SPACE,
    st.lists(st.tuples(KEYS, VALUES), max_size=5),
    SPACE,
    SPACE,
)


def strictly(body: bytes) -> list[tuple[str, Any]] | None:
    """The members in order, repeated ones too; None when it is no JSON object by RFC 8259."""

    def refuse(word: str) -> Any:
        raise ValueError(word)

    pairs: list[list[tuple[str, Any]]] = []

    def collect(found: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs.append(found)
        return dict(found)

    try:
        text = body.decode("utf-8")
        document = json.loads(text, parse_constant=refuse, object_pairs_hook=collect)
        json.dumps([document, pairs], ensure_ascii=False).encode("utf-8")  # what a repeated member hides, too
    except (ValueError, RecursionError):
        return None
    return pairs[-1] if isinstance(document, dict) else None


def agrees(body: bytes) -> None:
    reference, members = strictly(body), read_members(body)
    if reference is None:
        assert isinstance(members, Refusal), body
        assert members.status == 400
    elif len({key for key, _ in reference}) < len(reference):
        assert isinstance(members, Refusal), body
        assert members.code == "duplicate_member"
        assert [key for key, _ in reference].count(members.param or "") > 1
    else:
        assert not isinstance(members, Refusal), (body, members)
        assert {key: json.loads(bytes(raw)) for key, raw in members.items()} == dict(reference)


@given(BODIES)
@example('{"model":"cheap","model":"dear"}')
@example('{"model":"cheap","\\u006dodel":"dear"}')
@example('{"a":1,"a":1}')
@example('{"a":12,"a":1}')
@example('{ "a":"x","b":{"a":1} , "a" : "x"}')
def test_well_formed_bodies_are_read_as_a_strict_parser_reads_them(body: str) -> None:
    agrees(body.encode("utf-8"))


def test_a_lone_surrogate_under_a_repeated_member_is_still_no_json() -> None:
    agrees(b'{"model":{"\\ud800{\\udc00":0},"model":0}')


@given(BODIES.map(lambda body: body.encode("utf-8")), st.data())
def test_damaged_bodies_are_read_as_a_strict_parser_reads_them(body: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(body)))
    cut = data.draw(st.integers(0, 2))
    piece = data.draw(
        st.sampled_from([b"", b'"', b"{", b"}", b",", b":", b"\\", b"\x00", b"\xff", b"\xc3", b"NaN", b"0"])
    )
    agrees(body[:at] + piece + body[at + cut :])


@given(st.binary(max_size=60))
def test_no_bytes_make_it_raise(body: bytes) -> None:
    agrees(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":NaN}',
        b'{"a":[Infinity]}',
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16"),
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\\ud800"}',
        b'{"\\ud800":1}',
        b"[1]",
        b"null",
        b"",
        b"{",
        b'{"a":1} x',
    ],
)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    refusal = read_members(body)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (400, "invalid_json")


@pytest.mark.parametrize("value", [b"1e400", b"1180591620717411303424", b"1.50", b'"\\u00e9"', b'{"a":1,"a":2}'])
def test_a_value_keeps_its_bytes(value: bytes) -> None:
    members = read_members(b'{"a": ' + value + b" }")
    assert not isinstance(members, Refusal)
    assert bytes(members["a"]) == value


@pytest.mark.parametrize("depth", [MAX_DEPTH, 1_000, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_deep_nesting_is_refused(depth: int, opening: bytes, closing: bytes) -> None:
    refusal = read_members(b'{"a":' + opening * depth + b"1" + closing * depth + b"}")
    assert isinstance(refusal, Refusal)
    assert refusal.code == "too_deep"


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":[' + b",".join([b"{}"] * (MAX_CONTAINERS + 1)) + b"]}",
        json.dumps({"a": [[]] * (MAX_CONTAINERS + 1)}).encode(),
        b"{" + b",".join(b'"a%d":1' % number for number in range(MAX_MEMBERS + 1)) + b"}",
        b"{ " + b",".join(b'"a%d":1' % number for number in range(20_000)) + b"}",
    ],
)
def test_a_body_of_nothing_but_brackets_or_names_is_refused_at_once(body: bytes) -> None:
    begun = time.process_time()
    refusal = read_members(body)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "too_complex"
    assert time.process_time() - begun < 1.0  # searching for every name took 2.6 s


def test_what_a_large_request_has_passes() -> None:
    parts = [{"type": "text", "text": "{[" * 20}] * 2
    wide = json.dumps({"messages": [{"role": "user", "content": parts}] * 20_000, **{f"a{n}": n for n in range(99)}})
    assert not isinstance(read_members(wide.encode()), Refusal)


def test_wide_is_not_deep_and_brackets_in_strings_are_text() -> None:
    wide = json.dumps({"messages": [{"role": "user", "content": '[[[{{{\\"' * 99}] * 300}).encode()
    assert not isinstance(read_members(wide), Refusal)
    at_the_limit = b'{"a":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}"
    assert not isinstance(read_members(at_the_limit), Refusal)


HOST = (b"host", b"h")


@pytest.mark.parametrize(
    ("headers", "version", "code"),
    [
        ([], "1.1", "missing_host"),
        ([HOST, HOST], "1.1", "repeated_header"),
        ([HOST, (b"authorization", b"a"), (b"authorization", b"b")], "1.1", "repeated_header"),
        ([HOST, (b"content-type", b"a"), (b"content-type", b"b")], "1.1", "repeated_header"),
        ([HOST, (b"transfer-encoding", b"chunked")], "1.0", "bad_framing"),
        ([HOST, (b"content-encoding", b"gzip")], "1.1", "unsupported_content_encoding"),
        ([HOST, *[(b"x-%d" % n, b"") for n in range(MAX_HEADERS)]], "1.1", "too_many_headers"),
        ([HOST, (b"accept", b"a"), (b"accept", b"b")], "1.1", None),
        ([HOST, (b"content-encoding", b"identity")], "1.1", None),
        ([HOST], "1.0", None),
    ],
)
def test_header_sets(headers: list[tuple[bytes, bytes]], version: str, code: str | None) -> None:
    refusal = check_headers(headers, dict(headers), version)
    assert (refusal.code if refusal else None) == code


@pytest.mark.parametrize(
    ("kind", "taken"),
    [
        (None, True),
        (b"application/json", True),
        (b"Application/JSON; charset=utf-8", True),
        (b"text/plain", False),
        (b"application/x-www-form-urlencoded", False),
        (b"multipart/form-data; boundary=x", False),
        (b"", False),
    ],
)
def test_content_types(kind: bytes | None, taken: bool) -> None:
    fields = {} if kind is None else {b"content-type": kind}
    assert (check_content_type(fields) is None) is taken


def test_too_large_names_the_limit() -> None:
    assert too_large(7).status == 413
    assert "7 bytes" in too_large(7).message
