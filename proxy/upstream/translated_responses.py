"""Chat replies as OpenAI Responses, whole and streamed.

Theory of operation
-------------------
LiteLLM's own bridge from chat to Responses closes items out of order, numbers some events and not others, and puts
reasoning where the SDKs do not look for it, so replies are built here. Output items follow one another; each is added,
filled and done, and the last event carries the whole response. Every event has the next `sequence_number`.

Ids are derived from the upstream's completion id: nothing here draws random numbers.

Source of the protocol: platform.openai.com/docs/api-reference/responses-streaming.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from proxy.upstream.errors import ProtocolViolated

Json = dict[str, Any]

_INCOMPLETE: Mapping[str, str] = {"length": "max_output_tokens", "content_filter": "content_filter"}
_ECHOED: Mapping[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "parallel_tool_calls": True,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
"""Request members that a response repeats, with OpenAI's defaults."""


def usage(found: Json | None) -> Json | None:
    """Responses' `usage`, or None when the upstream reported none."""
    if found is None:
        return None
    into, out = found.get("prompt_tokens_details") or {}, found.get("completion_tokens_details") or {}
    return {
        "input_tokens": found["prompt_tokens"],
        "input_tokens_details": {
            "cached_tokens": into.get("cached_tokens") or 0,
            "cache_write_tokens": into.get("cache_write_tokens") or 0,
        },
        "output_tokens": found["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": out.get("reasoning_tokens") or 0},
        "total_tokens": found["total_tokens"],
    }


