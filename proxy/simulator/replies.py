"""The wire shapes of a simulator's answers, whole or as server-sent events, one class a dialect.

Theory of operation
-------------------
A reply is asked for its `opening`, then for each token, then for its `closing`; or, without streaming, for the `whole`.
Field names and event order are those of the OpenAI API reference (chat, completions, embeddings, responses) and of
Anthropic's Messages API. The text is the same sentence over and over, and says that it is simulated. A token's event is
put together from bytes prepared once a request, because the demo sends a thousand of them a second.
"""

from __future__ import annotations

from array import array
from base64 import b64encode
from sys import byteorder
from typing import Any, ClassVar, Protocol
from zlib import crc32

import orjson

from proxy.simulator.asks import CHAT, COMPLETIONS, COUNT_TOKENS, EMBEDDINGS, MESSAGES, RESPONSES, Ask

TOKENS = ("This", " is", " a", " simulated", " answer", ":", " no", " model", " was", " asked", ".", " ")
_JSON_TOKENS = tuple(orjson.dumps(token) for token in TOKENS)
_BLANK = "\0"
_DIMENSIONS = 64


def answer_text(tokens: int) -> str:
    """The first `tokens` tokens of what every simulator says."""
    return "".join(TOKENS) * (tokens // len(TOKENS)) + "".join(TOKENS[: tokens % len(TOKENS)])


class Reply(Protocol):
    """One answer in one dialect. `cut` says that it ends at the request's limit rather than by itself."""

    def opening(self) -> bytes:
        """Events before the first token."""
        ...

    def token(self, ordinal: int) -> bytes:
        """The event of the token with this number, counted from 0."""
        ...

    def closing(self, output_tokens: int, cut: bool) -> bytes:
        """Events after the last token."""
        ...

    def whole(self, output_tokens: int, cut: bool) -> bytes:
        """The answer as one JSON object."""
        ...


def reply_to(ask: Ask, reply_id: str, created: int) -> Reply:
    """The reply in the dialect of the ask's path. `created` is Unix time in seconds."""
    reply: Reply = _REPLIES[ask.path](ask, reply_id, created)
    return reply


class _TokenEvents:
    """Events that differ only in a token's text: what precedes it and what follows it."""

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before = before
        self._after = after

    def event(self, ordinal: int) -> bytes:
        return self._before + _JSON_TOKENS[ordinal % len(_JSON_TOKENS)] + self._after

    @classmethod
    def around(cls, event: bytes) -> _TokenEvents:
        """From a complete event that has `_BLANK` for the token's text."""
        before, after = event.split(orjson.dumps(_BLANK))
        return cls(before, after)


class _OpenAIReply:
    """What chat and legacy completions have in common: `data:` events ended by `[DONE]`."""

    object: ClassVar[str]
    chunk_object: ClassVar[str]

    def __init__(self, ask: Ask, reply_id: str, created: int) -> None:
        self._ask = ask
        self._head = {"id": reply_id, "object": self.chunk_object, "created": created, "model": ask.model}
        self._tokens = _TokenEvents.around(self._chunk(self._choice(_BLANK, None)))

    def opening(self) -> bytes:
        return b""

    def token(self, ordinal: int) -> bytes:
        return self._tokens.event(ordinal)

    def closing(self, output_tokens: int, cut: bool) -> bytes:
        events = self._chunk(self._choice("", _finish_reason(cut)))
        if self._ask.include_usage:
            events += _data({**self._head, "choices": [], "usage": _usage(self._ask.input_tokens, output_tokens)})
        return events + b"data: [DONE]\n\n"

    def whole(self, output_tokens: int, cut: bool) -> bytes:
        choice = self._whole_choice(answer_text(output_tokens), _finish_reason(cut))
        usage = _usage(self._ask.input_tokens, output_tokens)
        return orjson.dumps({**self._head, "object": self.object, "choices": [choice], "usage": usage})

    def _chunk(self, choice: dict[str, Any]) -> bytes:
        return _data({**self._head, "choices": [choice]})

    def _choice(self, text: str, finish_reason: str | None) -> dict[str, Any]:
        raise NotImplementedError

    def _whole_choice(self, text: str, finish_reason: str) -> dict[str, Any]:
        raise NotImplementedError


class _ChatReply(_OpenAIReply):
    """`/v1/chat/completions`."""

    object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def opening(self) -> bytes:
        delta = {"role": "assistant", "content": ""}
        return self._chunk({"index": 0, "delta": delta, "logprobs": None, "finish_reason": None})

    def _choice(self, text: str, finish_reason: str | None) -> dict[str, Any]:
        delta = {"content": text} if text else {}
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}

    def _whole_choice(self, text: str, finish_reason: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": text, "refusal": None}
        return {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}


class _CompletionReply(_OpenAIReply):
    """`/v1/completions`."""

    object = "text_completion"
    chunk_object = "text_completion"

    def _choice(self, text: str, finish_reason: str | None) -> dict[str, Any]:
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}

    _whole_choice = _choice


