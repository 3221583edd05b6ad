"""Token counts as the protocols report them, read into one `Usage`.

Theory of operation
-------------------
Chat and completions say `prompt_tokens`/`completion_tokens`, Responses and Messages `input_tokens`/`output_tokens`.
Anthropic's `input_tokens` leaves out what was read from its cache or written to it; ours, like OpenAI's, have it all.
One struct has every name, so one decode reads any of them; unknown members are skipped by the decoder without being
built. Counts become money, so one that no request can reach is not believed, and a part is never more than its whole.

The service tier stands beside the usage (OpenAI) or in it (Anthropic). It is the one that was served, which need not be
the one that was asked for.
"""

from __future__ import annotations

from typing import Any

import msgspec

from proxy.routing.cost import tier_of
from proxy.routing.outcome import Usage

MAX_TOKENS = 1_000_000_000
"""Of one request; a greater count is a fault of the upstream's."""


class _Details(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Writes(msgspec.Struct):
    """Anthropic's tokens written to its cache, by how long they are kept."""

    ephemeral_1h_input_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: _Writes | None = None
    service_tier: Any = None


_ABSENT = msgspec.Raw(b"")


class _Carrier(msgspec.Struct):
    """Where a `usage` may sit: a reply, a `response.completed` event's response, a `message_start` event's message."""

    usage: _Usage | None = None
    service_tier: Any = None
    response: msgspec.Raw = _ABSENT
    message: msgspec.Raw = _ABSENT


_decode_carrier = msgspec.json.Decoder(_Carrier).decode
_NO_DETAILS = _Details()


def read_usage(document: bytes | str) -> Usage | None:
    """The usage in a JSON reply or event, or None when it has none (or none that can be read)."""
    try:
        carrier = _decode_carrier(document)
        if carrier.usage is None:
            for within in (carrier.response, carrier.message):
                if carrier.usage is None and bytes(within).startswith(b"{"):
                    carrier = _decode_carrier(within)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    found = carrier.usage
    return None if found is None else _normalise(found, carrier.service_tier or found.service_tier)


def merge(earlier: Usage | None, later: Usage) -> Usage:
    """Anthropic reports input at the start of a stream and output at its end: keep the greater of each."""
    if earlier is None:
        return later
    return Usage(
        input_tokens=max(earlier.input_tokens, later.input_tokens),
        output_tokens=max(earlier.output_tokens, later.output_tokens),
        cached_input_tokens=max(earlier.cached_input_tokens, later.cached_input_tokens),
        reasoning_tokens=max(earlier.reasoning_tokens, later.reasoning_tokens),
        cache_write_tokens=max(earlier.cache_write_tokens, later.cache_write_tokens),
        cache_write_1h_tokens=max(earlier.cache_write_1h_tokens, later.cache_write_1h_tokens),
        audio_input_tokens=max(earlier.audio_input_tokens, later.audio_input_tokens),
        audio_output_tokens=max(earlier.audio_output_tokens, later.audio_output_tokens),
        service_tier=later.service_tier or earlier.service_tier,
    )


def _normalise(found: _Usage, tier: object) -> Usage | None:
    if found.prompt_tokens is not None:
        into, out = found.prompt_tokens_details, found.completion_tokens_details
        tokens_in, tokens_out = found.prompt_tokens, found.completion_tokens or 0
    elif found.input_tokens is not None or found.output_tokens is not None:
        into, out = found.input_tokens_details, found.output_tokens_details
        cached = max(0, found.cache_read_input_tokens or 0) + max(0, found.cache_creation_input_tokens or 0)
        tokens_in, tokens_out = (found.input_tokens or 0) + cached, found.output_tokens or 0
    else:
        return None
    if not (0 <= tokens_in <= MAX_TOKENS and 0 <= tokens_out <= MAX_TOKENS):
        return None
    tier = tier_of(tier) if tier else ""
    if into is None and out is None and found.cache_read_input_tokens is found.cache_creation_input_tokens is None:
        return Usage(input_tokens=tokens_in, output_tokens=tokens_out, service_tier=tier)
    into, out, writes = into or _NO_DETAILS, out or _NO_DETAILS, found.cache_creation
    written = _part(into.cache_write_tokens or found.cache_creation_input_tokens, tokens_in)
    return Usage(
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        cached_input_tokens=_part(into.cached_tokens or found.cache_read_input_tokens, tokens_in),
        reasoning_tokens=_part(out.reasoning_tokens, tokens_out),
        cache_write_tokens=written,
        cache_write_1h_tokens=_part(writes.ephemeral_1h_input_tokens, written) if writes is not None else 0,
        audio_input_tokens=_part(into.audio_tokens, tokens_in),
        audio_output_tokens=_part(out.audio_tokens, tokens_out),
        service_tier=tier,
    )


def _part(tokens: int | None, whole: int) -> int:
    return min(max(0, tokens), whole) if tokens else 0
