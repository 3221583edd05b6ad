"""The real stack over raw sockets: framing that two servers could read differently, limits, deadlines, slow readers."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

import pytest
from proxy.api.server import ReceivingLimits
from proxy.policy.model import Tenant
from tests.harness import Proxy, Reply, dedicated, proxy, request_bytes, shared, snapshot_of
from tests.scripted import CHAT_REPLY, STREAM_HEAD, chat_events, chat_stream, chunked, reply, scripted
from tests.wire import wire

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
STREAM = {**ASK, "stream": True}
BODY = json.dumps(ASK).encode()
PATHS = pytest.mark.parametrize("path", [CHAT, MESSAGES])


def shaped(got: Reply, path: str) -> None:
    """An error is JSON in the protocol of the path's callers, says which request it was, and is never a 500."""
    assert got.status < 500 or got.status == 503, got
    assert got.headers["content-type"] == "application/json", got
    assert got.headers["x-request-id"]
    assert got.complete
    if path.startswith(MESSAGES):
        assert got.json["type"] == "error"
        assert set(got.json["error"]) == {"type", "message"}
    else:
        assert set(got.json["error"]) == {"message", "type", "param", "code"}


def ask(
    path: str,
    *lines: str,
    body: bytes = BODY,
    line: str = "",
    host: str | None = "host: t",
    kind: str = "application/json",
) -> bytes:
    """A request of exactly these header lines; a length is added unless one of them frames the body."""
    fields = [*([host] if host else []), f"content-type: {kind}", *lines]
    if not any(one.lower().startswith(("content-length", "transfer-encoding")) for one in lines):
        fields.append(f"content-length: {len(body)}")
    return "\r\n".join([line or f"POST {path} HTTP/1.1", *fields]).encode("latin-1") + b"\r\n\r\n" + body


@dataclass
class Probe:
    """What is sent, and the status that it gets."""

    status: int
    lines: tuple[str, ...] = ()
    body: bytes = BODY
    version: str = "1.1"
    host: str | None = "host: t"
    kind: str = "application/json"


