"""Reads an upstream's non-2xx answer: what kind of failure it is, and what the caller may be told.

Theory of operation
-------------------
429, 503 and 529 mean *full*, not broken: vLLM sheds load with 503, Dynamo with 529, providers with 429. 401 and 403 are
about our own credentials and are never shown to the caller, whose key is fine. 404 means that the upstream lacks the
model that the policy says it has. Any other 4xx is the caller's fault: an error body in the caller's own protocol is
passed on to the byte, so that an application reads what it would read without us, and anything else (`{"detail": ...}`,
HTML, Anthropic's shape for an OpenAI caller) is put into that protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec
import orjson

from proxy.policy.model import Endpoint, Target
from proxy.routing.outcome import Failure
from proxy.routing.plan import Refusal
from proxy.upstream.base import Head

MAX_ERROR_BYTES = 64 * 1024
_FULL = frozenset({429, 503, 529})
_FULL_IN_STREAM: frozenset[int | str] = _FULL | {"overloaded_error", "rate_limit_error", "rate_limit_exceeded"}
_CODES: Mapping[int, tuple[str, str]] = {
    400: ("invalid_request_error", "invalid_request"),
    404: ("invalid_request_error", "model_not_found"),
    408: ("timeout_error", "request_timeout"),
    409: ("conflict_error", "conflict"),
    413: ("invalid_request_error", "request_too_large"),
    415: ("invalid_request_error", "unsupported_media_type"),
    422: ("invalid_request_error", "unprocessable_entity"),
}


def failure_of(status: int) -> Failure:
    """What an upstream's non-2xx status means for the relay."""
    if status in _FULL:
        return Failure.FULL
    if status in (401, 403):
        return Failure.CREDENTIALS
    if status == 404:
        return Failure.MISSING
    if 400 <= status < 500 and status not in (408, 409):
        return Failure.REJECTED
    return Failure.FAULTED


def failure_in_stream(error: Mapping[str, Any]) -> Failure:
    """What an error event means.

    vLLM answers 200 and then says *full* in the first event when a burst of requests has passed its own check together;
    on `/v1/messages` that sits, quoted, inside a validation error's text.
    """
    signs, message = (error.get("code"), error.get("type")), str(error.get("message"))
    if any(isinstance(sign, int | str) and sign in _FULL_IN_STREAM for sign in signs) or "'code': 503" in message:
        return Failure.FULL
    return Failure.FAULTED


def retry_after_s(head: Head, wall_time: float) -> float | None:
    """The upstream's `retry-after-ms` or `retry-after` (seconds or an HTTP date), in seconds.

    None if absent or absurd.
    """
    millis, after = head.get(b"retry-after-ms"), head.get(b"retry-after")
    try:
        if millis is not None:
            seconds = float(millis) / 1000
        elif after is None:
            return None
        elif after.strip().replace(b".", b"", 1).isdigit():
            seconds = float(after)
        else:
            date = parsedate_to_datetime(after.decode("ascii"))
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - wall_time
    except (ValueError, TypeError, OverflowError):
        return None
    return seconds if 0 <= seconds <= 86_400 else None


def refusal_of(target: Target, endpoint: Endpoint, status: int, body: bytes) -> Refusal:
    """What the caller is told when this answer is the last one."""
    failure = failure_of(status)
    if failure is Failure.FULL:
        return full(target, limited=status == 429)
    if failure is Failure.CREDENTIALS:
        return _own_fault(target, "upstream_credentials_rejected", "rejected the proxy's credentials")
    if failure is Failure.FAULTED:
        return _own_fault(target, "upstream_error", f"answered {status}")
    document = _json_object(body)
    refusal = _passed_on(target, status, _error_object(document))
    return msgspec.structs.replace(refusal, verbatim=body) if _speaks(endpoint, document) else refusal


def full(target: Target, *, limited: bool = False) -> Refusal:
    """The target is full, or its provider's rate `limited`; in whatever way it said so."""
    return Refusal(
        status=429 if limited else 503,
        type="rate_limit_error" if limited else "server_error",
        code="rate_limit_exceeded" if limited else "upstream_full",
        message=f"target `{target.name}` is full and no other target may take the request",
        rule="capacity",
        retry_after_s=1.0,
    )


def _own_fault(target: Target, code: str, what: str) -> Refusal:
    return Refusal(
        status=502, type="server_error", code=code, message=f"target `{target.name}` {what}", rule="upstream"
    )


def _passed_on(target: Target, status: int, error: dict[str, Any]) -> Refusal:
    kind, code = _CODES.get(status, ("invalid_request_error", "invalid_request"))
    message = error.get("message")
    text = message if isinstance(message, str) and message else f"target `{target.name}` answered {status}"
    if "maximum context length" in text:
        code = "context_length_exceeded"
    given_kind, given_code, param = error.get("type"), error.get("code"), error.get("param")
    return Refusal(
        status=status,
        type=given_kind if isinstance(given_kind, str) and given_kind.endswith("_error") else kind,
        code=given_code if isinstance(given_code, str) else code,
        message=text,
        param=param if isinstance(param, str) else None,
        rule="upstream",
    )


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def _speaks(endpoint: Endpoint, document: dict[str, Any]) -> bool:
    """Whether an error body is already in the protocol of the endpoint's callers."""
    error = document.get("error")
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return False
    anthropic = document.get("type") == "error"
    return anthropic is (endpoint in (Endpoint.MESSAGES, Endpoint.COUNT_TOKENS))


def _error_object(document: dict[str, Any]) -> dict[str, Any]:
    error = document.get("error")
    if isinstance(error, dict):
        return error
    return {"message": error} if isinstance(error, str) else document
