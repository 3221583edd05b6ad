"""The console's page, at `/` of the admin port, and what it is made of, below `/console/`.

Theory of operation
-------------------
The files hold no data and no secret, so they are open even where `/admin/*` asks for a token: the page asks its reader
for it. They are read once, at the start. Nothing is cached without asking, and asking costs a hash: after an upgrade no
page runs with yesterday's scripts. The policy that goes with each file leaves a hostile name no way to become markup:
scripts and styles come from here alone, none stands inline, and `require-trusted-types-for` has the browser refuse
`innerHTML` altogether (https://www.w3.org/TR/CSP3/, https://www.w3.org/TR/trusted-types/).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_FOLDER = Path(__file__).parent.parent / "console"
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "img-src 'self' data:",
    "base-uri 'none'",
    "form-action 'self'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
)
_SECURITY = {
    "content-security-policy": "; ".join(_POLICY),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


def console_routes() -> list[Route]:
    """The page and its parts, each at its own path. The page names the others by relative URLs, so that it also works
    below a prefix, as `kubectl proxy` has it.
    """
    parts = sorted(path for path in _FOLDER.rglob("*") if path.suffix in _TYPES)
    return [_route(_url(path), path) for path in parts]


def _url(path: Path) -> str:
    return "/" if path.name == "index.html" else f"/console/{path.relative_to(_FOLDER).as_posix()}"


def _route(url: str, path: Path) -> Route:
    body = path.read_bytes()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {**_SECURITY, "cache-control": "no-cache", "etag": etag}

    async def answer(request: Request) -> Response:
        if _knows(request, etag):
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type=_TYPES[path.suffix])

    return Route(url, answer)


def _knows(request: Request, etag: str) -> bool:
    """Whether the caller has this text already; by weak comparison, as RFC 9110, 13.1.2 has it."""
    tags = request.headers.get("if-none-match", "").split(",")
    return any(tag.strip().removeprefix("W/") in (etag, "*") for tag in tags)
