"""A caller and a network that answer at once, within the call: what is left is what the proxy itself does.

A coroutine that meets nobody it has to wait for ends in its first step. `served` takes that step, so it also proves
that nothing on the way was awaited: not the store, not a lock, not the next turn of the event loop.
"""

from __future__ import annotations

import time

import msgspec
import orjson
from proxy.caller import FixedHeaders
from proxy.forward import Forward
from proxy.policy.model import Endpoint
from proxy.relay import Relay
from proxy.routing.decide import Router
from proxy.routing.facts import Facts
from proxy.routing.plan import Attempt, Refusal
from proxy.upstream.base import Call, Head, RawHeaders, Sink

EVENTS = 100
INPUT_TOKENS, OUTPUT_TOKENS = 200, 140

_USAGE = {"prompt_tokens": INPUT_TOKENS, "completion_tokens": OUTPUT_TOKENS, "total_tokens": 340}
_MESSAGE = {"role": "assistant", "content": "x" * 640}
_CHOICE = {"index": 0, "message": _MESSAGE, "logprobs": None, "finish_reason": "stop"}
REPLY = orjson.dumps({"id": "chatcmpl-1", "object": "chat.completion", "choices": [_CHOICE], "usage": _USAGE})


def event(text: str | None, **more: object) -> bytes:
    """One event of a stream; without text it ends the choice."""
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": "stop" if text is None else None}
    body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": [choice]}
    return b"data: " + orjson.dumps({**body, **more}) + b"\n\n"


STREAM = (*(event(f" tok{n}") for n in range(EVENTS)), event(None), event(None, choices=[], usage=_USAGE))
DONE = b"data: [DONE]\n\n"


class Caller:
    """Takes everything, and keeps what it needs for the tests."""

    def __init__(self) -> None:
        self.listener: Forward | None = None
        self.started = self.left = self.ended = False
        self.headers: FixedHeaders = ()
        self.refused: Refusal | None = None

    def start(self, status: int, headers: RawHeaders, fixed: FixedHeaders = ()) -> None:
        self.started = True
        self.headers = fixed

    def write(self, data: bytes) -> bool:
        return True

    def end(self, data: bytes = b"") -> None:
        self.ended = True

    def ping(self) -> None: ...

    def refuse(self, refusal: Refusal) -> None:
        self.refused = refusal


class Exchange:
    """The handle on an exchange that is over."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def abort(self, closed: object = None) -> None: ...


class Network:
    """Every target answers, with a stream to whoever asks for one."""

    _EXCHANGE = Exchange()
    _DOCUMENT = Head(200, [(b"content-type", b"application/json")])
    _EVENTS = Head(200, [(b"content-type", b"text/event-stream")])

    def of(self, attempt: Attempt, call: Call) -> Network:
        return self

    def open(self, attempt: Attempt, call: Call, sink: Sink) -> Exchange:
        if call.stream:
            sink.on_head(self._EVENTS)
            for block in STREAM:
                sink.on_data(block)
            sink.on_data(DONE)
        else:
            sink.on_head(self._DOCUMENT)
            sink.on_data(REPLY)
        sink.on_end()
        return self._EXCHANGE

    async def aclose(self) -> None: ...


class Waited(Exception):
    """The proxy waited for something on the path of a request."""


def call_of(facts: Facts) -> Call:
    """The request behind `facts`, as an upstream gets it."""
    body = {"model": msgspec.Raw(b'"m"'), "messages": msgspec.Raw(b"[]")}
    return Call(request_id="r", endpoint=Endpoint.CHAT, body=body, headers=[], stream=facts.stream)


def served(relay: Relay, router: Router, facts: Facts, call: Call, caller: Caller) -> float:
    """Serve one request and say how many seconds that took. Raises Waited."""
    coroutine = relay.serve(router, facts, call, caller, time.monotonic())
    begun = time.perf_counter()
    try:
        coroutine.send(None)
    except StopIteration:
        return time.perf_counter() - begun
    coroutine.close()
    raise Waited
