"""What is sent to an upstream, to the byte; and that nothing is sent in clear that should not be."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.policy.model import Endpoint, Secret, Target, Timeouts
from proxy.routing.plan import Attempt, Cause
from proxy.upstream.base import Call, RawHeaders
from proxy.upstream.errors import ConnectFailed
from proxy.upstream.passthrough import PATHS, Passthrough
from proxy.upstream.pool import Pool
from tests.harness import dedicated, shared
from tests.scripted import CHAT_REPLY, HOLD, ScriptedUpstream, reply, scripted
from tests.upstream.transcript import Transcript

CERTIFICATE = Path(__file__).with_name("localhost.pem")
"""Self-signed, for the name `localhost`, with its key; good for nothing but these tests."""


def attempt(target: Target, model: str = "up", replica: int = 0) -> Attempt:
    return Attempt(target=target, replica=replica, model=model, ordinal=0, cause=Cause.PREFERRED, reason="x")


def call(
    body: bytes, endpoint: Endpoint = Endpoint.CHAT, headers: RawHeaders | None = None, *, usage_wanted: bool = False
) -> Call:
    members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    return Call(
        request_id="r",
        endpoint=endpoint,
        body=members,
        headers=headers or [],
        stream=bytes(members.get("stream", b"")) == b"true",
        usage_wanted=usage_wanted,
    )


class Sent:
    """Where a request would have gone, and its bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.origins: list[tuple[str, int, bool]] = []
        self.requests: list[bytes] = []
        self.pools: list[Pool] = []

        def exchange(pool: Pool, data: bytes, sink: Any) -> None:
            origin = pool._origin
            self.origins.append((origin.host, origin.port, origin.tls is not None))
            self.requests.append(data)
            self.pools.append(pool)

        monkeypatch.setattr(Pool, "exchange", exchange)

    def of(self, target: Target, request: Call, **more: Any) -> bytes:
        Passthrough().open(attempt(target, **more), request, Transcript())
        return self.requests[-1]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    return Sent(monkeypatch)


GPU = dedicated("gpu", "http://gpu.internal:8000/v1")


def body_of(request: bytes) -> bytes:
    head, _, body = request.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head.split(b"\r\n")
    return body


# the request


def test_a_request_is_exactly_these_bytes(sent: Sent) -> None:
    request = call(b'{ "model" : "m", "n": 1 }', headers=[(b"user-agent", b"x/1"), (b"x-request-id", b"r")])
    assert sent.of(GPU, request) == (
        b"POST /v1/chat/completions HTTP/1.1\r\n"
        b"host: gpu.internal:8000\r\n"
        b"content-type: application/json\r\n"
        b"accept-encoding: identity\r\n"
        b"user-agent: x/1\r\n"
        b"x-request-id: r\r\n"
        b"content-length: 20\r\n"
        b"\r\n"
        b'{"model":"up","n":1}'
    )


ODD = (
    b'{"a":1.0e+2,"b": "\\u00e9\\/\xc3\xa9\\ud83d\\ude00" ,"c":{"model":"inner","x":[ 1,  2 ]},'
    b'"d":12345678901234567890123.10}'
)


