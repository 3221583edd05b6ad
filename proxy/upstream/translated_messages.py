"""Chat replies as Anthropic Messages: the reverse of what LiteLLM does for an Anthropic upstream.

Theory of operation
-------------------
LiteLLM has such an adapter for requests, which is used, and one for replies, which is not: its stream repeats the first
piece of thinking, and its native path imports a web framework. A Messages reply is a list of content blocks, one after
the other; a stream opens a block, fills it, closes it, and never returns to it. `MessagesStream` is that state machine.

Source of the protocol: platform.claude.com/docs/en/build-with-claude/streaming.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from proxy.upstream.errors import ProtocolViolated

Json = dict[str, Any]

_STOP_REASONS: Mapping[str, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


def usage(found: Json | None) -> Json:
    """Anthropic's `usage`: `input_tokens` leaves out what was read from, or written to, the cache."""
    if found is None:
        return {"input_tokens": 0, "output_tokens": 0}
    details = found.get("prompt_tokens_details") or {}
    read, written = int(details.get("cached_tokens") or 0), int(details.get("cache_write_tokens") or 0)
    shaped = {
        "input_tokens": max(0, found["prompt_tokens"] - read - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": found["completion_tokens"],
    }
    return shaped | ({"cache_creation": found["cache_creation"]} if "cache_creation" in found else {})


def message(shaped: Json, tool_names: Mapping[str, str]) -> Json:
    """A whole Messages reply made of a shaped chat completion.

    `tool_names` maps the names that a provider's limits forced on tools back to the caller's own.
    Raises `ProtocolViolated` when a tool's arguments are not a JSON object.
    """
    choice = shaped["choices"][0]
    given = choice["message"]
    content = [*_thinking(given)]
    if given.get("content"):
        content.append({"type": "text", "text": given["content"]})
    for call in given.get("tool_calls") or ():
        name = call["function"]["name"]
        content.append({
            "type": "tool_use",
            "id": call["id"],
            "name": tool_names.get(name, name),
            "input": _arguments(call["function"]["arguments"]),
        })  # fmt: skip
    return {
        "id": message_id(shaped["id"]),
        "type": "message",
        "role": "assistant",
        "model": shaped["model"],
        "content": content,
        "stop_reason": _STOP_REASONS.get(choice["finish_reason"], "end_turn"),
        "stop_sequence": None,
        "usage": usage(shaped.get("usage")),
    }


def message_id(chat_id: str) -> str:
    """A chat completion's id as a message's."""
    return chat_id if chat_id.startswith("msg_") else "msg_" + chat_id.removeprefix("chatcmpl-")


class MessagesStream:
    """Chat chunks out as Messages events, each with its `event:` name: SDKs skip events without one."""

    def __init__(self, tool_names: Mapping[str, str]) -> None:
        self._tool_names = tool_names
        self._started = False
        self._index = -1
        self._open: str | None = None
        self._tool: int | None = None
        self._tools_seen: set[int] = set()
        self._stop_reason = "end_turn"

    def feed(self, shaped: Json) -> bytes:
        """One shaped chat chunk. Raises `ProtocolViolated` when tool calls are mingled."""
        out = b"" if self._started else self._start(shaped)
        for choice in shaped["choices"]:
            delta = choice["delta"]
            out += self._think(delta)
            if delta.get("content"):
                out += self._enter("text", {"type": "text", "text": ""})
                out += self._delta({"type": "text_delta", "text": delta["content"]})
            for call in delta.get("tool_calls") or ():
                out += self._call(call)
            if choice["finish_reason"]:
                self._stop_reason = _STOP_REASONS.get(choice["finish_reason"], "end_turn")
        return out

    def finish(self, last: Json, usage_found: Json | None) -> bytes:
        """Close the last block; the stop reason and the usage; the end."""
        out = b"" if self._started else self._start(last)
        out += self._leave()
        delta: Json = {"stop_reason": self._stop_reason, "stop_sequence": None}
        found = usage(usage_found) if usage_found is not None else {"output_tokens": None}
        return (
            out + _event({"type": "message_delta", "delta": delta, "usage": found}) + _event({"type": "message_stop"})
        )

    def _start(self, shaped: Json) -> bytes:
        self._started = True
        body: Json = {
            "id": message_id(shaped["id"]),
            "type": "message",
            "role": "assistant",
            "model": shaped["model"],
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage(None),
        }
        return _event({"type": "message_start", "message": body})

    def _think(self, delta: Json) -> bytes:
        out = b""
        for block in delta.get("thinking_blocks") or _plain_thinking(delta):
            if block.get("type") == "redacted_thinking":
                out += self._enter("", {"type": "redacted_thinking", "data": block.get("data", "")}) + self._leave()
                continue
            out += self._enter("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            if block.get("thinking"):
                out += self._delta({"type": "thinking_delta", "thinking": block["thinking"]})
            if block.get("signature"):
                out += self._delta({"type": "signature_delta", "signature": block["signature"]})
        return out

    def _call(self, call: Json) -> bytes:
        out, index, function = b"", call["index"], call["function"]
        if index != self._tool or self._open != "tool_use":
            if index in self._tools_seen:
                raise ProtocolViolated("tool calls are mingled in the stream")
            self._tools_seen.add(index)
            self._tool = index
            name = function.get("name", "")
            block = {
                "type": "tool_use",
                "id": call.get("id", ""),
                "name": self._tool_names.get(name, name),
                "input": {},
            }
            out = self._leave() + self._enter("tool_use", block)
        if function["arguments"]:
            out += self._delta({"type": "input_json_delta", "partial_json": function["arguments"]})
        return out

    def _enter(self, kind: str, block: Json) -> bytes:
        if self._open == kind:
            return b""
        out = self._leave()
        self._open = kind
        self._index += 1
        return out + _event({"type": "content_block_start", "index": self._index, "content_block": block})

    def _leave(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        return _event({"type": "content_block_stop", "index": self._index})

    def _delta(self, delta: Json) -> bytes:
        return _event({"type": "content_block_delta", "index": self._index, "delta": delta})


def _thinking(given: Json) -> list[Json]:
    blocks: list[Json] = given.get("thinking_blocks") or [
        {"type": "thinking", "thinking": block["thinking"], "signature": ""} for block in _plain_thinking(given)
    ]
    return blocks


def _plain_thinking(given: Json) -> list[Json]:
    text = given.get("reasoning_content")
    return [{"type": "thinking", "thinking": text}] if text else []


def _arguments(text: str) -> Json:
    try:
        found = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise ProtocolViolated("a tool call's arguments are not a JSON object")
    return found


def _event(body: Json) -> bytes:
    kind: str = body["type"]
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps(body) + b"\n\n"
