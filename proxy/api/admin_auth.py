"""Who may read what the admin port knows: with a token set, whoever sends it, and nobody else.

Theory of operation
-------------------
Everything below `/admin` is closed by `SPILLWAY_ADMIN_TOKEN`, whatever is there and by whatever method. What is open
holds no data of anybody's: probes and the console's static files; and `/metrics`, whose scrapers have their own ways to
be kept out, such as a NetworkPolicy. The token is compared as a digest, so that the time it takes tells neither its
characters nor its length (RFC 6750 has the scheme).

No page of another origin can read an answer, since none carries a CORS header; and none can ask by a form, since a body
has to be declared as JSON, which a form cannot (Fetch, section 2.2.2: it would be a preflight, and is refused). And no
answer is a page that could run or load anything, but for the console's, which says itself what it may.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CLOSED = "/admin"
_BEARER = "bearer"
_INERT = "default-src 'none'; frame-ancestors 'none'"
_UNAUTHORIZED = {
    "message": "the admin token is missing or wrong (hint: send `Authorization: Bearer` and the value of"
    " SPILLWAY_ADMIN_TOKEN; the command line takes it from that variable)",
    "code": "admin_token_required",
}
_NOT_JSON = {"message": "the body must be declared as `content-type: application/json`", "code": "not_json"}


class AdminAuth:
    """Wraps an application; without a token it only adds what keeps browsers honest."""

    def __init__(self, app: ASGIApp, token: str | None = None) -> None:
        self._app = app
        self._digest = None if token is None else _digest(token.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        closed = is_closed(scope["path"])
        refusal = self._refusal(scope["method"], Headers(scope=scope)) if closed else None
        await (refusal or self._app)(scope, receive, _with_headers(send, stored=not closed))

    def _refusal(self, method: str, headers: Headers) -> JSONResponse | None:
        if self._digest is not None and not self._is_right(headers.getlist("authorization")):
            challenge = {"www-authenticate": 'Bearer realm="spillway admin"'}
            return JSONResponse({"error": _UNAUTHORIZED}, 401, challenge)
        if method == "POST" and headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return JSONResponse({"error": _NOT_JSON}, 415)
        return None

    def _is_right(self, given: Iterable[str]) -> bool:
        assert self._digest is not None
        scheme, _, token = next(iter(given), "").partition(" ")
        told = _digest(token.strip().encode("latin-1"))
        return hmac.compare_digest(told, self._digest) and scheme.lower() == _BEARER


def is_closed(path: str) -> bool:
    """Whether a path, without its percent-encoding, holds data."""
    return path == CLOSED or path.startswith(f"{CLOSED}/")


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _with_headers(send: Send, *, stored: bool) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["x-content-type-options"] = "nosniff"
            headers.setdefault("content-security-policy", _INERT)
            if not stored:
                headers["cache-control"] = "no-store"
        await send(message)

    return sent
