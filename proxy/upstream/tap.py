"""Watches a stream go by: first content, usage, errors and the proper end, in each of the four protocols.

Theory of operation
-------------------
Until the first *content* event every event is parsed, because nothing has been sent and another target may still be
tried. After it, blocks are only searched for a few byte patterns, and parsed when one is found. The patterns cannot be
forged by generated text: inside a JSON string a quote is escaped, so `"usage"` never appears unescaped in content.

A stream is complete when its protocol says so: `data: [DONE]` or a finish reason (chat, completions),
`response.completed|incomplete|failed` (Responses), `message_stop` (Messages). Anything else is a truncation, which the
OpenAI SDKs would take for success. What passed unread is looked back at, one block deep: the end of a stream that has
no `[DONE]` is in its last event, or in the one before its usage. Nothing follows a `[DONE]`.

Events that carry text are counted, for a stream that is cut before its usage comes. Those that carry none (the role,
the end, a comment) are left out of that count as far as they were parsed, or have a name that says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from proxy.policy.model import Endpoint
from proxy.routing.cost import tier_of
from proxy.routing.outcome import Usage
from proxy.upstream.sse import Event, encode, events
from proxy.upstream.usage import merge, read_usage

Json = dict[str, Any]

_FIELDS = (b"data:", b"event:")


class Tap:
    """The state of one stream. Feed it blocks of whole events; it gives back what the client should get.

    `usage` is what the upstream has reported so far, and `is_final` says that it was the report of the end. `tier` is
    the service tier that an event named before any usage was there.
    """

    __slots__ = (
        "_aside",
        "_last",
        "_protocol",
        "_strip_usage",
        "_waiting",
        "chunks",
        "content",
        "done",
        "error",
        "finished",
        "is_final",
        "tier",
        "usage",
    )

    def __init__(self, endpoint: Endpoint, *, usage_wanted: bool) -> None:
        self._protocol = _PROTOCOLS[endpoint]
        self._strip_usage = endpoint in _USAGE_IS_FORCED and not usage_wanted
        self._last = b""
        self._aside = 0
        self._waiting: Event | None = None
        self.content = False
        self.chunks = 0
        self.usage: Usage | None = None
        self.is_final = False
        self.tier = ""
        self.error: Json | None = None
        self.finished = False
        self.done = False

    @property
    def texts(self) -> int:
        """How many of the `chunks` carried text, as far as can be told without parsing them all."""
        return max(0, self.chunks - self._aside)

    def feed(self, block: bytes) -> bytes:
        """Look at a block of whole events and return the bytes to pass on."""
        if not block or self.done:
            return b""
        # Two line ends are one event of one line, the usual block; one byte is counted far faster than a pair.
        self.chunks += 1 if block.count(b"\n") == 2 else _events_in(block)
        if (
            not self.content
            or b'error"' in block
            or (b'"usage"' in block and _has_usage(block))
            or (self._strip_usage and (self._waiting is not None or b'_reason":"' in block))
            or block.endswith(b"[DONE]\n\n")
        ):
            return self._read(block)
        if block.startswith(_FIELDS) or any(events(block)):
            self._last = block
            if self._protocol is not _openai:
                self._aside += _textless(block)
        else:
            self._aside += _events_in(block)
        return block

    def close(self) -> bool:
        """The upstream has closed: whether the stream ended as its protocol demands."""
        self._look_back()
        return self.finished and self.error is None

    def flush(self) -> bytes:
        """What was still held back, for the end of a complete stream."""
        event, self._waiting = self._waiting, None
        tail = b"" if event is None else encode(event.data.encode(), event.name)
        if self._protocol is _openai and not self.done:
            # Some servers forget it; clients wait for it.
            tail += encode(b"[DONE]")
        return tail

    def _look_back(self) -> None:
        """Read the last block that passed unread: what it says of the end is needed after all."""
        aside = self._aside
        for event in events(self._last):
            self._note(event)
        if self._protocol is not _openai:
            self._aside = aside  # they were told apart by their names
        self._last = b""

    def _read(self, block: bytes) -> bytes:
        self._look_back()
        changed = self._waiting is not None
        passed: list[Event] = []
        self._aside += _events_in(block)
        for event in events(block):
            self._aside -= 1
            changed = self._event(event, passed) or changed
        if not changed and self._waiting is None and self.error is None:
            return block
        return b"".join([encode(event.data.encode(), event.name) for event in passed])

    def _event(self, event: Event, passed: list[Event]) -> bool:
        """Note what one event says and pass it on; True when it is not passed on as it came."""
        if self.done or self.error is not None:
            return True
        body = self._note(event)
        reported = body is not None and self._report(event, body)
        if self.error is not None or (reported and body is not None and self._strips(body)):
            return True
        self._release(passed)
        if self._strip_usage and body is not None and self._protocol(body)[2]:
            self._waiting = event
        else:
            passed.append(event)
        return False

    def _note(self, event: Event) -> Json | None:
        """Take down what one event says of content, end and errors; its body, if it is a JSON object."""
        if event.data == "[DONE]" and self._protocol is _openai:
            self.done = self.finished = True
            self._aside += 1
            return None
        body = _json_object(event.data)
        text = False
        if body is not None and self.error is None:
            self.error = _error_in(body)
            text, opens, finished = self._protocol(body) if self.error is None else (False, False, False)
            self.content = self.content or opens
            self.finished = self.finished or finished
            self.tier = self.tier or _tier_in(body)
        self._aside += not text
        return body

    def _release(self, passed: list[Event]) -> None:
        if self._waiting is not None:
            passed.append(self._waiting)
            self._waiting = None

    def _report(self, event: Event, body: Json) -> bool:
        """Read an event's usage, if it has one."""
        usage = read_usage(event.data) if '"usage"' in event.data else None
        if usage is None:
            return False
        self.usage = merge(self.usage, usage)
        self.is_final = self.finished or body.get("choices") == [] or body.get("type") in _LAST_REPORTS
        return True

    def _strips(self, body: Json) -> bool:
        """True for the usage chunk that is there only because we asked for it.

        vLLM moves `system_fingerprint` from the last choice to this chunk, so that it is put back where the client
        would have found it.
        """
        if not self._strip_usage or body.get("choices") != []:
            return False
        mark = body.get("system_fingerprint")
        waiting = self._waiting
        if mark is not None and waiting is not None and '"system_fingerprint"' not in waiting.data:
            spliced = f'{waiting.data.rstrip()[:-1]},"system_fingerprint":{orjson.dumps(mark).decode()}}}'
            self._waiting = Event(waiting.name, spliced)
        return True