CHUNKED = chunked(BODY) + b"0\r\n\r\n"
PROBES = {
    "length and chunked": Probe(400, ("content-length: 5", "transfer-encoding: chunked"), CHUNKED),
    "two lengths": Probe(400, (f"content-length: {len(BODY)}", f"content-length: {len(BODY)}")),
    "a list of lengths": Probe(400, (f"content-length: {len(BODY)}, {len(BODY)}",)),
    "a negative length": Probe(400, ("content-length: -1",)),
    "a length in words": Probe(400, ("content-length: ten",)),
    "a bad chunk size": Probe(400, ("transfer-encoding: chunked",), b"0x3\r\nabc\r\n0\r\n\r\n"),
    "a bad chunk end": Probe(400, ("transfer-encoding: chunked",), b"3\r\nabcX\r\n0\r\n\r\n"),
    "two encodings of transfer": Probe(400, ("transfer-encoding: chunked", "transfer-encoding: chunked"), CHUNKED),
    "chunked on HTTP/1.0": Probe(400, ("transfer-encoding: chunked",), CHUNKED, version="1.0"),
    "no host": Probe(400, host=None),
    "two hosts": Probe(400, ("host: other",)),
    "two keys": Probe(400, ("authorization: Bearer a", "authorization: Bearer b")),
    "a folded header": Probe(400, ("x-a: b\r\n c",)),
    "a space before the colon": Probe(400, ("x-a : b",)),
    "a header of control characters": Probe(400, ("x-a: b\x01\x00c",)),
    "a header without a colon": Probe(400, ("nonsense",)),
    "a header of 100 KB": Probe(431, (f"x-a: {'b' * 100_000}",)),
    "a header of 20 KB": Probe(431, (f"x-a: {'b' * 20_000}",)),
    "10,000 headers": Probe(431, tuple(f"x-{n}: b" for n in range(10_000))),
    "101 headers": Probe(431, tuple(f"x-{n}: b" for n in range(101))),
    "a key of 1 MB": Probe(431, (f"authorization: Bearer {'k' * 1_000_000}",)),
    "a declared body over the limit": Probe(413, ("content-length: 99999999",)),
    "a length beyond 64 bits": Probe(400, ("content-length: 99999999999999999999999",)),
    "a compressed body": Probe(415, ("content-encoding: gzip",)),
    "a form": Probe(415, kind="application/x-www-form-urlencoded"),
    "no JSON": Probe(400, body=b"hello"),
    "an empty body": Probe(400, body=b""),
    "no body": Probe(400, ("content-length: 0",), b""),
    "NaN": Probe(400, body=b'{"model":"m","temperature":NaN}'),
    "a repeated member": Probe(400, body=b'{"model":"m","model":"n"}'),
    "deep nesting": Probe(400, body=b'{"model":"m","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "UTF-16": Probe(400, body=json.dumps(ASK).encode("utf-16")),
    "no model": Probe(400, body=b"{}"),
    "a model that is a number": Probe(400, body=b'{"model":7}'),
    "a model nobody has": Probe(404, body=b'{"model":"none"}'),
    "stream as a word": Probe(400, body=b'{"model":"m","stream":"yes"}'),
    "stream options as a word": Probe(400, body=b'{"model":"m","stream":true,"stream_options":"usage"}'),
    "a lane nobody has": Probe(400, ("x-spillway-lane: fast",)),
    "an expectation of continuing with a bad key": Probe(401, ("expect: 100-continue", "authorization: Bearer no")),
}


@PATHS
@pytest.mark.parametrize("name", PROBES)
async def test_whatever_is_refused_is_refused_in_the_callers_protocol(name: str, path: str) -> None:
    """The connection is good for another request afterwards, or closed in order."""
    probe = PROBES[name]
    key = () if any(one.startswith("authorization") for one in probe.lines) else ("authorization: Bearer sk-t",)
    async with scripted([reply(CHAT_REPLY)]) as up:
        policy = snapshot_of(dedicated("gpu", up.url), t=Tenant(name="t"))
        async with proxy(policy, max_body_bytes=1 << 20) as spillway, wire(spillway.port) as client:
            line = f"POST {path} HTTP/{probe.version}"
            lines = (*key, *probe.lines)
            await client.send(ask(path, *lines, body=probe.body, line=line, host=probe.host, kind=probe.kind))
            got = await client.reply()
            if name == "a declared body over the limit":
                await client.send(b"x" * (99999999 - len(BODY)))
            await client.still_good()
            assert (await spillway.get("/healthz")).status == 200
    assert got.status == probe.status
    shaped(got, path)
    assert up.requests == []


async def test_a_chunked_body_over_the_limit_is_refused_while_it_comes() -> None:
    async with scripted([reply(CHAT_REPLY)]) as up:
        async with proxy(snapshot_of(dedicated("gpu", up.url)), max_body_bytes=1000) as spillway:
            async with wire(spillway.port) as client:
                await client.send(ask(CHAT, "transfer-encoding: chunked", body=chunked(b" " * 600)))
                await client.send(chunked(b" " * 600))
                got = await client.reply()
                await client.send(chunked(b" " * 600) + b"0\r\n\r\n")
                good = await client.still_good()
    assert (got.status, good) == (413, True)
    shaped(got, CHAT)


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\r\n\x00"]
)
async def test_what_is_not_http_is_told_so(garbage: bytes) -> None:
    async with proxy(snapshot_of(dedicated("gpu", "http://127.0.0.1:1/v1"))) as spillway, wire(spillway.port) as client:
        await client.send(garbage)
        got = await client.reply()
        assert await client.rest() == b""
    assert got.status == 400
    assert got.headers["connection"] == "close"
    shaped(got, CHAT)


