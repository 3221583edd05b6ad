"""LiteLLM's chat and embedding replies in exactly OpenAI's shape.

Theory of operation
-------------------
LiteLLM dumps every field that any provider has ever had: nulls, `provider_specific_fields`, an `index` inside a whole
message's tool calls, a `type` without an `id` in streamed ones, a usage chunk that still carries a choice. Replies are
therefore copied by an allow-list of OpenAI's members. Two members that OpenAI lacks are kept, because a conversation
cannot go on without them: `reasoning_content` (as vLLM and DeepSeek name it) and `thinking_blocks` (which carries
Anthropic's signatures).

Everything here is a pure function of dumped dictionaries (`exclude_none`), so that it is tested without LiteLLM.
"""

from __future__ import annotations

import base64
from array import array
from collections.abc import Iterable
from typing import Any

import orjson

Json = dict[str, Any]

_MESSAGE = ("content", "refusal", "reasoning_content", "thinking_blocks", "function_call", "audio", "annotations")
_PROMPT_DETAILS = ("cached_tokens", "audio_tokens", "cache_write_tokens")
_COMPLETION_DETAILS = (
    "reasoning_tokens", "audio_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens",
)  # fmt: skip
_WRITES = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
_ENVELOPE = ("system_fingerprint", "service_tier")
DONE = b"data: [DONE]\n\n"


def usage(found: Json) -> Json:
    """OpenAI's `usage`: totals always, details where the provider reported them.

    What was written to a cache for an hour costs more than the rest: it is told by Anthropic's name for it.
    """
    prompt, completion = int(found.get("prompt_tokens") or 0), int(found.get("completion_tokens") or 0)
    shaped: Json = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    for name, known in (("prompt_tokens_details", _PROMPT_DETAILS), ("completion_tokens_details", _COMPLETION_DETAILS)):
        details = found.get(name) or {}
        kept = {key: details[key] for key in known if details.get(key) is not None}
        if kept:
            shaped[name] = kept
    written = (found.get("prompt_tokens_details") or {}).get("cache_creation_token_details") or {}
    if written.get("ephemeral_1h_input_tokens"):
        shaped["cache_creation"] = {key: written[key] for key in _WRITES if written.get(key) is not None}
    return shaped


def completion(dump: Json) -> Json:
    """A whole `chat.completion`. LiteLLM writes a usage of zeros when the provider reported none: that is left out."""
    shaped: Json = {
        "id": dump["id"],
        "object": "chat.completion",
        "created": dump["created"],
        "model": dump.get("model") or "",
        "choices": [_choice(choice) for choice in dump["choices"]],
    }
    found = usage(dump.get("usage") or {})
    if found["total_tokens"]:
        shaped["usage"] = found
    return shaped | {key: dump[key] for key in _ENVELOPE if dump.get(key) is not None}


def chunk(dump: Json) -> Json | None:
    """A `chat.completion.chunk`, or None when nothing is left to say in it. Usage is not part of it."""
    choices = [shaped for choice in dump["choices"] if (shaped := _chunk_choice(choice)) is not None]
    return chunk_envelope(dump, choices) if choices else None


def chunk_envelope(dump: Json, choices: list[Json]) -> Json:
    """The chunk around `choices`; with none, and a `usage` added, it is the last chunk of a stream."""
    shaped: Json = {
        "id": dump["id"],
        "object": "chat.completion.chunk",
        "created": dump["created"],
        "model": dump.get("model") or "",
        "choices": choices,
    }
    return shaped | {key: dump[key] for key in _ENVELOPE if dump.get(key) is not None}


def event(body: Json) -> bytes:
    """One unnamed server-sent event."""
    return b"data: " + orjson.dumps(body) + b"\n\n"


class ChatStream:
    """Chat chunks out as events."""

    def feed(self, shaped: Json) -> bytes:
        """One chunk, shaped by `chunk()`."""
        return event(shaped)

    def finish(self, last: Json, usage_found: Json | None) -> bytes:
        """The usage chunk, when usage was reported, and `[DONE]`."""
        if usage_found is None:
            return DONE
        return event({**chunk_envelope(last, []), "usage": usage_found}) + DONE


