"""The data port: one ASGI application, no middleware on the way of a token.

Theory of operation
-------------------
The routed endpoints are found by their raw path and served directly; everything else (models, health, unknown paths)
goes to a small Starlette application. The order here is the order of suspicion: framing, size, type, key, JSON, fields.
Each refusal is an answer in the caller's protocol and leaves a record, like any other request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, MutableMapping
from typing import Any

from starlette.types import ASGIApp

from proxy.api import guard
from proxy.api.auth import authenticate
from proxy.api.direct import DirectClient
from proxy.api.errors import DIALECTS
from proxy.api.request import read_call, read_facts, request_id
from proxy.api.server import EXTENSION
from proxy.api.stream import AsgiClient, Receive, Send
from proxy.policy.model import ANONYMOUS, Endpoint, Snapshot
from proxy.relay import Relay
from proxy.routing.decide import Router
from proxy.routing.facts import Facts
from proxy.routing.plan import Refusal
from proxy.upstream.base import Call

ROUTED = {
    b"/v1/chat/completions": Endpoint.CHAT,
    b"/v1/completions": Endpoint.COMPLETIONS,
    b"/v1/embeddings": Endpoint.EMBEDDINGS,
    b"/v1/responses": Endpoint.RESPONSES,
    b"/v1/messages": Endpoint.MESSAGES,
    b"/v1/messages/count_tokens": Endpoint.COUNT_TOKENS,
}

Scope = MutableMapping[str, Any]
_NO_EXTENSIONS: dict[str, Any] = {}


class DataPort:
    """The ASGI application of the data port. `current` gives the policy that a new request captures."""

    def __init__(
        self, relay: Relay, current: Callable[[], Router], rest: ASGIApp, *, max_body_bytes: int, max_in_flight: int
    ) -> None:
        self._relay = relay
        self._current = current
        self._rest = rest
        self._max_body_bytes = max_body_bytes
        self._max_in_flight = max_in_flight
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = ROUTED.get(scope["raw_path"]) if scope["type"] == "http" else None
        if endpoint is None or scope["method"] != "POST":
            await self._rest(scope, receive, send)
            return
        self.in_flight += 1
        try:
            await self._serve(endpoint, scope, receive, send)
        finally:
            self.in_flight -= 1

    async def _serve(self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
        received_at = time.monotonic()
        router = self._current()
        snapshot = router.snapshot
        fields: dict[bytes, bytes] = dict(scope["headers"])
        name = request_id(fields)
        direct = scope.get("extensions", _NO_EXTENSIONS).pop(EXTENSION, None)
        admitted = await self._admit(snapshot, endpoint, name, fields, scope, receive)
        client: DirectClient | AsgiClient
        if direct is None:
            client = AsgiClient(receive, send, DIALECTS[endpoint], name)
        else:
            client = direct[0].direct_client(direct[1], DIALECTS[endpoint], name)
        if isinstance(admitted, Refusal):
            facts = Facts(request_id=name, tenant=ANONYMOUS, model="", endpoint=endpoint)
            self._relay.refuse(snapshot, facts, admitted, client, received_at)
        elif admitted is not None:
            await self._relayed(router, *admitted, client, received_at)
        if isinstance(client, AsgiClient):
            await client.drained()

    async def _relayed(
        self, router: Router, facts: Facts, call: Call, client: DirectClient | AsgiClient, received_at: float
    ) -> None:
        if isinstance(client, AsgiClient):
            client.watch()
        try:
            await self._relay.serve(router, facts, call, client, received_at)
        except asyncio.CancelledError:
            if not client.left:
                client.refuse(_SHUTTING_DOWN)
            raise
        finally:
            if isinstance(client, AsgiClient):
                client.unwatch()

    async def _admit(
        self,
        snapshot: Snapshot,
        endpoint: Endpoint,
        name: str,
        fields: dict[bytes, bytes],
        scope: Scope,
        receive: Receive,
    ) -> tuple[Facts, Call] | Refusal | None:
        """What the router needs, or why not; None when the client left before its request was whole."""
        refusal = guard.check_headers(scope["headers"], fields, scope["http_version"]) or guard.check_content_type(
            fields
        )
        if refusal is not None or self.in_flight > self._max_in_flight:
            return refusal or _OVERLOADED
        tenant = authenticate(snapshot, fields)
        if isinstance(tenant, Refusal):
            return tenant
        body = await _read_body(receive, fields, self._max_body_bytes)
        if not isinstance(body, bytes):
            return body
        members = guard.read_members(body)
        if isinstance(members, Refusal):
            return members
        facts = read_facts(tenant, endpoint, name, fields, members, len(body))
        if isinstance(facts, Refusal):
            return facts
        call = read_call(facts, fields, members)
        return call if isinstance(call, Refusal) else (facts, call)


async def _read_body(receive: Receive, fields: dict[bytes, bytes], limit: int) -> bytes | Refusal | None:
    """The whole body; None if the client left first. A declared length over the limit is refused unread."""
    declared = fields.get(b"content-length", b"0")
    if declared.isdigit() and int(declared[:18]) > limit:
        return guard.too_large(limit)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        return message["body"] if len(message["body"]) <= limit else guard.too_large(limit)
    chunks: list[bytes] = []
    size = 0
    while message["type"] == "http.request":
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit:
            return guard.too_large(limit)
        if not message.get("more_body"):
            return b"".join(chunks)
        message = await receive()
    return None


_OVERLOADED = Refusal(
    status=503,
    type="server_error",
    code="overloaded",
    message="the proxy has as many requests in flight as it may have",
    rule="overload",
    retry_after_s=1.0,
    retryable=True,
)

_SHUTTING_DOWN = Refusal(
    status=503,
    type="server_error",
    code="shutting_down",
    message="the proxy is shutting down",
    rule="shutdown",
    retry_after_s=1.0,
    retryable=True,
)