@PATHS
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "HEAD", "PROPFIND"])
async def test_a_wrong_method_is_refused(method: str, path: str) -> None:
    async with proxy(snapshot_of(dedicated("gpu", "http://127.0.0.1:1/v1"))) as spillway, wire(spillway.port) as client:
        await client.send(ask(path, line=f"{method} {path} HTTP/1.1", body=b""))
        if method == "HEAD":
            head = await client.until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 405")
            assert b"x-request-id: " in head
            assert await client.still_good()
            return
        got = await client.reply()
        await client.still_good()
    assert got.status == 405
    assert got.headers["allow"] == "POST"
    shaped(got, path)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/v1%2fchat%2fcompletions", 404),
        ("/v1/../v1/chat/completions", 404),
        ("/v1/%2e%2e/v1/chat/completions", 404),
        ("//v1/chat/completions", 404),
        ("/v1/chat/completions/", 404),
        ("/v1/chat/completions%00", 404),
        ("/V1/chat/completions", 404),
        ("/v1/audio/speech", 404),
        ("/admin/meters", 404),
        ("/metrics", 404),
        ("/", 404),
        ("/%ff%fe", 404),
        ("/v1/messages/batches", 404),
        ("/v1/chat/completions?x=1", 200),
        ("http://elsewhere.example/v1/chat/completions", 200),
    ],
)
async def test_only_the_very_path_is_served(target: str, status: int) -> None:
    async with scripted([reply(CHAT_REPLY)]) as up, proxy(snapshot_of(dedicated("gpu", up.url))) as spillway:
        async with wire(spillway.port) as client:
            await client.send(ask(target))
            got = await client.reply()
            assert await client.still_good()
    assert got.status == status, got
    assert len(up.requests) == (status == 200)
    if status != 200:
        shaped(got, target)
        assert "location" not in got.headers


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with (
        scripted([reply(CHAT_REPLY)], [chat_stream("a")]) as up,
        proxy(snapshot_of(dedicated("gpu", up.url))) as spillway,
    ):
        async with wire(spillway.port) as client:
            stream = json.dumps(STREAM).encode()
            await client.send(ask(CHAT) + ask(CHAT, body=stream) + ask("/nowhere") + ask(CHAT, body=b"{") + ask(CHAT))
            statuses = [(await client.reply()).status for _ in range(5)]
            good = await client.still_good()
    assert (statuses, good) == ([200, 200, 404, 400, 200], True)


async def test_a_malformed_request_behind_a_good_one_does_not_answer_for_it() -> None:
    async with scripted([reply(CHAT_REPLY)]) as up, proxy(snapshot_of(dedicated("gpu", up.url))) as spillway:
        async with wire(spillway.port) as client:
            await client.send(ask(CHAT) + b"nonsense\r\n\r\n")
            said = await client.rest()
    assert said.count(b"HTTP/1.1") <= 1
    assert not said.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("asked", [ASK, STREAM], ids=["whole", "stream"])
async def test_http_1_0_is_answered_in_its_own_framing(asked: dict[str, object]) -> None:
    """It knows no chunks: the end of the connection is the end of the body."""
    script = chat_stream("a") if "stream" in asked else reply(CHAT_REPLY)
    async with scripted([script]) as up, proxy(snapshot_of(dedicated("gpu", up.url))) as spillway:
        async with wire(spillway.port) as client:
            await client.send(ask(CHAT, line=f"POST {CHAT} HTTP/1.0", body=json.dumps(asked).encode()))
            head = await client.until(b"\r\n\r\n")
            body = await client.rest()
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    if "stream" in asked:
        assert body.startswith(b"data: ")
        assert body.endswith(b"data: [DONE]\n\n")
    else:
        assert json.loads(body) == CHAT_REPLY


