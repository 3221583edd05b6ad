"""What uvicorn lets through and a proxy must not: checks on headers and on the JSON body.

Theory of operation
-------------------
Pure functions from bytes to a value or a `Refusal`. Measured on uvicorn 0.54 with httptools (reliability report, A1):
no Host or two Hosts, `Transfer-Encoding` on HTTP/1.0, compressed bodies and any number of headers reach the
application.

A body is decoded one level deep: its members stay bytes. Both the proxy and the upstream must read the same request, so
two members of one name are refused. Two cheap proofs cover nearly every body: the members, written compactly, account
for every byte; or each name stands in the body once and nothing in it is spelled with `\\u`. Otherwise the top level is
walked member by member.
"""

from __future__ import annotations

import re

import msgspec

from proxy.routing.plan import Refusal
from proxy.upstream.base import RawHeaders

MAX_HEADERS = 100
MAX_DEPTH = 128
MAX_CONTAINERS = 100_000
MAX_MEMBERS = 1_000
"""Objects and lists in a body, and members of its top level: a hundred times what large requests have. Without these,
ten megabytes of `{},{},...` would hold up every stream of the process for seconds."""
_SEARCHED_BYTES = 4 << 20
_ONCE = frozenset({
    b"host", b"content-length", b"content-type", b"authorization", b"x-api-key", b"transfer-encoding",
    b"x-spillway-lane", b"x-spillway-tags", b"x-spillway-target", b"x-spillway-traffic", b"x-spillway-priority",
    b"x-spillway-session",
})  # fmt: skip

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.encode
_KEY = re.compile(rb'[ \t\r\n]*("(?:[^"\\]|\\.)*")[ \t\r\n]*:[ \t\r\n]*')
_SEPARATOR = re.compile(rb"[ \t\r\n]*([,}])")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


def check_headers(headers: RawHeaders, fields: dict[bytes, bytes], http_version: str) -> Refusal | None:
    """Refuse header sets that two servers could read differently. `fields` is `dict(headers)`."""
    if len(headers) > MAX_HEADERS:
        return _refuse(431, "too_many_headers", f"more than {MAX_HEADERS} header fields")
    if b"host" not in fields:
        return _refuse(400, "missing_host", "the Host header is missing")
    if len(fields) != len(headers):
        seen: set[bytes] = set()
        for name, _ in headers:
            if name in _ONCE and name in seen:
                return _refuse(400, "repeated_header", f"the header `{name.decode('latin-1')}` is repeated")
            seen.add(name)
    if http_version == "1.0" and b"transfer-encoding" in fields:
        return _refuse(400, "bad_framing", "HTTP/1.0 has no Transfer-Encoding")
    if fields.get(b"content-encoding", b"identity") != b"identity":
        return _refuse(415, "unsupported_content_encoding", "send the body without Content-Encoding")
    return None


def check_content_type(fields: dict[bytes, bytes]) -> Refusal | None:
    """Only JSON is understood; a missing Content-Type is taken for it."""
    kind = fields.get(b"content-type", b"application/json")
    if kind != b"application/json" and kind.split(b";", 1)[0].strip().lower() != b"application/json":
        return _refuse(415, "unsupported_media_type", "the Content-Type must be application/json")
    return None


def too_large(limit_bytes: int) -> Refusal:
    """The refusal of a body over the limit."""
    return _refuse(413, "request_too_large", f"the request body is larger than {limit_bytes} bytes")


def read_members(body: bytes) -> dict[str, msgspec.Raw] | Refusal:
    """The top-level members of a JSON object, undecoded, or why the body is refused."""
    try:
        if not body.isascii():
            body.decode()
        members = _decode(body)
    except RecursionError:
        return _too_deep()
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _refuse(400, "invalid_json", "the request body is not a valid JSON object", retryable=False)
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        brackets = _STRING.sub(b"", body).translate(None, _NOT_BRACKETS)
        if len(brackets) > 2 * MAX_CONTAINERS:
            return _too_complex(f"more than {MAX_CONTAINERS} objects and lists")
        if _depth(brackets) > MAX_DEPTH:
            return _too_deep()
    if len(members) > MAX_MEMBERS:
        return _too_complex(f"more than {MAX_MEMBERS} members")
    if not _is_compact(body, members) and not _each_stands_once(body, members):
        repeated = _repeated_member(body, members)
        if repeated is not None:
            return _refuse(400, "duplicate_member", f"the member `{repeated}` is repeated", param=repeated)
    return members


def _is_compact(body: bytes, members: dict[str, msgspec.Raw]) -> bool:
    """Whether the members, written without white space, are exactly as long as the body: then none is repeated."""
    return len(_encode(members)) == len(body)


def _each_stands_once(body: bytes, members: dict[str, msgspec.Raw]) -> bool:
    """Whether every name is a plain word that stands in the body once, with no escape that could spell it otherwise.

    A long body is not searched once for every name; walking over it is cheaper then.
    """
    if b"\\u" in body or len(body) * len(members) > _SEARCHED_BYTES:
        return False
    return all(key.isidentifier() and key.isascii() and body.count(b'"%b"' % key.encode()) == 1 for key in members)


def _repeated_member(body: bytes, members: dict[str, msgspec.Raw]) -> str | None:
    """The first member name that stands twice, by walking over the top level."""
    seen: set[str] = set()
    position = body.index(b"{") + 1
    while (match := _KEY.match(body, position)) is not None:
        key = msgspec.json.decode(match.group(1), type=str)
        if key in seen:
            return key
        seen.add(key)
        value = bytes(members[key])
        position = match.end()
        if not body.startswith(value, position):
            return key
        separator = _SEPARATOR.match(body, position + len(value))
        if separator is None:
            return key
        position = separator.end()
    return None


def _depth(brackets: bytes) -> int:
    depth = deepest = 0
    for bracket in brackets:
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _too_deep() -> Refusal:
    return _refuse(400, "too_deep", f"the request body is nested deeper than {MAX_DEPTH} levels")


def _too_complex(what: str) -> Refusal:
    return _refuse(400, "too_complex", f"the request body has {what}")


def _refuse(
    status: int, code: str, message: str, *, param: str | None = None, retryable: bool | None = None
) -> Refusal:
    return Refusal(status=status, code=code, message=message, rule="guard", param=param, retryable=retryable)