def response(shaped: Json, request: Json) -> Json:
    """A whole response made of a shaped chat completion; `request` is the caller's body."""
    choice = shaped["choices"][0]
    given = choice["message"]
    stem = _stem(shaped["id"])
    output: list[Json] = []
    if given.get("reasoning_content") or given.get("thinking_blocks"):
        sealed = given.get("thinking_blocks") if _wants_sealed(request) else None
        output.append(_reasoning(stem, given.get("reasoning_content") or "", sealed))
    if given.get("content"):
        output.append(_message(stem, given["content"]))
    output += [
        _function_call(call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in given.get("tool_calls") or ()
    ]
    return _response(shaped, request, output, choice["finish_reason"], shaped.get("usage"))


class ResponsesStream:
    """Chat chunks out as Responses events."""

    def __init__(self, request: Json) -> None:
        self._request = request
        self._sequence = 0
        self._started = False
        self._output: list[Json] = []
        self._item_id = ""
        self._kind = ""
        self._text = ""
        self._tool: Json = {}
        self._tools_seen: set[int] = set()
        self._thinking_blocks: list[Json] = []
        self._finish_reason = "stop"

    def feed(self, shaped: Json) -> bytes:
        """One shaped chat chunk. Raises `ProtocolViolated` when tool calls are mingled."""
        out = b"" if self._started else self._start(shaped)
        for choice in shaped["choices"]:
            delta = choice["delta"]
            self._thinking_blocks += delta.get("thinking_blocks") or []
            if delta.get("reasoning_content"):
                out += self._enter("reasoning", shaped) + self._reason(delta["reasoning_content"])
            if delta.get("content"):
                out += self._enter("message", shaped) + self._say(delta["content"])
            for call in delta.get("tool_calls") or ():
                out += self._call(call, shaped)
            self._finish_reason = choice["finish_reason"] or self._finish_reason
        return out

    def finish(self, last: Json, usage_found: Json | None) -> bytes:
        """Close the last item; the whole response."""
        out = b"" if self._started else self._start(last)
        out += self._leave()
        body = _response(last, self._request, self._output, self._finish_reason, usage_found)
        return out + self._event(f"response.{body['status']}", response=body)

    def _start(self, shaped: Json) -> bytes:
        self._started = True
        body = _response(shaped, self._request, [], None, None)
        return self._event("response.created", response=body) + self._event("response.in_progress", response=body)

    def _enter(self, kind: str, shaped: Json) -> bytes:
        """Open an item of this kind, unless it is the open one."""
        if self._kind == kind:
            return b""
        out = self._leave()
        self._kind, self._text = kind, ""
        self._item_id = _item_id(kind, _stem(shaped["id"]), len(self._output))
        if kind == "reasoning":
            item: Json = {"id": self._item_id, "type": "reasoning", "summary": []}
            part_added, part = "response.reasoning_summary_part.added", _summary("")
        else:
            item = {"id": self._item_id, "type": "message", "status": "in_progress", "role": "assistant", "content": []}
            part_added, part = "response.content_part.added", _text_part("")
        out += self._event("response.output_item.added", output_index=len(self._output), item=item)
        return out + self._event(part_added, **self._place(), part=part)

    def _reason(self, text: str) -> bytes:
        self._text += text
        return self._event("response.reasoning_summary_text.delta", **self._place(), delta=text)

    def _say(self, text: str) -> bytes:
        self._text += text
        return self._event("response.output_text.delta", **self._place(), delta=text, logprobs=[])

    def _call(self, call: Json, shaped: Json) -> bytes:
        out, index, function = b"", call["index"], call["function"]
        if self._kind != "function_call" or self._tool["index"] != index:
            if index in self._tools_seen:
                raise ProtocolViolated("tool calls are mingled in the stream")
            out = self._leave()
            self._tools_seen.add(index)
            self._kind, self._text = "function_call", ""
            self._tool = {"index": index, "id": call.get("id", ""), "name": function.get("name", "")}
            self._item_id = _item_id("function_call", self._tool["id"], index)
            item = _function_call(self._tool["id"], self._tool["name"], "", status="in_progress")
            out += self._event("response.output_item.added", output_index=len(self._output), item=item)
        if function["arguments"]:
            self._text += function["arguments"]
            where = {"item_id": self._item_id, "output_index": len(self._output)}
            out += self._event("response.function_call_arguments.delta", **where, delta=function["arguments"])
        return out

    def _leave(self) -> bytes:
        """Close the open item: its text is done, its part is done, it is done."""
        kind, place, out = self._kind, self._place(), b""
        if not kind:
            return b""
        if kind == "reasoning":
            item = self._sealed_reasoning()
            out += self._event("response.reasoning_summary_text.done", **place, text=self._text)
            out += self._event("response.reasoning_summary_part.done", **place, part=_summary(self._text))
        elif kind == "message":
            item = {**_message("", self._text), "id": self._item_id}
            out += self._event("response.output_text.done", **place, text=self._text, logprobs=[])
            out += self._event("response.content_part.done", **place, part=_text_part(self._text))
        else:
            item = _function_call(self._tool["id"], self._tool["name"], self._text)
            where = {"item_id": self._item_id, "output_index": len(self._output), "name": self._tool["name"]}
            out += self._event("response.function_call_arguments.done", **where, arguments=self._text)
        out += self._event("response.output_item.done", output_index=len(self._output), item=item)
        self._output.append(item)
        self._kind = ""
        return out

    def _sealed_reasoning(self) -> Json:
        sealed = _merged(self._thinking_blocks) if _wants_sealed(self._request) else None
        self._thinking_blocks = []
        return {**_reasoning("", self._text, sealed), "id": self._item_id}

    def _place(self) -> Json:
        if not self._kind:
            return {}
        inner = "summary_index" if self._kind == "reasoning" else "content_index"
        return {"item_id": self._item_id, "output_index": len(self._output), inner: 0}

    def _event(self, kind: str, **members: Any) -> bytes:
        body = {"type": kind, "sequence_number": self._sequence, **members}
        self._sequence += 1
        return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps(body) + b"\n\n"


def _response(shaped: Json, request: Json, output: list[Json], finish_reason: str | None, found: Json | None) -> Json:
    """The response object; in progress when `finish_reason` is None."""
    reason = _INCOMPLETE.get(finish_reason or "")
    status = "in_progress" if finish_reason is None else "incomplete" if reason else "completed"
    reasoning = request.get("reasoning") or {}
    return {
        "id": "resp_" + _stem(shaped["id"]),
        "object": "response",
        "created_at": shaped["created"],
        "status": status,
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        "model": shaped["model"],
        "output": output,
        "previous_response_id": None,
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "store": False,
        "usage": usage(found),
        "metadata": {},
        **{key: request.get(key, default) for key, default in _ECHOED.items()},
    }


def _stem(chat_id: str) -> str:
    return chat_id.removeprefix("chatcmpl-").removeprefix("msg_")


def _item_id(kind: str, stem: str, number: int) -> str:
    prefix = {"reasoning": "rs_", "message": "msg_"}.get(kind)
    return f"{prefix}{stem}_{number}" if prefix else "fc_" + stem.removeprefix("call_").removeprefix("toolu_")


def _summary(text: str) -> Json:
    return {"type": "summary_text", "text": text}


def _text_part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _reasoning(stem: str, text: str, sealed: list[Json] | None) -> Json:
    item: Json = {"id": _item_id("reasoning", stem, 0), "type": "reasoning", "summary": [_summary(text)]}
    if sealed:
        item["encrypted_content"] = orjson.dumps(sealed).decode()
    return item


def _message(stem: str, text: str) -> Json:
    return {
        "id": _item_id("message", stem, 0),
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [_text_part(text)],
    }


def _function_call(call_id: str, name: str, arguments: str, status: str = "completed") -> Json:
    return {
        "id": _item_id("function_call", call_id, 0),
        "type": "function_call",
        "status": status,
        "arguments": arguments,
        "call_id": call_id,
        "name": name,
    }


def _wants_sealed(request: Json) -> bool:
    """Whether the caller asked for reasoning that it can send back, in the form that LiteLLM reads from a request."""
    return "reasoning.encrypted_content" in (request.get("include") or ())


def _merged(blocks: list[Json]) -> list[Json]:
    """Streamed pieces of thinking as whole blocks: a signature ends one."""
    merged: list[Json] = []
    for block in blocks:
        last = merged[-1] if merged else None
        if last is None or last.get("signature") or block.get("type") != "thinking" or last.get("type") != "thinking":
            merged.append(
                {**block, "thinking": block.get("thinking") or ""} if block.get("type") == "thinking" else block
            )
            continue
        last["thinking"] += block.get("thinking") or ""
        if block.get("signature"):
            last["signature"] = block["signature"]
    return merged