async def test_a_client_that_asks_before_it_sends_is_told_to_go_on() -> None:
    async with scripted([reply(CHAT_REPLY)]) as up, proxy(snapshot_of(dedicated("gpu", up.url))) as spillway:
        async with wire(spillway.port) as client:
            await client.send(ask(CHAT, "expect: 100-continue", f"content-length: {len(BODY)}", body=b""))
            assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await client.send(BODY)
            got = await client.reply()
            assert await client.still_good()
    assert got.json == CHAT_REPLY


async def test_a_client_that_offers_http_2_is_served_in_http_1() -> None:
    """Java's and curl's do, with every request of a connection."""
    offer = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQAoAAAAAIAAAAA")
    async with scripted([reply(CHAT_REPLY)]) as up, proxy(snapshot_of(dedicated("gpu", up.url))) as spillway:
        async with wire(spillway.port) as client:
            await client.send(ask(CHAT, *offer))
            first = await client.reply()
            again = ask(CHAT, *offer, "transfer-encoding: chunked", body=CHUNKED)
            for at in range(0, len(again), 40):
                await client.send(again[at : at + 40])
                await asyncio.sleep(0)
            second = await client.reply()
            assert await client.still_good()
    assert first.json == second.json == CHAT_REPLY
    assert [json.loads(request.body)["messages"] for request in up.requests] == [ASK["messages"]] * 2


async def test_a_tunnel_is_not_opened() -> None:
    async with proxy(snapshot_of(dedicated("gpu", "http://127.0.0.1:1/v1"))) as spillway, wire(spillway.port) as client:
        await client.send(b"CONNECT elsewhere.example:443 HTTP/1.1\r\nhost: elsewhere.example\r\n\r\n")
        got = await client.reply()
        assert await client.rest() == b""
    assert got.status == 400
    shaped(got, CHAT)


async def test_a_web_socket_is_not_opened() -> None:
    offer = ("connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13", "sec-websocket-key: eA==")
    async with proxy(snapshot_of(dedicated("gpu", "http://127.0.0.1:1/v1"))) as spillway, wire(spillway.port) as client:
        await client.send(ask("/v1/realtime", *offer, line="GET /v1/realtime HTTP/1.1", body=b""))
        got = await client.reply()
    assert got.status == 404
    shaped(got, CHAT)


# deadlines

QUICK = ReceivingLimits(head_s=0.2, body_bytes_per_s=1000, stalled_s=0.3)


@pytest.mark.parametrize("said", [b"", b"PO", b"POST /v1/messages HTTP/1.1\r\nhost: t\r\nx-", ask(MESSAGES)[:-3]])
async def test_a_request_that_does_not_arrive_is_given_up(said: bytes) -> None:
    async with proxy(snapshot_of(dedicated("gpu", "http://127.0.0.1:1/v1")), limits=QUICK) as spillway:
        async with wire(spillway.port) as client:
            await client.send(said)
            got = await client.reply()
            assert await client.rest() == b""
    assert got.status == 408
    shaped(got, MESSAGES if b"messages" in said else CHAT)


async def test_a_trickle_of_headers_is_given_up() -> None:
    async with proxy(snapshot_of(dedicated("gpu", "http://127.0.0.1:1/v1")), limits=QUICK) as spillway:
        async with wire(spillway.port) as client:
            await client.send(b"POST /v1/chat/completions HTTP/1.1\r\n")

            async def trickle() -> None:
                while True:
                    await client.send(b"x-a: b\r\n")
                    await asyncio.sleep(0.02)

            trickling = asyncio.create_task(trickle())
            got = await client.reply()
            trickling.cancel()
    assert got.status == 408


async def test_a_request_answered_before_its_body_came_is_not_answered_twice() -> None:
    policy = snapshot_of(dedicated("gpu", "http://127.0.0.1:1/v1"), t=Tenant(name="t"))
    async with proxy(policy, limits=QUICK) as spillway, wire(spillway.port) as client:
        await client.send(ask(CHAT, f"content-length: {len(BODY)}", body=b""))
        got = await client.reply()
        after = await client.rest()
    assert got.status == 401
    assert after == b""