def text_completion(shaped: Json) -> Json:
    """A legacy `text_completion` made of a chat completion."""
    choices = [
        {
            "index": choice["index"],
            "text": choice["message"].get("content") or "",
            "logprobs": None,
            "finish_reason": choice["finish_reason"],
        }
        for choice in shaped["choices"]
    ]
    return {**shaped, "id": _text_id(shaped["id"]), "object": "text_completion", "choices": choices}


class TextStream:
    """Chat chunks out as legacy completion events."""

    def feed(self, shaped: Json) -> bytes:
        """One chunk, shaped by `chunk()`; empty bytes when it holds no text."""
        choices = [
            {
                "index": choice["index"],
                "text": choice["delta"].get("content") or "",
                "logprobs": None,
                "finish_reason": choice["finish_reason"],
            }
            for choice in shaped["choices"]
            if choice["delta"].get("content") or choice["finish_reason"]
        ]
        return event(self._body(shaped, choices)) if choices else b""

    def finish(self, last: Json, usage_found: Json | None) -> bytes:
        """The usage chunk, when usage was reported, and `[DONE]`."""
        if usage_found is None:
            return DONE
        return event({**self._body(last, []), "usage": usage_found}) + DONE

    @staticmethod
    def _body(shaped: Json, choices: list[Json]) -> Json:
        return {**shaped, "id": _text_id(shaped["id"]), "object": "text_completion", "choices": choices}


def embeddings(dump: Json, *, as_base64: bool) -> Json:
    """An embeddings reply. Providers answer in floats; base64 of little-endian float32, which OpenAI's SDK asks for by
    default, is made here."""
    found = dump.get("usage") or {}
    prompt = int(found.get("prompt_tokens") or 0)
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _embedding(item["embedding"], as_base64)}
            for index, item in enumerate(dump["data"])
        ],
        "model": dump.get("model") or "",
        "usage": {"prompt_tokens": prompt, "total_tokens": prompt},
    }


def _embedding(values: Iterable[float] | str, as_base64: bool) -> list[float] | str:
    if isinstance(values, str):
        raw = array("f", base64.b64decode(values))
        return values if as_base64 else list(raw)
    return base64.b64encode(array("f", values).tobytes()).decode() if as_base64 else list(values)


def _text_id(chat_id: str) -> str:
    return "cmpl-" + chat_id.removeprefix("chatcmpl-")


def _choice(choice: Json) -> Json:
    given = choice.get("message") or {}
    message: Json = {"role": given.get("role") or "assistant", "content": given.get("content")}
    message |= {key: given[key] for key in _MESSAGE if given.get(key) is not None}
    if given.get("tool_calls"):
        message["tool_calls"] = [_tool_call(call) for call in given["tool_calls"]]
    return {
        "index": choice.get("index", 0),
        "message": message,
        "logprobs": choice.get("logprobs"),
        "finish_reason": choice.get("finish_reason") or "stop",
    }


def _tool_call(call: Json) -> Json:
    function = call.get("function") or {}
    return {
        "id": call.get("id") or "",
        "type": "function",
        "function": {"name": function.get("name") or "", "arguments": function.get("arguments") or ""},
    }


def _chunk_choice(choice: Json) -> Json | None:
    given = choice.get("delta") or {}
    delta: Json = {key: given[key] for key in ("role", *_MESSAGE) if given.get(key) is not None}
    for name in ("content", "reasoning_content"):
        if delta.get(name) == "" and (name != "content" or "role" not in delta):
            del delta[name]
    if given.get("tool_calls"):
        delta["tool_calls"] = [_tool_call_delta(call) for call in given["tool_calls"]]
    finish_reason = choice.get("finish_reason")
    if not delta and finish_reason is None:
        return None
    shaped: Json = {"index": choice.get("index", 0), "delta": delta, "finish_reason": finish_reason}
    if choice.get("logprobs") is not None:
        shaped["logprobs"] = choice["logprobs"]
    return shaped


def _tool_call_delta(call: Json) -> Json:
    """Only the first delta of a call has an `id`, a `type` and a name."""
    function = call.get("function") or {}
    shaped: Json = {"index": call.get("index", 0)}
    if call.get("id"):
        shaped |= {"id": call["id"], "type": "function"}
    named = {"name": function["name"]} if function.get("name") else {}
    return shaped | {"function": {**named, "arguments": function.get("arguments") or ""}}
