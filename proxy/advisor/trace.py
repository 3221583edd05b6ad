"""Traffic that was, or might be: who asked for how much, and when.

Theory of operation
-------------------
A trace is a table of requests in columns, in order of arrival. What all requests of one app have in common stands once,
in its `App`, so that a replay makes each request's facts from a template and three numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proxy.policy.model import Endpoint, Priority, Traffic

BLOCK_TOKENS = 512
"""Of a prefix block, where the trace does not say otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """What the requests of one app have in common; empty names are any tenant, key or model of the policy.

    `priority` None is that of the tenant.
    """

    name: str
    tenant: str = ""
    key: str = ""
    model: str = ""
    endpoint: Endpoint = Endpoint.CHAT
    stream: bool = True
    traffic: Traffic = Traffic.ONLINE
    tags: frozenset[str] = frozenset()
    priority: Priority | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Requests by arrival. All columns are equally long.

    `arrival_s` counts seconds from the beginning of the trace, never falling; `app` indexes `apps`. `prefix` holds each
    prompt's blocks, as numbers that are equal where prompts begin alike, of `block_tokens` each; None where nobody
    knows. `span_s` is how long the trace was observed, and `began_at_s` the Unix time of its beginning, if it is known.
    """

    name: str
    arrival_s: NDArray[np.float64]
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    app: NDArray[np.int32]
    apps: tuple[App, ...]
    span_s: float
    prefix: tuple[tuple[int, ...], ...] | None = None
    block_tokens: int = BLOCK_TOKENS
    began_at_s: float | None = None

    def __len__(self) -> int:
        return len(self.arrival_s)
