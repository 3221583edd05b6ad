"""A provider's error, told in the caller's protocol, without the provider's secrets.

Theory of operation
-------------------
The status is the one on the wire, and the message is read from the wire's error body, because LiteLLM renames statuses
(529 becomes 500, 413 becomes 400) and wraps messages in its own text. Providers echo keys and URLs in their messages
(litellm issues 18731, 24902, 25203): everything that the target holds secret is blanked, and so is everything that
looks like a key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from proxy.policy.model import Endpoint, Target

Json = dict[str, Any]

MAX_MESSAGE_CHARS = 2000

_OPENAI_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_ANTHROPIC_TYPES: Mapping[int, str] = {
    **_OPENAI_TYPES,
    413: "request_too_large",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_STATUSES: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""Anthropic's, from platform.claude.com/docs/en/api/errors."""
_KEY_LIKE = re.compile(
    r"(?i)\b(?:sk|pk|rk|xai|gsk|hf|AIza|AKIA|ASIA|ya29)[-_.]?[A-Za-z0-9_\-]{12,}"
    r"|(?<=bearer )[^\s\"',;]+"
    r"|(?<=key=)[^\s&\"',;]+"
    r"|https?://[^\s\"'<>)]+"
)


class Scrubber:
    """Blanks one target's secrets, and what looks like any key or URL, in text from outside."""

    __slots__ = ("_secrets",)

    def __init__(self, target: Target) -> None:
        self._secrets = tuple(sorted(_secrets(target), key=len, reverse=True))

    def clean(self, text: str) -> str:
        """`text` without secrets, at most `MAX_MESSAGE_CHARS` long."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return _KEY_LIKE.sub("***", text)[:MAX_MESSAGE_CHARS]


def message_in(body: bytes) -> str:
    """The human-readable message in a provider's error body, whatever its shape; empty when there is none."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "replace").strip() if not body.lstrip().startswith(b"<") else ""
    return _first_text(document)


def error_in_stream(piece: bytes) -> tuple[int, str] | None:
    """The status and the message of the error event in a piece of a stream, None when there is none."""
    for line in reversed(piece.splitlines()):
        if line.startswith(b"data:") and b'"error"' in line:
            try:
                event = orjson.loads(line[5:])
            except orjson.JSONDecodeError:
                continue
            error = event.get("error") if isinstance(event, dict) else None
            if error:
                return _status_in(error), message_in(line[5:])
    return None


def error_object(endpoint: Endpoint, status: int, message: str, param: str | None = None) -> Json:
    """The error body that the SDKs of this endpoint expect."""
    if endpoint in (Endpoint.MESSAGES, Endpoint.COUNT_TOKENS):
        kind = _ANTHROPIC_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
        return {"type": "error", "error": {"type": kind, "message": message}}
    kind = _OPENAI_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    code = "context_length_exceeded" if _is_too_long(message) else None
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_event(endpoint: Endpoint, status: int, message: str) -> bytes:
    """The event that ends a stream which has begun: the SDKs of each protocol raise on it."""
    body = error_object(endpoint, status, message)
    if endpoint is Endpoint.RESPONSES:
        inner = body["error"]
        body = {"type": "error", "code": inner["code"] or inner["type"], "message": message, "param": None}
    data = b"data: " + orjson.dumps(body) + b"\n\n"
    return data if endpoint in (Endpoint.CHAT, Endpoint.COMPLETIONS) else b"event: error\n" + data


def _status_in(error: object) -> int:
    """OpenAI-compatible servers give a numeric `code`, Anthropic a `type` that stands for a status."""
    if not isinstance(error, dict):
        return 500
    code = str(error.get("code"))
    if code.isdigit() and 400 <= int(code) < 600:
        return int(code)
    return _STATUSES.get(str(error.get("type")), 500)


def _is_too_long(message: str) -> bool:
    lowered = message.lower()
    return "maximum context length" in lowered or "prompt is too long" in lowered


def _first_text(document: object) -> str:
    """Depth first through the names that providers use: OpenAI, Anthropic, Google, AWS, Cohere, FastAPI."""
    if isinstance(document, str):
        return document
    if isinstance(document, list):
        return _first_text(document[0]) if document else ""
    if isinstance(document, dict):
        for name in ("error", "message", "Message", "detail", "msg", "errors", "error_description"):
            text = _first_text(document.get(name))
            if text:
                return text
    return ""


def _secrets(target: Target) -> Iterable[str]:
    if target.api_key is not None and target.api_key.reveal():
        yield target.api_key.reveal()
    for url in target.urls:
        yield url
        yield url.partition("://")[2].partition("/")[0]
