"""A refusal in the caller's own protocol: as a JSON reply, or as an event in a stream that has begun.

Theory of operation
-------------------
OpenAI: `{"error": {message, type, param, code}}`, and the same object in a `data:` event, which makes its SDKs raise.
Responses name the event `error`; the SDK raises only when there is also an `error` member, so both are there.
Anthropic: `{"type": "error", "error": {type, message}}`, always with an event name, since its SDK drops events without
one.

`x-should-retry` is obeyed by both vendors' SDKs, and `retry-after-ms` before `retry-after`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orjson

from proxy.policy.model import Endpoint
from proxy.routing.plan import Refusal
from proxy.upstream.base import RawHeaders
from proxy.upstream.sse import encode

_STREAM: RawHeaders = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class Dialect:
    """OpenAI's chat, completions and embeddings, and the base of the other two."""

    keep_alive = b": keep-alive\n\n"
    stream_headers: RawHeaders = _STREAM

    def body(self, refusal: Refusal, request_id: str) -> bytes:
        """The JSON reply's body."""
        return orjson.dumps({"error": _openai_error(refusal)})

    def event(self, refusal: Refusal) -> bytes:
        """The event that ends a broken stream."""
        return encode(orjson.dumps({"error": _openai_error(refusal)}))

    def headers(self, refusal: Refusal) -> RawHeaders:
        """The reply's headers, without its length."""
        headers = [(b"content-type", b"application/json")]
        if refusal.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % math.ceil(refusal.retry_after_s)))
            headers.append((b"retry-after-ms", b"%d" % math.ceil(refusal.retry_after_s * 1000)))
        if refusal.retryable is not None:
            headers.append((b"x-should-retry", b"true" if refusal.retryable else b"false"))
        if refusal.route:
            headers.append((b"x-spillway-route", refusal.route.encode()))
        headers.append((b"x-spillway-reason", f"refused: {refusal.rule}".encode()))
        headers += refusal.headers
        return headers


class ResponsesDialect(Dialect):
    """OpenAI's Responses: named events."""

    def event(self, refusal: Refusal) -> bytes:
        error = _openai_error(refusal)
        flat = {key: error[key] for key in ("code", "message", "param")}
        return encode(orjson.dumps({"type": "error", **flat, "error": error}), "error")


class MessagesDialect(Dialect):
    """Anthropic's Messages."""

    keep_alive = b'event: ping\ndata: {"type": "ping"}\n\n'

    def body(self, refusal: Refusal, request_id: str) -> bytes:
        return orjson.dumps({**_anthropic_error(refusal), "request_id": request_id})

    def event(self, refusal: Refusal) -> bytes:
        return encode(orjson.dumps(_anthropic_error(refusal)), "error")


def _openai_error(refusal: Refusal) -> dict[str, Any]:
    return {"message": refusal.message, "type": refusal.type, "param": refusal.param, "code": refusal.code}


_ANTHROPIC_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def _anthropic_error(refusal: Refusal) -> dict[str, Any]:
    other = "api_error" if refusal.status >= 500 else "invalid_request_error"
    kind = _ANTHROPIC_TYPES.get(refusal.status, other)
    return {"type": "error", "error": {"type": kind, "message": refusal.message}}


OPENAI = Dialect()
_ANTHROPIC = MessagesDialect()
DIALECTS: Mapping[Endpoint, Dialect] = {
    Endpoint.CHAT: OPENAI,
    Endpoint.COMPLETIONS: OPENAI,
    Endpoint.EMBEDDINGS: OPENAI,
    Endpoint.RESPONSES: ResponsesDialect(),
    Endpoint.MESSAGES: _ANTHROPIC,
    Endpoint.COUNT_TOKENS: _ANTHROPIC,
}


def dialect_at(path: str) -> Dialect:
    """The protocol of whoever asks for `path`, whether or not anything is there."""
    return _ANTHROPIC if path.startswith("/v1/messages") else OPENAI
