"""How the command line asks a running proxy: its admin port over HTTP, with the admin token if there is one.

Theory of operation
-------------------
The token is read from the environment, so that no list of processes shows it, and is sent to the port that was named
and to nobody else: redirects are not followed. What goes wrong is one of three things, each with a text for a terminal:
the URL is none, nobody answers, or somebody says no.
"""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from proxy.settings import admin_token

TIMEOUT_S = 5.0
_IS_IT = "is that the admin port of a Spillway?"


class AdminPortError(Exception):
    """The admin port could not be asked; the text says why, and what to do.

    AdminPortError
    |- NotAUrl
    |- NoAnswer      nobody there, or not in time
    +- SaidNo        an error, with `status` and the message it `said`, empty where it is not one of ours
    """


class NotAUrl(AdminPortError):
    """What was named is no URL."""

    def __init__(self, admin_url: str) -> None:
        super().__init__(f"`{admin_url}` is no URL (hint: begin with `http://` or `https://`)")


class NoAnswer(AdminPortError):
    """Nobody answers there; `reason` is what the network said."""

    def __init__(self, admin_url: str, reason: object, hint: str) -> None:
        self.reason = str(reason)
        super().__init__(f"no proxy answers at `{admin_url}`: {reason} (hint: {hint})")


class SaidNo(AdminPortError):
    """The answer was an error."""

    def __init__(self, url: str, status: int, body: bytes) -> None:
        self.status, self.body = status, body
        self.said = _message(body)
        super().__init__(f"`{url}` answers {status}: {self.said or _IS_IT}")


class _Stay(urllib.request.HTTPRedirectHandler):
    """An admin port redirects nobody; whoever does is something else, and gets no token."""

    def redirect_request(self, *args: Any) -> None:
        return None


_open = urllib.request.build_opener(_Stay).open


def ask(
    admin_url: str,
    path: str,
    body: bytes | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
    hint: str = "name its admin port, such as `http://localhost:9090`",
    headers: Mapping[str, str] | None = None,
    env: Mapping[str, str] = os.environ,
) -> http.client.HTTPResponse:
    """The answer to a GET of `path`, or to a POST of a JSON `body`, to be read and closed. Raises AdminPortError.

    `hint` says what to do where nobody answers. Reading on may raise what `unanswered` explains.
    """
    url = f"{admin_url.rstrip('/')}{path}"
    if not url.startswith(("http://", "https://")):
        raise NotAUrl(admin_url)
    try:
        question = urllib.request.Request(url, body, dict(headers or {}))  # noqa: S310  (scheme checked above)
        if body is not None:
            question.add_header("content-type", "application/json")
        if (token := admin_token(env)) is not None:
            question.add_unredirected_header("authorization", f"Bearer {token}")
        response: http.client.HTTPResponse = _open(question, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        with error:
            raise SaidNo(url, error.code, _read(error)) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        unanswered(admin_url, error, hint)
    return response


def unanswered(admin_url: str, error: Exception, hint: str) -> NoReturn:
    """Raise NoAnswer for what the network said."""
    raise NoAnswer(admin_url, getattr(error, "reason", error) or type(error).__name__, hint) from None


def _read(error: urllib.error.HTTPError) -> bytes:
    try:
        body: bytes = error.read()
    except (OSError, http.client.HTTPException):
        return b""
    return body


def _message(body: bytes) -> str:
    try:
        return str(msgspec.json.decode(body)["error"]["message"])
    except (msgspec.MsgspecError, LookupError, TypeError):
        return ""