async def test_waiting_for_the_answer_is_not_slowness() -> None:
    later = asyncio.Event()
    async with scripted([later, reply(CHAT_REPLY)]) as up:
        async with (
            proxy(snapshot_of(dedicated("gpu", up.url)), limits=QUICK) as spillway,
            wire(spillway.port) as client,
        ):
            await client.send(ask(CHAT))
            await up.arrived.get()
            asyncio.get_running_loop().call_later(2.5 * QUICK.head_s, later.set)
            got = await client.reply()
    assert got.status == 200


# slow readers

PIECE = chunked(chat_events("x" * 60_000)[1])
PIECES = 2_000
"""About 120 MB: far more than the sockets' buffers on the way hold together."""


async def sent_until_it_stalls(up_bytes: list[int]) -> int:
    """How many bytes the upstream could send before nothing moved any more."""
    while True:
        before = up_bytes[0]
        await asyncio.sleep(0.25)
        if up_bytes[0] == before:
            return before


async def test_a_reader_that_stalls_pauses_its_upstream_and_is_cut_and_charged_for() -> None:
    """Beside it a client that reads is served as ever."""
    progress = [0]
    closed = asyncio.Event()
    answering: list[asyncio.Task[None] | None] = []

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.append(asyncio.current_task())
        try:
            if b"flood" not in await reader.readuntil(b"\r\n\r\n"):
                writer.write(chat_stream("quick"))
                await reader.read()
                return
            writer.write(STREAM_HEAD + chunked(chat_events()[0]))
            for _ in range(PIECES):
                writer.write(PIECE)
                progress[0] += len(PIECE)
                await writer.drain()
        except ConnectionError:
            closed.set()
        finally:
            writer.close()

    server = await asyncio.start_server(flood, "127.0.0.1", 0)
    target = shared("api", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
    async with server, proxy(snapshot_of(target), limits=ReceivingLimits(stalled_s=1.5)) as spillway:
        async with wire(spillway.port, 16 * 1024, listen=False) as stalled:
            await stalled.send(ask(CHAT, "x-request-id: flood", body=json.dumps(STREAM).encode()))
            stuck_at = await sent_until_it_stalls(progress)
            beside = await spillway.post(CHAT, STREAM)
            held = spillway.spillway.data.in_flight
            async with asyncio.timeout(10):
                await closed.wait()
        await settled(spillway)
        assert spillway.counted("abandoned") == 1
        metrics = (await spillway.get("/metrics", admin=True)).body.decode()
    await asyncio.gather(*[task for task in answering if task is not None])
    assert 0 < stuck_at < 20_000_000
    assert held == 1
    assert beside.events[-1] == "[DONE]"
    assert 'spillway_client_disconnects_total{phase="stream"} 1.0' in metrics


async def settled(spillway: Proxy) -> None:
    async with asyncio.timeout(5):
        while spillway.spillway.data.in_flight:
            await asyncio.sleep(0.01)


async def test_a_slow_reader_gets_every_byte() -> None:
    texts = [f"{n}-" + "x" * 20_000 for n in range(100)]
    wanted = b"".join(chat_events(*texts))
    body = json.dumps({**STREAM, "stream_options": {"include_usage": True}}).encode()
    async with scripted([chat_stream(*texts)]) as up, proxy(snapshot_of(dedicated("gpu", up.url))) as spillway:
        reader, writer = await asyncio.open_connection("127.0.0.1", spillway.port, limit=4096)
        writer.write(request_bytes("POST", CHAT, body))
        await reader.readuntil(b"\r\n\r\n")
        got = b""
        while len(got) < len(wanted):
            size = int(await reader.readuntil(b"\r\n"), 16)
            await asyncio.sleep(0)
            got += (await reader.readexactly(size + 2))[:-2]
        writer.close()
    assert got == wanted
