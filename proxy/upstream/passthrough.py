"""OpenAI-compatible (and native Anthropic) upstreams, spoken to in bytes.

Theory of operation
-------------------
What the client sent goes on as it came, except the model name, what the policy sets for the target (`parameters.py`),
and `stream_options` so that usage is always reported.
The top level of the body is written anew from its undecoded members: two `model` keys can therefore never mean one
thing here and another there, while every unknown field survives to the byte. Redirects are answers like any other and
are not followed; the address comes from the policy alone; replies are asked for without compression.

Connections belong to a (target name, URL) and outlive the policy that named it, like what is known of it. Those to a
URL that a new policy does not name any more close when the requests that captured the old one are done with them.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from urllib.parse import urlsplit

import msgspec

from proxy.policy.model import Endpoint, Target
from proxy.routing.plan import Attempt
from proxy.upstream.base import Call, RawHeaders, Sink
from proxy.upstream.parameters import encoded
from proxy.upstream.pool import Origin, Pool, Pooled

PATHS = {
    Endpoint.CHAT: "/chat/completions",
    Endpoint.COMPLETIONS: "/completions",
    Endpoint.EMBEDDINGS: "/embeddings",
    Endpoint.RESPONSES: "/responses",
    Endpoint.MESSAGES: "/messages",
    Endpoint.COUNT_TOKENS: "/messages/count_tokens",
}
_STREAM_OPTIONS = frozenset({Endpoint.CHAT, Endpoint.COMPLETIONS})
_INCLUDE_USAGE = msgspec.Raw(b'{"include_usage":true}')

_encode = msgspec.json.encode


class Passthrough:
    """The `Upstream` for targets that speak the caller's protocol themselves."""

    def __init__(self) -> None:
        self._doors: dict[tuple[str, str], _Door] = {}
        self._named: set[tuple[str, str]] | None = None
        self._tls: ssl.SSLContext | None = None

    def open(self, attempt: Attempt, call: Call, sink: Sink) -> Pooled:
        target = attempt.target
        url = target.urls[attempt.replica]
        door = self._doors.get((target.name, url))
        if door is None or door.target is not target:
            door = self._add_door(target, url)
        return door.pool.exchange(door.request(attempt.model, call), sink)

    def adopt(self, targets: Iterable[Target]) -> None:
        """Follow a new policy: connections that lead to none of its targets drain."""
        self._named = {(target.name, url) for target in targets for url in target.urls}
        for key in self._doors.keys() - self._named:
            self._doors.pop(key).pool.retire()

    async def aclose(self) -> None:
        for door in self._doors.values():
            door.pool.close()
        self._doors.clear()

    def _add_door(self, target: Target, url: str) -> _Door:
        key = target.name, url
        previous = self._doors.get(key)
        door = self._doors[key] = _Door(target, url, previous.pool if previous else self._pool(target, url))
        door.pool.connect_s = target.timeouts.connect_s
        if self._named is not None and key not in self._named:
            door.pool.retire()
        return door

    def _pool(self, target: Target, url: str) -> Pool:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        if secure and self._tls is None:
            self._tls = ssl.create_default_context()
        origin = Origin(parts.hostname or "", parts.port or (443 if secure else 80), self._tls if secure else None)
        return Pool(origin, connect_s=target.timeouts.connect_s)


class _Door:
    """A pool, and the request lines, headers and members that never change for one replica of one target."""

    __slots__ = ("_heads", "_parameters", "pool", "target")

    def __init__(self, target: Target, url: str, pool: Pool) -> None:
        parts = urlsplit(url)
        fixed = f"HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\naccept-encoding: identity\r\n"
        for name, value in _credentials(target):
            fixed += f"{name}: {value}\r\n"
        self.target = target
        self.pool = pool
        self._parameters = encoded(target)
        self._heads = {
            endpoint: f"POST {parts.path.rstrip('/')}{path} {fixed}".encode() for endpoint, path in PATHS.items()
        }

    def request(self, model: str, call: Call) -> bytes:
        """The bytes of one request."""
        members: dict[str, msgspec.Raw | str] = {**call.body, **self._parameters, "model": model}
        if call.stream and call.endpoint in _STREAM_OPTIONS:
            members["stream_options"] = _with_usage(call.body.get("stream_options"))
        body = _encode(members)
        return b"%b%bcontent-length: %d\r\n\r\n%b" % (
            self._heads[call.endpoint],
            _render(call.headers),
            len(body),
            body,
        )


def _credentials(target: Target) -> list[tuple[str, str]]:
    key = target.api_key.reveal() if target.api_key else None
    if target.provider == "anthropic":
        # The Messages API wants its own header for the key; a client's `anthropic-version` overrides this one.
        return [("x-api-key", key)] if key else []
    return [("authorization", f"Bearer {key}")] if key else []


def _with_usage(options: msgspec.Raw | None) -> msgspec.Raw:
    if options is None or bytes(options) == b"null":
        return _INCLUDE_USAGE
    members = msgspec.json.decode(options, type=dict[str, msgspec.Raw])
    if bytes(members.get("include_usage", b"")) != b"true":
        # vLLM ignores this one until usage is included: forcing that must not switch it on.
        members.pop("continuous_usage_stats", None)
    members["include_usage"] = msgspec.Raw(b"true")
    return msgspec.Raw(_encode(members))


def _render(headers: RawHeaders) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])
