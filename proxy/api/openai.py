"""The data port: one ASGI application, no middleware on the way of a token.

Theory of operation
-------------------
The routed endpoints are found by their raw path and served directly; everything else (models, health, unknown paths)
goes to a small Starlette application. The order here is the order of suspicion: framing, size, type, key, JSON, fields.
Each refusal is an answer in the caller's protocol and leaves a record, like any other request.

The policy is captured once, when the head is there, and everything about the request is decided by that one: a reload
between the head and the end of the body must not let a key of one policy reach the routes of another.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, MutableMapping
from typing import Any

from starlette.types import ASGIApp

from proxy.api import guard
from proxy.api.auth import authenticate
from proxy.api.client import BaseClient
from proxy.api.direct import DirectClient
from proxy.api.errors import DIALECTS
from proxy.api.request import read_call, read_facts, request_id
from proxy.api.stepped import Stepped
from proxy.api.stream import AsgiClient, Receive, Send
from proxy.policy.model import NO_KEY, Endpoint, Key
from proxy.relay import Relay
from proxy.routing.decide import Router
from proxy.routing.facts import Facts
from proxy.routing.plan import Refusal
from proxy.routing.trace_context import TraceContext, read_context
from proxy.upstream.base import Call, RawHeaders

ROUTED = {
    b"/v1/chat/completions": Endpoint.CHAT,
    b"/v1/completions": Endpoint.COMPLETIONS,
    b"/v1/embeddings": Endpoint.EMBEDDINGS,
    b"/v1/responses": Endpoint.RESPONSES,
    b"/v1/messages": Endpoint.MESSAGES,
    b"/v1/messages/count_tokens": Endpoint.COUNT_TOKENS,
}

Scope = MutableMapping[str, Any]
Trace = Callable[[RawHeaders, dict[bytes, bytes]], TraceContext | None]
"""Which trace a request with these headers, which are also given by name, is part of."""
_log = logging.getLogger(__name__)


class DataPort:
    """The data port. `current` gives the policy, ready to decide, that a new request captures; it is asked once each,
    and so is `trace`, whose own is to pass on what the caller says.

    It is served in one of two ways: as an ASGI application under any server, or, for the routed endpoints, from the
    callbacks of our own protocol class (`opened`, then `begin`), which costs half as much.
    """

    def __init__(
        self,
        relay: Relay,
        current: Callable[[], Router],
        rest: ASGIApp,
        *,
        max_body_bytes: int,
        max_in_flight: int,
        trace: Trace = read_context,
    ) -> None:
        self._relay = relay
        self._current = current
        self._rest = rest
        self._trace = trace
        self._max_in_flight = max_in_flight
        self._direct: set[Stepped] = set()
        self.max_body_bytes = max_body_bytes
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = ROUTED.get(scope["raw_path"]) if scope["type"] == "http" else None
        if endpoint is None or scope["method"] != "POST":
            await self._rest(scope, receive, send)
            return
        received_at = time.monotonic()
        fields: dict[bytes, bytes] = dict(scope["headers"])
        client = AsgiClient(receive, send, DIALECTS[endpoint], request_id(fields))
        client.trace = self._trace(scope["headers"], fields)
        router = self._current()
        key = self._admit_head(router, scope["headers"], fields, scope["http_version"])
        body = key if isinstance(key, Refusal) else await _read_body(receive, fields, self.max_body_bytes)
        if isinstance(body, Refusal):
            self._refuse(router, endpoint, body, client, received_at)
        elif body is not None:
            assert isinstance(key, Key)
            client.watch()
            await self._serve(router, key, endpoint, fields, body, client, received_at)
            client.unwatch()
        await client.drained()

    # the protocol class's side

    def opened(self, client: DirectClient) -> None:
        """A request's head is there; it may be answered already when this returns."""
        client.trace = self._trace(client.headers, client.fields)
        router = client.router = self._current()
        key = self._admit_head(router, client.headers, client.fields, client.http_version)
        if isinstance(key, Refusal):
            self._refuse(router, client.endpoint, key, client, client.received_at)
        elif _declared_size(client.fields) > self.max_body_bytes:
            self.refuse_size(client)
        else:
            client.key = key

    def refuse_size(self, client: DirectClient) -> None:
        """The body is, or says that it is, over the limit."""
        assert client.router is not None
        refusal = guard.too_large(self.max_body_bytes)
        self._refuse(client.router, client.endpoint, refusal, client, client.received_at)

    def begin(self, client: DirectClient) -> None:
        """The request is whole."""
        router, key = client.router, client.key
        assert router is not None
        assert key is not None
        body = client.body[0] if len(client.body) == 1 else b"".join(client.body)
        client.body = []
        serving = self._serve(router, key, client.endpoint, client.fields, body, client, client.received_at)
        stepped = Stepped(serving, lambda _: self._direct.discard(stepped))
        self._direct.add(stepped)
        stepped.step()

    def cancel(self) -> None:
        """End what is still being served directly, each with an error in its caller's protocol."""
        for stepped in tuple(self._direct):
            stepped.cancel()

    # both sides

    def _admit_head(
        self, router: Router, headers: RawHeaders, fields: dict[bytes, bytes], http_version: str
    ) -> Key | Refusal:
        refusal = guard.check_headers(headers, fields, http_version) or guard.check_content_type(fields)
        if refusal is not None:
            return refusal
        if self.in_flight >= self._max_in_flight:
            return _OVERLOADED
        return authenticate(router.snapshot, fields)

    async def _serve(
        self,
        router: Router,
        key: Key,
        endpoint: Endpoint,
        fields: dict[bytes, bytes],
        body: bytes,
        client: BaseClient,
        received_at: float,
    ) -> None:
        admitted = _read_request(router, key, endpoint, fields, body, client)
        if isinstance(admitted, Refusal):
            self._refuse(router, endpoint, admitted, client, received_at, key)
            return
        self.in_flight += 1
        try:
            await self._relay.serve(router, *admitted, client, received_at)
        except asyncio.CancelledError:
            # Only the server cancels, when draining has taken too long. The request ends here, so nothing is raised:
            # uvicorn would report the cancellation it asked for as an error of the application.
            if not client.left:
                client.refuse(_SHUTTING_DOWN)
        except Exception:  # noqa: BLE001  the outermost edge: a bug costs one request
            _log.exception("request %s was not served", client.name)
            if not client.left:
                client.refuse(_BROKEN)
        finally:
            self.in_flight -= 1

    def _refuse(
        self,
        router: Router,
        endpoint: Endpoint,
        refusal: Refusal,
        client: BaseClient,
        received_at: float,
        key: Key = NO_KEY,
    ) -> None:
        facts = Facts(
            request_id=client.name,
            tenant=key.tenant,
            model="",
            endpoint=endpoint,
            tags=key.tags,
            key=key,
            at_s=time.time(),
            trace=client.trace,
        )
        self._relay.refuse(router.snapshot, facts, refusal, client, received_at)


