"""The wire's own decisions, over a transport that the test scripts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from proxy.policy.model import Timeouts
from proxy.routing.outcome import Failure
from proxy.upstream import translated_wire
from proxy.upstream.translated_wire import CURRENT, ClosedGate, Gate, Refused, Wire, origin_of

URL = "https://api.example/v1/messages"


class Body(httpx.AsyncByteStream):
    def __init__(self, *pieces: bytes | Exception) -> None:
        self._pieces = pieces
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def aclose(self) -> None:
        self.closed = True


class Network(httpx.AsyncBaseTransport):
    """Answers each request with the next of `answers`."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self._answers = list(answers)
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def reply(status: int = 200, *pieces: bytes | Exception, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.Response(status, headers=headers, stream=Body(*pieces))


def wire_to(*answers: httpx.Response | Exception, origin: str | None = URL) -> tuple[Wire, Network]:
    network = Network(*answers)
    return Wire(network, origin_of(origin) if origin else None, Timeouts(connect_s=3, idle_s=7)), network


def post(url: str = URL) -> httpx.Request:
    return httpx.Request("POST", url, headers={"accept-encoding": "gzip, br"})


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://API.example/v1", ("https", "api.example", 443)),
        ("http://h:80/x", ("http", "h", 80)),
        ("http://h:8000", ("http", "h", 8000)),
    ],
)
def test_origins_have_their_default_ports(url: str, origin: tuple[str, str, int]) -> None:
    assert origin_of(url) == origin


async def test_a_request_asks_for_plain_bytes_and_is_timed_by_the_policy() -> None:
    wire, network = wire_to(reply(200, b"{}"))
    await wire.send(post())
    (sent,) = network.requests
    assert sent.headers["accept-encoding"] == "identity"
    assert sent.extensions["timeout"] == {"connect": 3, "pool": 3, "write": 7, "read": None}
    assert (wire.sent, wire.status) == (1, 200)


@pytest.mark.parametrize(
    ("request_", "refused"),
    [
        (post("https://elsewhere.example/v1/messages"), Refused.ORIGIN),
        (post("http://api.example/v1/messages"), Refused.ORIGIN),
        (post("https://api.example:8443/v1/messages"), Refused.ORIGIN),
        (httpx.Request("GET", URL), Refused.FETCH),
    ],
)
async def test_only_posts_to_the_targets_origin_leave(request_: httpx.Request, refused: Refused) -> None:
    wire, network = wire_to(reply())
    with pytest.raises(httpx.NetworkError):
        await wire.send(request_)
    assert wire.refused is refused
    assert network.requests == []


async def test_without_a_url_in_the_policy_only_fetching_is_refused() -> None:
    wire, network = wire_to(reply(), origin=None)
    with pytest.raises(httpx.NetworkError):
        await wire.send(httpx.Request("GET", "http://169.254.169.254/latest/meta-data"))
    await wire.send(post("https://bedrock.example/model/x/invoke"))
    assert [request.method for request in network.requests] == ["POST"]


@pytest.mark.parametrize("first", [reply(429), reply(500), reply(503), reply(529), httpx.ConnectError("refused")])
async def test_nothing_is_sent_again_after_a_failure(first: httpx.Response | Exception) -> None:
    wire, network = wire_to(first, reply())
    for _ in range(2):
        try:
            await wire.send(post())
        except httpx.NetworkError:
            continue
    assert len(network.requests) == 1


async def test_a_refused_parameter_may_be_left_out_and_the_request_sent_again() -> None:
    wire, network = wire_to(reply(400), reply(200))
    assert (await wire.send(post())).status_code == 400
    assert (await wire.send(post())).status_code == 200
    assert len(network.requests) == 2


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (httpx.ConnectTimeout("slow"), Failure.CONNECT_TIMEOUT),
        (httpx.PoolTimeout("full"), Failure.CONNECT_TIMEOUT),
        (httpx.ConnectError("refused"), Failure.CONNECT),
        (httpx.ReadError("reset"), Failure.BROKEN),
        (httpx.WriteError("reset"), Failure.BROKEN),
        (httpx.RemoteProtocolError("Server disconnected without sending a response."), Failure.BROKEN),
        (httpx.RemoteProtocolError("illegal status line"), Failure.PROTOCOL),
    ],
)
async def test_every_failure_to_get_an_answer_has_its_name(error: Exception, failure: Failure) -> None:
    """LiteLLM sends again after `ConnectError` and `RemoteProtocolError`, so neither is what it gets to see."""
    wire, _ = wire_to(error)
    with pytest.raises(httpx.NetworkError) as raised:
        await wire.send(post())
    assert type(raised.value) is httpx.NetworkError
    assert wire.failure is not None
    assert wire.failure.failure is failure


