"""Which upstream URLs a policy may name.

Theory of operation
-------------------
Upstream URLs come from the policy only, so what is refused here cannot be reached at all: credentials in a URL,
queries, link-local addresses (cloud metadata). Whether a host is private can be known for addresses and for a few kinds
of names; any other name counts as public, and a key is not sent to a public host in clear.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from proxy.policy.checks import Check
from proxy.policy.problem import Mistake
from proxy.policy.variables import Interpolated, revealed, shown
from proxy.policy.words import text

_PRIVATE_SUFFIXES = (".svc", ".cluster.local", ".local", ".internal", ".lan", ".home.arpa", ".localhost")
_OPERATIONS = ("/chat/completions", "/completions", "/embeddings", "/responses", "/messages", "/models")


def base_url(value: object) -> str:
    """The base URL of an API (`https://host/v1`), without a slash at its end."""
    remedy = "end it at the api root, such as `/v1`"
    parts = _http(value, "http://host:8000/v1", "a base url", remedy, "use `api_key: ${NAME}`")
    path = parts.path.rstrip("/")
    if path.endswith(_OPERATIONS):
        raise Mistake(f"the url of one operation: {_shown(value)}", remedy)
    return f"{parts.scheme}://{parts.netloc}{path}"


def hook_url(value: object) -> str:
    """The URL that is asked to do something, as it is written; it holds no secret, so it has no query."""
    open_to_us = "a policy holds no secret: let in whoever may reach it"
    parts = _http(value, "https://host/wake", "this url", "put what it takes into its path", open_to_us)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def _http(value: object, example: str, what: str, instead: str, keyed: str) -> SplitResult:
    """The parts of a URL that the proxy may ask: without credentials or a query, and not a metadata service's.

    `instead` is the remedy for a query, `keyed` that for credentials.
    """
    written = revealed(value)
    if isinstance(written, str) and "@" in written.partition("://")[2].partition("/")[0]:
        raise Mistake("credentials in a url", keyed, Check.SECRET_IN_CLEAR)
    spelled = text(value)
    try:
        parts = urlsplit(spelled)
        port = parts.port
    except ValueError:
        raise Mistake(f"not a valid url: {_shown(value)}", f"write `{example}`") from None
    if parts.scheme not in ("http", "https"):
        raise Mistake(f"expected an http or https url, got {_shown(value)}", f"write `{example}`")
    if not parts.hostname or port == 0 or not spelled.isascii() or " " in spelled:
        raise Mistake(f"not a valid url: {_shown(value)}", f"write `{example}`")
    if parts.query or parts.fragment or spelled.endswith(("?", "#")):
        raise Mistake(f"{what} has no query or fragment: {_shown(value)}", instead)
    _reject_address(parts)
    return parts


def is_clear_text_to_public_host(url: str) -> bool:
    """Whether a key sent to `url` could be read on its way."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not _is_private(parts.hostname or "")


def has_path(url: str) -> bool:
    """Whether `url` names more than the host."""
    return urlsplit(url).path not in ("", "/")


def _is_private(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return "." not in host or host.rstrip(".").endswith(_PRIVATE_SUFFIXES)
    return not address.is_global


def _reject_address(parts: SplitResult) -> None:
    try:
        address = ip_address(parts.hostname or "")
    except ValueError:
        return
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        raise Mistake(f"no upstream can be at `{address}`", "link-local, multicast and wildcard addresses are refused")


def _shown(value: object) -> str:
    """The URL for a message, without anything that could be a credential."""
    if isinstance(value, Interpolated):
        return shown(value)
    return shown(str(value).partition("?")[0].rpartition("@")[2])