def test_members_that_nobody_knows_pass_to_the_byte(sent: Sent) -> None:
    body = body_of(sent.of(GPU, call(ODD[:-1] + b',"model":"m"}')))
    for value in (
        b"1.0e+2",
        b'"\\u00e9\\/\xc3\xa9\\ud83d\\ude00"',
        b'{"model":"inner","x":[ 1,  2 ]}',
        b"12345678901234567890123.10",
    ):
        assert b":" + value in body


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=5),
    ),
    st.text(),
)
def test_only_the_model_changes(members: dict[str, Any], model: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        sent = Sent(patch)
        request = call(json.dumps({**members, "model": "m"}).encode())
        body = json.loads(body_of(sent.of(GPU, request, model=model)))
    members.pop("stream_options", None)
    body.pop("stream_options", None)
    assert body == {**members, "model": model}


def test_a_model_named_twice_means_one_thing_to_everybody(sent: Sent) -> None:
    body = body_of(sent.of(GPU, call(b'{"model":"m","model":"other","mod\\u0065l":"third"}')))
    assert body == b'{"model":"up"}'


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (b"", b'{"include_usage":true}'),
        (b"null", b'{"include_usage":true}'),
        (b"{}", b'{"include_usage":true}'),
        (b'{"include_usage":false}', b'{"include_usage":true}'),
        (b'{"include_usage":null}', b'{"include_usage":true}'),
        (b'{"include_usage":true}', b'{"include_usage":true}'),
        (b'{"x": 1.50, "include_usage":true}', b'{"x":1.50,"include_usage":true}'),
        (b'{"continuous_usage_stats":true}', b'{"include_usage":true}'),
        (b'{"include_usage":false,"continuous_usage_stats":true}', b'{"include_usage":true}'),
        (
            b'{"include_usage":true,"continuous_usage_stats":true}',
            b'{"include_usage":true,"continuous_usage_stats":true}',
        ),
    ],
)
@pytest.mark.parametrize("endpoint", [Endpoint.CHAT, Endpoint.COMPLETIONS])
def test_usage_is_always_asked_for_and_nothing_else_switched_on(
    given: bytes, expected: bytes, endpoint: Endpoint, sent: Sent
) -> None:
    options = b',"stream_options":' + given if given else b""
    request = call(b'{"model":"m","stream":true' + options + b"}", endpoint)
    assert body_of(sent.of(GPU, request)) == b'{"model":"up","stream":true,"stream_options":' + expected + b"}"


@pytest.mark.parametrize("endpoint", [Endpoint.RESPONSES, Endpoint.MESSAGES, Endpoint.EMBEDDINGS])
def test_protocols_without_stream_options_get_none(endpoint: Endpoint, sent: Sent) -> None:
    assert body_of(sent.of(GPU, call(b'{"model":"m","stream":true}', endpoint))) == b'{"model":"up","stream":true}'


def test_a_reply_in_one_piece_has_its_usage_anyway(sent: Sent) -> None:
    assert body_of(sent.of(GPU, call(b'{"model":"m","stream":false}'))) == b'{"model":"up","stream":false}'


@pytest.mark.parametrize("endpoint", list(Endpoint))
@pytest.mark.parametrize("base", ["/v1", "", "/", "/openai/v1/", "/a%20b"])
def test_operations_are_below_the_base_url(endpoint: Endpoint, base: str, sent: Sent) -> None:
    target = dedicated("gpu", f"http://gpu.internal{base}")
    line = sent.of(target, call(b'{"model":"m"}', endpoint)).partition(b"\r\n")[0].decode()
    assert line == f"POST {base.rstrip('/')}{PATHS[endpoint]} HTTP/1.1"


@pytest.mark.parametrize(
    ("url", "origin", "host"),
    [
        ("http://gpu.internal/v1", ("gpu.internal", 80, False), "gpu.internal"),
        ("http://gpu.internal:8000/v1", ("gpu.internal", 8000, False), "gpu.internal:8000"),
        ("https://api.example.com/v1", ("api.example.com", 443, True), "api.example.com"),
        ("https://api.example.com:8443/v1", ("api.example.com", 8443, True), "api.example.com:8443"),
        ("http://[fd00::1]:8000/v1", ("fd00::1", 8000, False), "[fd00::1]:8000"),
        ("https://[2001:db8::1]/v1", ("2001:db8::1", 443, True), "[2001:db8::1]"),
        ("http://GPU.internal/v1", ("gpu.internal", 80, False), "GPU.internal"),
    ],
)
def test_the_host_header_names_what_is_connected_to(
    url: str, origin: tuple[str, int, bool], host: str, sent: Sent
) -> None:
    request = sent.of(dedicated("gpu", url), call(b'{"model":"m"}'))
    assert sent.origins == [origin]
    assert f"\r\nhost: {host}\r\n".encode() in request


def test_each_replica_has_its_own_origin(sent: Sent) -> None:
    target = dedicated("gpu", "http://a/v1", "http://b/v1")
    for replica in (0, 1):
        sent.of(target, call(b'{"model":"m"}'), replica=replica)
    assert [origin[0] for origin in sent.origins] == ["a", "b"]


