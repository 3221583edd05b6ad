"""What the engine and the provider share: the front door, and an answer that grows token by token.

Theory of operation
-------------------
`Front` understands requests and hands each good one to its subclass as an `Answer`. The subclass accepts or refuses it,
says from time to time how many tokens there are by now, and is told when the client leaves; dialect, streaming and
bookkeeping are the answer's own affair. Every reply names the simulator in its `server` header; ids begin with `sim-`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from time import time
from types import TracebackType
from typing import Any, Self

import msgspec
import orjson

from proxy import __version__
from proxy.simulator.asks import COUNT_TOKENS, EMBEDDINGS, MESSAGES, PATHS, Ask, Problem, read_ask
from proxy.simulator.httpd import Exchange, Headers, HttpServer, Request
from proxy.simulator.ledger import Entry, Ledger
from proxy.simulator.replies import reply_to

_JSON = "application/json"
_EVENTS = "text/event-stream; charset=utf-8"

NATURAL_ANSWER_TOKENS = 200
"""Where a simulator stops by itself, unless told otherwise: close to the mean answer of the Azure 2023 chat trace."""


class Answer:
    """One request being answered. After the client has left, or the end, everything here does nothing."""

    def __init__(self, ask: Ask, exchange: Exchange, ledger: Ledger, entry: Entry, natural_tokens: int) -> None:
        self.ask = ask
        self.entry = entry
        self.answer_tokens = 0 if ask.path in {EMBEDDINGS, COUNT_TOKENS} else ask.answer_tokens(natural_tokens)
        self.on_leave: Callable[[], None] | None = None
        self.cut = self.answer_tokens == ask.max_tokens
        self._exchange = exchange
        self._ledger = ledger
        self._reply = reply_to(ask, entry.reply_id, int(time()))
        self._headers: Headers = ()
        self._spoken = 0
        exchange.on_leave = self._left

    def accept(self, headers: Headers = ()) -> None:
        """It will be answered, with these headers; the prompt is charged."""
        self._ledger.accept(self.entry, self.ask.input_tokens)
        self._headers = headers

    def refuse(self, problem: Problem, headers: Headers = ()) -> None:
        """It will not be answered."""
        self._ledger.end(self.entry, problem.status)
        self._exchange.reply(problem.status, _JSON, error_body(self.ask.path, problem), headers)

    def speak(self, tokens: int) -> None:
        """There are `tokens` tokens by now; the last one ends the answer."""
        if not self._exchange.open or tokens <= self._spoken:
            return
        self._ledger.emit(self.entry, tokens)
        events = self._events(tokens) if self.ask.stream else b""
        self._spoken = tokens
        self._exchange.send(events)
        if tokens == self.answer_tokens:
            self.finish()

    def finish(self) -> None:
        """The answer is complete."""
        if not self._exchange.open:
            return
        self._ledger.end(self.entry, 200)
        if self.ask.stream:
            self._exchange.end()
        else:
            self._exchange.reply(200, _JSON, self._reply.whole(self._spoken, self.cut), self._headers)

    def _events(self, tokens: int) -> bytes:
        events = b""
        if not self._spoken:
            self._exchange.start(200, _EVENTS, self._headers)
            events = self._reply.opening()
        events += b"".join(map(self._reply.token, range(self._spoken, tokens)))
        return events + self._reply.closing(tokens, self.cut) if tokens == self.answer_tokens else events

    def _left(self) -> None:
        self._ledger.leave(self.entry)
        if self.on_leave is not None:
            self.on_leave()


class Front(ABC):
    """A simulated upstream on a port of its own, while its context is entered.

    `ledger` is the truth about every request; `GET /simulator/ledger` gives it as JSON, `/simulator/totals` its sums.
    """

    def __init__(
        self, kind: str, *, model: str, host: str, port: int, api_key: str | None, natural_tokens: int, ledger: Ledger
    ) -> None:
        self.model = model
        self.ledger = ledger
        self._kind = kind
        self._authorization = None if api_key is None else f"Bearer {api_key}"
        self._natural_tokens = natural_tokens
        self._serial = 0
        self._started = int(time())
        self._server = HttpServer(self._handle, name=f"spillway-{kind}-simulator/{__version__}", host=host, port=port)

    @property
    def url(self) -> str:
        """The OpenAI base URL, `http://host:port/v1`."""
        return f"{self._server.url}/v1"

    @property
    def port(self) -> int:
        """The port listened on."""
        return self._server.port

    @property
    def open_connections(self) -> int:
        """Connections that peers hold open, idle ones included."""
        return len(self._server.connections)

    @property
    def open_requests(self) -> int:
        """Requests that are being answered, or wait for it."""
        return self.ledger.open

    async def __aenter__(self) -> Self:
        await self._server.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.__aexit__(kind, error, trace)

    @abstractmethod
    def answer(self, answer: Answer, serial: int) -> None:
        """Accept or refuse the request, and see to it that it is answered; `serial` is unique."""

    def page(self, path: str) -> tuple[str, bytes] | None:
        """Content type and body of another GET path, None when there is none."""
        return None

    def _handle(self, request: Request, exchange: Exchange) -> None:
        if request.path in PATHS:
            self._post(request, exchange)
        else:
            self._get(request, exchange)

    def _get(self, request: Request, exchange: Exchange) -> None:
        page = self._page(request.path)
        if page is None:
            self._problem(exchange, request.path, Problem(status=404, message=f"no such path: `{request.path}`"))
        elif request.method != "GET":
            self._problem(exchange, request.path, Problem(status=405, message="only GET is answered here"))
        else:
            exchange.reply(200, page[0], page[1])

    def _page(self, path: str) -> tuple[str, bytes] | None:
        card = {"id": self.model, "object": "model", "created": self._started, "owned_by": f"spillway-{self._kind}"}
        match path:
            case "/v1/models":
                return _JSON, orjson.dumps({"object": "list", "data": [card]})
            case "/simulator/ledger":
                return _JSON, msgspec.json.encode({"totals": self.ledger.totals, "entries": list(self.ledger.entries)})
            case "/simulator/totals":
                return _JSON, msgspec.json.encode(self.ledger.totals)
        return (_JSON, orjson.dumps(card)) if path == f"/v1/models/{self.model}" else self.page(path)

    def _post(self, request: Request, exchange: Exchange) -> None:
        if request.method != "POST":
            return self._problem(exchange, request.path, Problem(status=405, message="only POST is answered here"))
        if self._authorization is not None and not self._authorized(request.headers):
            return self._problem(
                exchange, request.path, Problem(status=401, message="wrong API key", code="invalid_api_key")
            )
        ask = read_ask(request.path, request.body)
        if isinstance(ask, Problem):
            return self._problem(exchange, request.path, ask)
        if not ask.model:
            ask = msgspec.structs.replace(ask, model=self.model)
        self._serial += 1
        reply_id = f"sim-{self._kind}-{self._serial}"
        entry = self.ledger.arrive(ask, reply_id, request.headers.get("x-request-id", ""))
        answer = Answer(ask, exchange, self.ledger, entry, self._natural_tokens)
        if ask.model != self.model:
            message = f"The model `{ask.model}` does not exist."
            return answer.refuse(Problem(status=404, message=message, code="model_not_found", param="model"))
        if ask.path == COUNT_TOKENS:
            answer.accept()
            return answer.finish()
        return self.answer(answer, self._serial)

    def _authorized(self, headers: dict[str, str]) -> bool:
        given = headers.get("authorization") or f"Bearer {headers.get('x-api-key', '')}"
        return given == self._authorization

    def _problem(self, exchange: Exchange, path: str, problem: Problem) -> None:
        exchange.reply(problem.status, _JSON, error_body(path, problem))


_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}
_OPENAI_TYPES = {400: "BadRequestError", 404: "NotFoundError", 503: "Service Unavailable"}


def error_body(path: str, problem: Problem) -> bytes:
    """The error in the dialect of `path`: Anthropic's below `/v1/messages`, elsewhere OpenAI's with vLLM's types.

    vLLM's `code` is the status as a number (vllm 0.32, `entrypoints/serve/exception_handling/error_response.py`).
    """
    error: dict[str, Any] = {"message": problem.message}
    if path.startswith(MESSAGES):
        error["type"] = problem.type or _ANTHROPIC_TYPES.get(problem.status, "api_error")
        return orjson.dumps({"type": "error", "error": error})
    error["type"] = problem.type or _OPENAI_TYPES.get(problem.status, "invalid_request_error")
    error["param"] = problem.param
    error["code"] = problem.code or problem.status
    return orjson.dumps({"error": error})
