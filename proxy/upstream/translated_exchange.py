"""One translated exchange from top to bottom. Imported at first use only: it needs LiteLLM's HTTP client.

Theory of operation
-------------------
The answer is announced when its first chunk is there, so that an error in the first event of a stream still arrives as
a status and the relay may go elsewhere. After that, an error reported by the provider becomes the protocol's own error
event, and everything else a failure.

A stream ends well only if the provider gave a finish reason: LiteLLM invents one where a stream breaks off, and a
usage where none was reported. Both are checked against what it kept of the provider's own chunks.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping
from typing import Any, Protocol

import httpx
import orjson

from proxy.policy.model import Endpoint
from proxy.routing.plan import Attempt
from proxy.upstream import translated_chat as chat
from proxy.upstream import translated_request as request
from proxy.upstream.base import Call, Head, RawHeaders
from proxy.upstream.errors import ConnectionBroken, ProtocolViolated, UpstreamError
from proxy.upstream.translated import Outlet
from proxy.upstream.translated_errors import Scrubber, error_event, error_in_stream, error_object, message_in
from proxy.upstream.translated_library import Library, load
from proxy.upstream.translated_messages import MessagesStream, message
from proxy.upstream.translated_request import Json
from proxy.upstream.translated_responses import ResponsesStream, response
from proxy.upstream.translated_wire import CURRENT, Refused, Wire, origin_of

_PASSED_ON = ("retry-after", "retry-after-ms", "x-ratelimit-", "anthropic-ratelimit-")
_WRAPPING = re.compile(r"^(?:(?:litellm\.)?\w+(?:Error|Exception)(?:: | - ))+")
_MISSING = re.compile(r"No module named|pip install")
_UNSUPPORTED = re.compile(r"does not support parameters: \[(.*?)\]")
_KEEPALIVE_S = 30.0


class Writer(Protocol):
    """Chat chunks in, the caller's protocol out."""

    def feed(self, shaped: Json) -> bytes:
        """The bytes for one chunk, if any."""
        ...

    def finish(self, last: Json, usage_found: Json | None) -> bytes:
        """The bytes for the end; `last` is the last chunk."""
        ...


