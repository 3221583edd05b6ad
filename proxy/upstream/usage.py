"""Token counts as the three protocols report them, read into one `Usage`.

Theory of operation
-------------------
Chat and completions say `prompt_tokens`/`completion_tokens`, Responses and Messages `input_tokens`/`output_tokens`.
Anthropic's `input_tokens` leaves cached tokens out; ours, like OpenAI's, include them. One struct has every name, so
one decode reads any of them; unknown members are skipped by the decoder without being built. Counts become money, so
one that no request can reach is not believed, and a part is never more than its whole.
"""

from __future__ import annotations

import msgspec

from proxy.routing.outcome import Usage

MAX_TOKENS = 1_000_000_000
"""Of one request; a greater count is a fault of the upstream's."""


class _Details(msgspec.Struct):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


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


_ABSENT = msgspec.Raw(b"")


class _Carrier(msgspec.Struct):
    """Where a `usage` may sit: a reply, a `response.completed` event's response, a `message_start` event's message."""

    usage: _Usage | None = None
    response: msgspec.Raw = _ABSENT
    message: msgspec.Raw = _ABSENT


_decode_carrier = msgspec.json.Decoder(_Carrier).decode


def read_usage(document: bytes | str) -> Usage | None:
    """The usage in a JSON reply or event, or None when it has none (or none that can be read)."""
    try:
        carrier = _decode_carrier(document)
        found = carrier.usage
        for within in (carrier.response, carrier.message):
            if found is None and bytes(within).startswith(b"{"):
                found = _decode_carrier(within).usage
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return None if found is None else _normalise(found)


def merge(earlier: Usage | None, later: Usage) -> Usage:
    """Anthropic reports input at the start of a stream and output at its end: keep the greater of each."""
    if earlier is None:
        return later
    return Usage(
        input_tokens=max(earlier.input_tokens, later.input_tokens),
        output_tokens=max(earlier.output_tokens, later.output_tokens),
        cached_input_tokens=max(earlier.cached_input_tokens, later.cached_input_tokens),
        reasoning_tokens=max(earlier.reasoning_tokens, later.reasoning_tokens),
    )


def _normalise(found: _Usage) -> Usage | None:
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
    read = (into and into.cached_tokens) or found.cache_read_input_tokens or 0
    return Usage(
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        cached_input_tokens=min(max(0, read), tokens_in),
        reasoning_tokens=min(max(0, (out and out.reasoning_tokens) or 0), tokens_out),
    )