class _ResponsesReply:
    """`/v1/responses`: named events, numbered in sequence, the response object at both ends."""

    def __init__(self, ask: Ask, reply_id: str, created: int) -> None:
        self._ask = ask
        self._id = reply_id
        self._created = created
        self._sequence = 0
        self._item_id = f"msg_{reply_id}"
        self._place = {"item_id": self._item_id, "output_index": 0, "content_index": 0}
        delta = self._event("response.output_text.delta", {**self._place, "delta": _BLANK, "logprobs": []}, sequence=0)
        self._before, after = delta.split(b'"sequence_number":0')
        self._tokens = _TokenEvents.around(after)

    def opening(self) -> bytes:
        started = self._response("in_progress", [], None)
        item = self._item("in_progress", [])
        return (
            self._event("response.created", {"response": started})
            + self._event("response.in_progress", {"response": started})
            + self._event("response.output_item.added", {"output_index": 0, "item": item})
            + self._event("response.content_part.added", {**self._place, "part": _output_text("")})
        )

    def token(self, ordinal: int) -> bytes:
        number = self._sequence
        self._sequence += 1
        return b'%b"sequence_number":%d%b' % (self._before, number, self._tokens.event(ordinal))

    def closing(self, output_tokens: int, cut: bool) -> bytes:
        text = answer_text(output_tokens)
        item = self._item(_status(cut), [_output_text(text)])
        response = self._response(_status(cut), [item], output_tokens)
        return (
            self._event("response.output_text.done", {**self._place, "text": text, "logprobs": []})
            + self._event("response.content_part.done", {**self._place, "part": _output_text(text)})
            + self._event("response.output_item.done", {"output_index": 0, "item": item})
            + self._event(f"response.{_status(cut)}", {"response": response})
        )

    def whole(self, output_tokens: int, cut: bool) -> bytes:
        item = self._item(_status(cut), [_output_text(answer_text(output_tokens))])
        return orjson.dumps(self._response(_status(cut), [item], output_tokens))

    def _event(self, name: str, fields: dict[str, Any], sequence: int | None = None) -> bytes:
        if sequence is None:
            sequence = self._sequence
            self._sequence += 1
        return _named(name, {"type": name, "sequence_number": sequence, **fields})

    def _item(self, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self._item_id, "type": "message", "role": "assistant", "status": status, "content": content}

    def _response(self, status: str, output: list[dict[str, Any]], output_tokens: int | None) -> dict[str, Any]:
        usage = None if output_tokens is None else _long_usage(self._ask.input_tokens, output_tokens)
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": None,
            "max_output_tokens": self._ask.max_tokens,
            "metadata": {},
            "model": self._ask.model,
            "output": output,
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "usage": usage,
        }