def _json_object(data: str) -> Json | None:
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None


def _events_in(block: bytes) -> int:
    return block.count(b"\n\n") or block.count(b"\r\n\r\n") or block.count(b"\r\r")


def _textless(block: bytes) -> int:
    """How many events of a protocol that names its events are no deltas. No data ends a line with that word."""
    return _events_in(block) - block.count(b"delta\n") - block.count(b"delta\r") if b"event:" in block else 0


def _has_usage(block: bytes) -> bool:
    """OpenAI puts `"usage":null` in every chunk but the last once usage is asked for."""
    return block.count(b'"usage"') != block.count(b'"usage":null')


def _error_in(body: Json) -> Json | None:
    """The error object of an in-stream error: OpenAI's, vLLM's `{"object": "error"}`, Anthropic's, Responses'."""
    error = body.get("error")
    if error and isinstance(error, dict | str):
        return error if isinstance(error, dict) else {"message": error}
    if body.get("object") == "error" or body.get("type") == "error":
        return {key: body[key] for key in ("message", "type", "code", "param") if key in body}
    if body.get("type") != "response.failed":
        return None
    response = body.get("response")
    error = response.get("error") if isinstance(response, dict) else None
    return error if isinstance(error, dict) else {"message": "the response failed"}


_CHAT_CONTENT = ("content", "tool_calls", "reasoning", "reasoning_content", "refusal", "function_call", "audio")


def _tier_in(body: Json) -> str:
    """The service tier that an event names, of itself (chat) or of the response that it announces."""
    named, response = body.get("service_tier"), body.get("response")
    return tier_of(response.get("service_tier") if named is None and isinstance(response, dict) else named)


Says = tuple[bool, bool, bool]
"""Of one event: whether it carries text, commits us to the stream, and ends it."""


def _openai(body: Json) -> Says:
    """Chat and completions chunks."""
    text = finished = False
    choices = body.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if not isinstance(choice, dict):
            continue
        delta = choice.get("delta")
        text = text or bool(choice.get("text"))
        text = text or (isinstance(delta, dict) and any(delta.get(key) for key in _CHAT_CONTENT))
        finished = finished or choice.get("finish_reason") is not None
    return text, text or finished, finished


def _responses(body: Json) -> Says:
    kind = str(body.get("type", ""))
    text, finished = kind.endswith(".delta"), kind in {"response.completed", "response.incomplete"}
    return text, text or finished, finished


def _messages(body: Json) -> Says:
    kind = body.get("type")
    text, finished = kind == "content_block_delta", kind == "message_stop"
    return text, text or finished or kind == "message_delta", finished


_LAST_REPORTS = frozenset({"message_delta", "response.failed"})
"""Events whose usage is the report of the end, although the stream goes on or has failed."""

_PROTOCOLS: dict[Endpoint, Callable[[Json], Says]] = {
    Endpoint.CHAT: _openai,
    Endpoint.COMPLETIONS: _openai,
    Endpoint.EMBEDDINGS: _openai,
    Endpoint.RESPONSES: _responses,
    Endpoint.MESSAGES: _messages,
    Endpoint.COUNT_TOKENS: _messages,
}

_USAGE_IS_FORCED = frozenset({Endpoint.CHAT, Endpoint.COMPLETIONS})