# credentials


def test_a_key_goes_out_as_its_provider_wants_it(sent: Sent) -> None:
    openai = shared("api", "https://api.example.com/v1", provider="openai", api_key=Secret("sk-1"))
    assert b"\r\nauthorization: Bearer sk-1\r\n" in sent.of(openai, call(b'{"model":"m"}'))
    anthropic = replace(openai, provider="anthropic")
    request = sent.of(anthropic, call(b'{"model":"m"}', Endpoint.MESSAGES))
    assert b"\r\nx-api-key: sk-1\r\n" in request
    assert b"authorization" not in request


def test_a_target_without_a_key_gets_none(sent: Sent) -> None:
    for provider in (None, "anthropic"):
        request = sent.of(dedicated("gpu", "http://x/v1", provider=provider), call(b'{"model":"m"}'))
        assert b"authorization" not in request
        assert b"x-api-key" not in request


def test_a_targets_key_reaches_no_other_target(sent: Sent) -> None:
    passthrough = Passthrough()
    with_key = shared("api", "http://same.internal/v1", api_key=Secret("sk-1"))
    for target in (with_key, shared("other", "http://same.internal/v1")):
        passthrough.open(attempt(target), call(b'{"model":"m"}'), Transcript())
    assert [b"sk-1" in request for request in sent.requests] == [True, False]
    assert sent.pools[0] is not sent.pools[1]


# a new policy


def test_a_reload_keeps_the_connections_and_takes_the_new_key_and_times(sent: Sent) -> None:
    passthrough = Passthrough()
    old = shared("api", "http://x/v1", api_key=Secret("sk-old"))
    new = replace(old, api_key=Secret("sk-new"), timeouts=Timeouts(connect_s=0.5))
    for target in (old, new):
        passthrough.open(attempt(target), call(b'{"model":"m"}'), Transcript())
    assert b"sk-new" in sent.requests[1]
    assert b"sk-old" not in sent.requests[1]
    assert sent.pools[0] is sent.pools[1]
    assert sent.pools[1].connect_s == 0.5


# over real sockets


async def exchanged(passthrough: Passthrough, target: Target, replica: int = 0) -> Transcript:
    sink = Transcript()
    passthrough.open(attempt(target, replica=replica), call(b'{"model":"m"}'), sink)
    await sink.finished()
    return sink


@contextlib.asynccontextmanager
async def passing() -> AsyncIterator[Passthrough]:
    passthrough = Passthrough()
    try:
        yield passthrough
    finally:
        await passthrough.aclose()


async def test_an_upstream_on_ipv6() -> None:
    upstream = ScriptedUpstream([[reply(CHAT_REPLY)]])
    try:
        server = await asyncio.start_server(upstream.serve, "::1", 0)
    except OSError:
        pytest.skip("no ipv6 here")
    port = server.sockets[0].getsockname()[1]
    async with server, passing() as passthrough:
        sink = await exchanged(passthrough, dedicated("gpu", f"http://[::1]:{port}/v1"))
    assert sink.status == 200
    assert upstream.requests[0].headers["host"] == f"[::1]:{port}"


async def test_redirects_are_answers_and_are_not_followed() -> None:
    async with scripted([reply(CHAT_REPLY)]) as elsewhere, passing() as passthrough:
        moved = reply({}, "307 Temporary Redirect", f"location: {elsewhere.url}/chat/completions")
        async with scripted([moved]) as up:
            sink = await exchanged(passthrough, dedicated("gpu", up.url))
    assert sink.status == 307
    assert elsewhere.requests == []


async def test_closing_closes_every_connection() -> None:
    async with scripted([reply(CHAT_REPLY)]) as up:
        async with passing() as passthrough:
            await exchanged(passthrough, dedicated("gpu", up.url))
        async with passing() as another:
            await exchanged(another, dedicated("gpu", up.url))
    assert up.connections == 2


@contextlib.asynccontextmanager
async def tls_upstream() -> AsyncIterator[tuple[ScriptedUpstream, int]]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    upstream = ScriptedUpstream([[reply(CHAT_REPLY)]])
    listener = socket.create_server(("127.0.0.1", 0))
    server = await asyncio.start_server(upstream.serve, sock=listener, ssl=context)
    async with server:
        yield upstream, listener.getsockname()[1]