class _MessageReply:
    """`/v1/messages`: Anthropic's named events."""

    def __init__(self, ask: Ask, reply_id: str, created: int) -> None:
        self._ask = ask
        self._id = reply_id
        delta = {"type": "text_delta", "text": _BLANK}
        self._tokens = _TokenEvents.around(self._event("content_block_delta", {"index": 0, "delta": delta}))

    def opening(self) -> bytes:
        block = {"type": "text", "text": ""}
        return (
            self._event("message_start", {"message": self._message([], None, 0)})
            + self._event("content_block_start", {"index": 0, "content_block": block})
            + self._event("ping", {})
        )

    def token(self, ordinal: int) -> bytes:
        return self._tokens.event(ordinal)

    def closing(self, output_tokens: int, cut: bool) -> bytes:
        delta = {"stop_reason": _stop_reason(cut), "stop_sequence": None}
        return (
            self._event("content_block_stop", {"index": 0})
            + self._event("message_delta", {"delta": delta, "usage": {"output_tokens": output_tokens}})
            + self._event("message_stop", {})
        )

    def whole(self, output_tokens: int, cut: bool) -> bytes:
        content = [{"type": "text", "text": answer_text(output_tokens)}]
        return orjson.dumps(self._message(content, _stop_reason(cut), output_tokens))

    def _event(self, name: str, fields: dict[str, Any]) -> bytes:
        return _named(name, {"type": name, **fields})

    def _message(self, content: list[dict[str, Any]], stop_reason: str | None, output_tokens: int) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._ask.model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "usage": {"input_tokens": self._ask.input_tokens, "output_tokens": output_tokens},
        }


class _WholeOnly:
    """A dialect without a stream."""

    def __init__(self, ask: Ask, reply_id: str, created: int) -> None:
        self._ask = ask

    def opening(self) -> bytes:
        return b""

    def token(self, ordinal: int) -> bytes:
        return b""

    def closing(self, output_tokens: int, cut: bool) -> bytes:
        return b""


class _EmbeddingReply(_WholeOnly):
    """`/v1/embeddings`: vectors that depend on the text alone."""

    def whole(self, output_tokens: int, cut: bool) -> bytes:
        data = [
            {"object": "embedding", "index": index, "embedding": self._embedding(text)}
            for index, text in enumerate(self._ask.inputs)
        ]
        usage = {"prompt_tokens": self._ask.input_tokens, "total_tokens": self._ask.input_tokens}
        return orjson.dumps({"object": "list", "data": data, "model": self._ask.model, "usage": usage})

    def _embedding(self, text: str) -> list[float] | str:
        seed = text.encode("utf-8", "surrogatepass")
        values = array("f", (crc32(seed, index) / 2**31 - 1.0 for index in range(_DIMENSIONS)))
        if not self._ask.base64:
            return values.tolist()
        if byteorder == "big":
            values.byteswap()  # the API's base64 form is little-endian
        return b64encode(values.tobytes()).decode("ascii")


class _TokenCountReply(_WholeOnly):
    """`/v1/messages/count_tokens`."""

    def whole(self, output_tokens: int, cut: bool) -> bytes:
        return orjson.dumps({"input_tokens": self._ask.input_tokens})


_REPLIES: dict[str, type[Any]] = {
    CHAT: _ChatReply,
    COMPLETIONS: _CompletionReply,
    EMBEDDINGS: _EmbeddingReply,
    RESPONSES: _ResponsesReply,
    MESSAGES: _MessageReply,
    COUNT_TOKENS: _TokenCountReply,
}


def _data(fields: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(fields)


def _named(name: str, fields: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode("ascii"), orjson.dumps(fields))


def _usage(input_tokens: int, output_tokens: int) -> dict[str, int]:
    total = input_tokens + output_tokens
    return {"prompt_tokens": input_tokens, "completion_tokens": output_tokens, "total_tokens": total}


def _long_usage(input_tokens: int, output_tokens: int) -> dict[str, Any]:
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input_tokens + output_tokens,
    }


def _output_text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _finish_reason(cut: bool) -> str:
    return "length" if cut else "stop"


def _status(cut: bool) -> str:
    return "incomplete" if cut else "completed"


def _stop_reason(cut: bool) -> str:
    return "max_tokens" if cut else "end_turn"