async def test_a_body_that_breaks_off_is_noted() -> None:
    wire, _ = wire_to(reply(200, b"data: 1\n\n", httpx.RemoteProtocolError("peer closed connection")))
    response = await wire.send(post())
    with pytest.raises(httpx.ReadError):
        await response.aread()
    assert wire.failure is not None
    assert wire.failure.failure is Failure.BROKEN


async def test_redirects_and_cookies_never_reach_a_client() -> None:
    headers = {"location": "https://elsewhere.example/", "set-cookie": "a=b", "x-ratelimit-limit-requests": "9"}
    wire, _ = wire_to(reply(307, headers=headers))
    response = await wire.send(post())
    assert not response.has_redirect_location
    assert "set-cookie" not in response.headers
    assert wire.headers["x-ratelimit-limit-requests"] == "9"


async def test_a_compressed_reply_is_a_violation() -> None:
    wire, _ = wire_to(reply(200, b"\x1f\x8b", headers={"content-encoding": "gzip"}))
    with pytest.raises(httpx.NetworkError):
        await wire.send(post())
    assert wire.failure is not None
    assert wire.failure.failure is Failure.PROTOCOL


async def test_a_reply_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translated_wire, "MAX_REPLY_BYTES", 100)
    wire, _ = wire_to(reply(200, *[b"x" * 30] * 5))
    response = await wire.send(post())
    with pytest.raises(httpx.HTTPError):
        await response.aread()
    assert wire.failure is not None
    assert wire.failure.failure is Failure.PROTOCOL


async def test_error_bodies_are_kept_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translated_wire, "MAX_ERROR_BODY_BYTES", 10)
    wire, _ = wire_to(reply(400, b"12345678", b"90abc"))
    await (await wire.send(post())).aread()
    assert wire.error_body == b"1234567890"


async def test_the_event_that_reports_an_error_is_kept() -> None:
    bad = b'data: {"error":{"message":"no"}}\n\n'
    said = b'data: {"choices":[{"delta":{"content":"\\"error\\""}}]}\n\n'
    wire, _ = wire_to(reply(200, said, bad, said))
    await (await wire.send(post())).aread()
    assert wire.error_body == bad


async def test_closing_ends_a_read_in_progress_and_everything_after_it() -> None:
    endless = asyncio.Event()

    class Silent(Body):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"first"
            await endless.wait()

        async def aclose(self) -> None:
            endless.set()
            await super().aclose()

    body = Silent()
    wire, network = wire_to(httpx.Response(200, stream=body), reply())
    response = await wire.send(post())
    pieces = response.aiter_raw()
    assert await anext(pieces) == b"first"
    waiting = asyncio.ensure_future(anext(pieces))
    await asyncio.sleep(0)
    wire.close()
    wire.close()
    with pytest.raises(StopAsyncIteration):
        await waiting
    assert body.closed
    with pytest.raises(httpx.NetworkError):
        await wire.send(post())
    assert len(network.requests) == 1


async def test_closing_ends_a_request_that_litellm_made_in_a_task_of_its_own() -> None:
    class Stuck(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.Event().wait()
            raise AssertionError

    wire = Wire(Stuck(), None, Timeouts())
    task = asyncio.create_task(wire.send(post()))
    await asyncio.sleep(0)
    wire.close()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_outside_an_exchange_the_gate_is_shut() -> None:
    with pytest.raises(httpx.NetworkError):
        await Gate().handle_async_request(post())


async def test_the_gate_finds_the_exchange_it_works_for() -> None:
    wire, network = wire_to(reply(200, b"{}"))
    CURRENT.set(wire)
    async with httpx.AsyncClient(transport=Gate()) as client:
        assert (await client.post(URL)).json() == {}
    assert len(network.requests) == 1


def test_blocking_requests_never_leave() -> None:
    wire, network = wire_to()
    token = CURRENT.set(wire)
    with pytest.raises(httpx.NetworkError), httpx.Client(transport=ClosedGate()) as client:
        client.post(URL)
    CURRENT.reset(token)
    assert wire.refused is Refused.BLOCKING
    assert network.requests == []