KEYED = {"api_key": Secret("sk-canary")}


async def test_an_upstream_that_no_authority_vouches_for_gets_nothing() -> None:
    async with tls_upstream() as (upstream, port), passing() as passthrough:
        sink = await exchanged(passthrough, shared("api", f"https://localhost:{port}/v1", **KEYED))
    assert isinstance(sink.error, ConnectFailed)
    assert sink.error.detail == "SSLCertVerificationError"
    assert upstream.requests == []


async def test_an_upstream_that_is_vouched_for_is_spoken_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    async with tls_upstream() as (upstream, port), passing() as passthrough:
        target = shared("api", f"https://localhost:{port}/v1", **KEYED)
        first, second = await exchanged(passthrough, target), await exchanged(passthrough, target)
    assert first.steps[-1] == second.steps[-1] == "end"
    assert upstream.requests[0].headers["authorization"] == "Bearer sk-canary"
    assert upstream.connections == 1


async def test_a_certificate_for_another_name_is_not_good_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    async with tls_upstream() as (upstream, port), passing() as passthrough:
        sink = await exchanged(passthrough, shared("api", f"https://127.0.0.1:{port}/v1", **KEYED))
    assert isinstance(sink.error, ConnectFailed)
    assert upstream.requests == []


async def test_https_to_a_port_that_speaks_none_sends_nothing_in_clear() -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.put_nowait(await reader.read(65_536))
        writer.write(reply(CHAT_REPLY))
        heard.put_nowait(await reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, passing() as passthrough:
        sink = await exchanged(passthrough, shared("api", f"https://localhost:{port}/v1", **KEYED))
        said = [await asyncio.wait_for(heard.get(), 5) for _ in range(2)]
    assert isinstance(sink.error, ConnectFailed)
    assert said[0].startswith(b"\x16\x03")
    assert b"sk-canary" not in b"".join(said)
    assert b"POST" not in b"".join(said)


# another policy


async def test_connections_outlive_the_policy_that_named_them_wherever_their_url_stands() -> None:
    async with scripted([reply(CHAT_REPLY)]) as one, scripted([reply(CHAT_REPLY)]) as two, passing() as upstream:
        before, after = dedicated("gpu", one.url, two.url), dedicated("gpu", two.url)
        await exchanged(upstream, before, replica=1)
        upstream.adopt([after])
        await exchanged(upstream, after)
        await exchanged(upstream, after)
    assert (two.connections, len(two.requests)) == (1, 3)


async def test_idle_connections_to_what_is_named_no_more_are_closed() -> None:
    async with scripted([reply(CHAT_REPLY), HOLD]) as one, scripted([reply(CHAT_REPLY)]) as two:
        async with passing() as upstream:
            await exchanged(upstream, dedicated("gpu", one.url))
            upstream.adopt([dedicated("gpu", two.url)])
            await asyncio.wait_for(one.closed_at.get(), 5)


async def test_requests_of_the_policy_before_still_get_there_and_leave_no_connection() -> None:
    async with scripted([reply(CHAT_REPLY), HOLD]) as up, passing() as upstream:
        removed = dedicated("gpu", up.url)
        upstream.adopt([])
        for _ in range(2):
            await exchanged(upstream, removed)
            await asyncio.wait_for(up.closed_at.get(), 5)
    assert up.connections == 2


async def test_what_returns_is_kept_again() -> None:
    async with scripted([reply(CHAT_REPLY)]) as up, passing() as upstream:
        target = dedicated("gpu", up.url)
        await exchanged(upstream, target)
        upstream.adopt([])
        upstream.adopt([target])
        for _ in range(3):
            await exchanged(upstream, target)
    assert up.connections == 2


async def test_policies_that_come_and_go_leave_nothing_behind() -> None:
    async with scripted([reply(CHAT_REPLY)]) as up, passing() as upstream:
        for number in range(20):
            target = dedicated(f"gpu-{number}", up.url)
            upstream.adopt([target])
            await exchanged(upstream, target)
        assert len(upstream._doors) == 1
