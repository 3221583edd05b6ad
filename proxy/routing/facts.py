"""What is known about one request before anything is decided.

Theory of operation
-------------------
`api/` reads the headers and the body once; what the decision may look at is copied here, and the rest of the request
stays bytes. Per-request values are `msgspec.Struct`s rather than dataclasses: frozen and slotted alike, but built in C
(0.3 us against 2.8 us for fourteen fields), and they are built for every request.
"""

from __future__ import annotations

import msgspec

from proxy.policy.model import NO_KEY, Endpoint, Key, Lane, Modality, Priority, Tenant, Traffic
from proxy.routing.trace_context import TraceContext


class Facts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request as the router sees it. Token counts are estimates until a reply's `usage` is read.

    `tags` are those of the tenant, the key and the request together. `modalities` are what the prompt holds beyond
    text. `choices` is how many answers are asked for, each up to `max_output_tokens` long. `service_tier` is the
    provider's tier that the body asks for, empty where it asks for none. `at_s` is Unix time, for routes that follow
    the clock on the wall; nothing is measured with it. `priority` says who goes first when not all can be served in
    time. `prefix` are hashes of the prompt's blocks, each over all before it too: equal hashes, equal beginnings.
    Nothing is decided by `trace`, the trace that the request is part of, if there is one.
    """

    request_id: str
    tenant: Tenant
    model: str
    endpoint: Endpoint
    stream: bool = False
    traffic: Traffic = Traffic.ONLINE
    input_tokens: int = 0
    max_output_tokens: int | None = None
    tags: frozenset[str] = frozenset()
    session: str | None = None
    lane_override: Lane | None = None
    target_override: str | None = None
    key: Key = NO_KEY
    modalities: frozenset[Modality] = frozenset()
    tools: bool = False
    at_s: float = 0.0
    choices: int = 1
    service_tier: str = ""
    priority: Priority = Priority.NORMAL
    prefix: tuple[int, ...] = ()
    trace: TraceContext | None = None