class Engine:
    """LiteLLM and the connections below it, shared by all exchanges."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._transport = httpx.AsyncHTTPTransport(
            verify=ssl.create_default_context(),
            trust_env=False,
            retries=0,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=_KEEPALIVE_S),
        )

    @classmethod
    def load(cls) -> Engine:
        """Import LiteLLM; for a worker thread. Raises ImportError when it is not installed."""
        return cls(load())

    async def serve(self, attempt: Attempt, call: Call, outlet: Outlet) -> None:
        """Run one exchange; its end, good or bad, goes to the outlet."""
        target = attempt.target
        origin = origin_of(target.urls[attempt.replica]) if target.urls else None
        wire = Wire(self._transport, origin, target.timeouts, request.parameters_on_the_wire(target))
        outlet.on_abort = wire.close
        CURRENT.set(wire)
        self._library.quiet()
        translation = _Translation(self._library, wire, attempt, call, outlet)
        try:
            await translation.run()
            await wire.finish()
        except UpstreamError as error:
            outlet.fail(error)
        except Exception as error:  # noqa: BLE001  # LiteLLM raises anything: this is where it is mapped, once
            translation.explain(error)
        finally:
            wire.close()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.aclose()


class _Translation:
    """The steps of one exchange, by endpoint and with or without a stream."""

    def __init__(self, library: Library, wire: Wire, attempt: Attempt, call: Call, outlet: Outlet) -> None:
        self._library = library
        self._wire = wire
        self._attempt = attempt
        self._call = call
        self._outlet = outlet
        self._scrub = Scrubber(attempt.target).clean
        self._begun = False

    async def run(self) -> None:
        """Translate, send, answer. Raises `UpstreamError`, `Untranslatable`, and whatever LiteLLM raises."""
        call, connection = self._call, request.connection(self._attempt)
        body = request.read_body(call.endpoint, call.body)
        if call.endpoint is Endpoint.EMBEDDINGS:
            await self._embed(body, connection)
            return
        parameters, tool_names = self._chat_parameters(body, connection)
        if call.endpoint is Endpoint.COUNT_TOKENS:
            tokens = await asyncio.to_thread(self._library.count_tokens, connection["model"], parameters)
            self._answer(200, {"input_tokens": tokens})
            return
        known = self._library.known_parameters(connection["custom_llm_provider"], self._attempt.model)
        parameters = request.keep_known(parameters, known) | request.parameters_to_sign(self._attempt.target)
        reply = await self._library.chat(parameters, connection, stream=call.stream)
        if call.stream:
            await self._stream(reply, _writer(call.endpoint, body, tool_names))
            return
        shaped = chat.completion(reply.model_dump(exclude_none=True))
        self._answer(200, _whole(call.endpoint, body, tool_names, shaped))

    def explain(self, error: Exception) -> None:
        """Tell the relay what an exception of LiteLLM's means, from the wire rather than from its text."""
        wire = self._wire
        if wire.failure is not None:
            self._outlet.fail(wire.failure)
        elif wire.status is not None and 300 <= wire.status < 400:
            self._outlet.fail(ProtocolViolated(f"answered {wire.status}: redirects are not followed"))
        elif wire.status is not None and wire.status >= 400:
            self._refuse(wire.status, message_in(wire.error_body))
        elif wire.status is None:
            self._explain_unsent(error)
        elif self._call.stream and (found := error_in_stream(wire.error_body)) is not None:
            self._refuse(*found)
        elif self._call.stream and (status := _status(error)) is not None:
            self._refuse(status, _local_message(error))
        else:
            self._outlet.fail(ProtocolViolated(f"unreadable reply: {type(error).__name__}"))

    def _explain_unsent(self, error: Exception) -> None:
        """Nothing was sent: the request's fault, unless the policy's target is one that LiteLLM cannot reach."""
        refused = self._wire.refused
        if refused is Refused.FETCH or type(error).__name__ == "ImageFetchError":
            self._refuse(400, "content is not fetched by URL for this target; send it inline, as a data URL")
        elif _MISSING.search(str(error)):
            self._outlet.fail(ProtocolViolated("a package that litellm needs for this provider is not installed"))
        elif refused is not None:
            self._outlet.fail(ProtocolViolated(f"a request of litellm's was kept back: {refused.value}"))
        else:
            status = _status(error)
            status = status if status in (401, 403) else 400
            self._refuse(status, _local_message(error), getattr(error, "param", None))

    def _chat_parameters(self, body: Json, connection: Json) -> tuple[Json, Mapping[str, str]]:
        endpoint = self._call.endpoint
        names: Mapping[str, str] = {}
        if endpoint is Endpoint.COMPLETIONS:
            body = request.prompt_as_chat(body)
        elif endpoint is Endpoint.RESPONSES:
            request.function_tools(body)
            body = self._library.responses_to_chat(body, connection)
        elif endpoint in (Endpoint.MESSAGES, Endpoint.COUNT_TOKENS):
            body, names = self._library.messages_to_chat(body, connection)
        return request.chat_parameters(body), names

    async def _embed(self, body: Json, connection: Json) -> None:
        as_base64 = body.pop("encoding_format", "float") == "base64"
        body |= request.parameters_to_sign(self._attempt.target)
        reply = await self._library.embed(body, connection)
        self._answer(200, chat.embeddings(reply.model_dump(exclude_none=True), as_base64=as_base64))

    async def _stream(self, chunks: Any, writer: Writer) -> None:
        last: Json | None = None
        usage: Json | None = None
        async for piece in chunks:
            dump = piece.model_dump(exclude_none=True)
            usage = dump.get("usage") or usage
            shaped = chat.chunk(dump)
            if shaped is not None:
                last = shaped
                if _finished(shaped) and not _finished_by_provider(chunks):
                    raise ConnectionBroken("the stream ended without a finish reason")
                self._send(writer.feed(shaped))
            if not await self._outlet.flow():
                return
        if self._wire.failure is not None:
            raise self._wire.failure
        if last is None:
            raise ConnectionBroken("the stream held nothing")
        reported = chat.usage(usage) if usage is not None and _usage_by_provider(chunks) else None
        self._send(writer.finish(last, reported))
        self._outlet.end()

    def _send(self, data: bytes) -> None:
        if data and not self._begun:
            self._begun = True
            self._outlet.head(Head(200, [(b"content-type", b"text/event-stream; charset=utf-8"), *self._headers()]))
        self._outlet.data(data)

    def _refuse(self, status: int, text: str, param: str | None = None) -> None:
        text = self._scrub(text) or f"the provider answered {status}"
        if not self._begun:
            self._answer(status, error_object(self._call.endpoint, status, text, param))
            return
        self._outlet.data(error_event(self._call.endpoint, status, text))
        self._outlet.end()

    def _answer(self, status: int, body: Json) -> None:
        self._outlet.head(Head(status, [(b"content-type", b"application/json"), *self._headers()]))
        self._outlet.data(orjson.dumps(body))
        self._outlet.end()

    def _headers(self) -> RawHeaders:
        return [
            (name.encode("latin-1"), value.encode("latin-1", "replace"))
            for name, value in self._wire.headers.items()
            if name.startswith(_PASSED_ON)
        ]


def _writer(endpoint: Endpoint, body: Json, tool_names: Mapping[str, str]) -> Writer:
    if endpoint is Endpoint.MESSAGES:
        return MessagesStream(tool_names)
    if endpoint is Endpoint.RESPONSES:
        return ResponsesStream(body)
    return chat.TextStream() if endpoint is Endpoint.COMPLETIONS else chat.ChatStream()


def _whole(endpoint: Endpoint, body: Json, tool_names: Mapping[str, str], shaped: Json) -> Json:
    if endpoint is Endpoint.MESSAGES:
        return message(shaped, tool_names)
    if endpoint is Endpoint.RESPONSES:
        return response(shaped, body)
    return chat.text_completion(shaped) if endpoint is Endpoint.COMPLETIONS else shaped


def _finished(shaped: Json) -> bool:
    return any(choice["finish_reason"] for choice in shaped["choices"])


def _finished_by_provider(chunks: Any) -> bool:
    return bool(chunks.received_finish_reason or chunks.intermittent_finish_reason)


def _usage_by_provider(chunks: Any) -> bool:
    """Whether one of the provider's chunks had a usage: LiteLLM counts tokens by itself when none had."""
    return any(getattr(chunk, "usage", None) is not None for chunk in chunks.chunks)


def _status(error: BaseException) -> int | None:
    """The status that LiteLLM read from an error event, which it hides one exception deep.

    `APIConnectionError`, a 500, is what LiteLLM calls everything that it does not understand.
    """
    inner = getattr(error, "original_exception", None)
    if isinstance(inner, BaseException) and inner is not error:
        return _status(inner)
    if type(error).__name__ == "APIConnectionError":
        return None
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) and 400 <= status < 600 else None


def _local_message(error: Exception) -> str:
    """LiteLLM's text without its class names and its advice on LiteLLM."""
    text = str(error)
    unsupported = _UNSUPPORTED.search(text)
    if unsupported:
        return f"the target's provider does not support {unsupported.group(1)}"
    return _WRAPPING.sub("", text).partition("\n")[0].partition(" Original exception: ")[0]