def _read_request(
    router: Router, key: Key, endpoint: Endpoint, fields: dict[bytes, bytes], body: bytes, client: BaseClient
) -> tuple[Facts, Call] | Refusal:
    """What the router and the upstreams need, or why not."""
    members = guard.read_members(body)
    if isinstance(members, Refusal):
        return members
    reads_content = router.snapshot.reads_content
    facts = read_facts(
        key,
        endpoint,
        client.name,
        fields,
        members,
        body,
        at_s=time.time(),
        reads_content=reads_content,
        cached_models=router.cached_models,
        trace=client.trace,
    )
    if isinstance(facts, Refusal):
        return facts
    call = read_call(facts, fields, members)
    return call if isinstance(call, Refusal) else (facts, call)


def _declared_size(fields: dict[bytes, bytes]) -> int:
    declared = fields.get(b"content-length", b"0")
    return int(declared[:18]) if declared.isdigit() else 0


async def _read_body(receive: Receive, fields: dict[bytes, bytes], limit: int) -> bytes | Refusal | None:
    """The whole body; None if the client left first. A declared length over the limit is refused unread."""
    if _declared_size(fields) > limit:
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

_BROKEN = Refusal(
    status=500, type="server_error", code="internal_error", message="the proxy failed; its log says how", rule="bug"
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
