"""How much of an engine's time the requests of a trace take, each at the very least.

Theory of operation
-------------------
A step of the engine takes `a + b n + c K + sum(d t + e t x)` (`policy.engine_profile`). What a request adds to the
steps it takes part in is its *work*: reading the prompt, however it is cut into chunks,

    d (in - hit)  +  e (in^2 - hit^2) / 2

and decoding. The step that completes the prompt emits the first token, so that `out` tokens take `out - 1` steps, over
contexts of in + 1 to in + out - 1 tokens:

    (out - 1) (b + c (in + out / 2))

This is what no engine of that profile can do without, and so it is a hair less than `routing.work`, which shares out
the hours of a GPU and charges a decode step for every token.

`hit` tokens are in the prefix cache. At best the cache is infinite and nothing but time forbids a hit: a block is there
if another request that begins alike has come before, or comes before this one's prompt has to be read.
"""

from __future__ import annotations

from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from proxy.advisor.trace import Trace
from proxy.policy.engine_profile import EngineProfile

Floats = NDArray[np.float64]


def prefill_s(trace: Trace, profile: EngineProfile, hit_tokens: NDArray[np.int64] | int = 0) -> Floats:
    """Each request's seconds of reading its prompt, of which `hit_tokens` need no reading."""
    into = trace.input_tokens.astype(np.float64)
    hit = np.minimum(hit_tokens, into)
    work: Floats = (into - hit) * (profile.prefill_token_s + profile.attention_s * (into + hit) / 2)
    return work


def decode_s(trace: Trace, profile: EngineProfile) -> Floats:
    """Each request's seconds of decoding, after the first token."""
    into, out = trace.input_tokens.astype(np.float64), trace.output_tokens.astype(np.float64)
    work: Floats = np.maximum(out - 1, 0) * (profile.sequence_s + profile.context_token_s * (into + out / 2))
    return work


def most_hits(trace: Trace, ttft_s: Floats | float) -> NDArray[np.int64]:
    """How many tokens of each prompt can be in the prefix cache when it is read, at most `ttft_s` after its arrival.

    No more under any policy; zeros where the trace knows no prefixes.
    """
    hits = np.zeros(len(trace), np.int64)
    if trace.prefix is None:
        return hits
    seen: dict[int, tuple[int, float, float]] = {}  # by block: who came first, when, and when the next one came
    for request, (arrival_s, blocks) in enumerate(zip(trace.arrival_s.tolist(), trace.prefix, strict=True)):
        for block in set(blocks):
            first, first_s, next_s = seen.get(block, (request, arrival_s, np.inf))
            seen[block] = (first, first_s, min(next_s, arrival_s) if first != request else next_s)
    latest_s = (trace.arrival_s + ttft_s).tolist()
    for request, blocks in enumerate(trace.prefix):
        there = takewhile(lambda block, r=request: _other_s(seen[block], r) <= latest_s[r], blocks)  # type: ignore[misc]
        hits[request] = sum(1 for _ in there) * trace.block_tokens
    bounded: NDArray[np.int64] = np.minimum(hits, trace.input_tokens)
    return bounded


def _other_s(seen: tuple[int, float, float], request: int) -> float:
    """When the first request other than `request` that has the block arrives."""
    first, first_s, next_s = seen
    return next_s if first == request else first_s
