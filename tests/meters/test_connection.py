"""The client of the store: which connection a call gets, what ends one, and that nothing is asked twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from proxy.meters.connection import Client, connect
from proxy.meters.store_error import StoreRefused, StoreUnavailable, StoreUrlInvalid
from tests.meters.answering import answering
from tests.meters.conftest import PATIENCE_S, until

ONE = b":1\r\n"


@pytest.fixture
async def client(store_url: str) -> AsyncIterator[Client]:
    opened = connect(store_url, PATIENCE_S)
    yield opened
    await opened.aclose()


async def call(client: Client) -> object:
    return await client.eval("return 1", (), ())


async def test_a_script_gets_its_keys_and_arguments(client: Client) -> None:
    script = "return {KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3], {1}}"
    assert await client.eval(script, ["k", "\u00e4"], [b"\xff", "\u00e4", 7]) == [
        b"k",
        "\u00e4".encode(),
        b"\xff",
        "\u00e4".encode(),
        b"7",
        [1],
    ]


async def test_a_transaction_answers_in_order(client: Client, namespace: str) -> None:
    commands = [("HSET", namespace, "a", 1, "b", b"2"), ("HGETALL", namespace), ("ZRANGE", f"{namespace}z", 0, -1)]
    assert await client.transaction(commands) == [2, [b"a", b"1", b"b", b"2"], []]


async def test_a_large_answer_arrives_whole(client: Client) -> None:
    assert await client.eval("return string.rep('x', 5000000)", (), ()) == b"x" * 5_000_000


async def test_one_connection_serves_one_call_after_another() -> None:
    async with answering(ONE) as (server,):
        client = connect(f"redis://{server}")
        for _ in range(5):
            assert await call(client) == 1
        assert len(server.received) == 1
        await client.aclose()


async def test_calls_at_the_same_time_do_not_mix(client: Client) -> None:
    echo = "return ARGV[1]"
    answers = await asyncio.gather(*(client.eval(echo, (), [str(n)]) for n in range(50)))
    assert answers == [str(n).encode() for n in range(50)]


async def test_a_call_given_up_leaves_no_answer_for_the_next(client: Client) -> None:
    await call(client)
    busy = asyncio.create_task(client.eval("for i = 1, 10000000 do end return 'late'", (), ()))
    await asyncio.sleep(0)
    busy.cancel()
    with pytest.raises(asyncio.CancelledError):
        await busy
    assert await call(client) == 1


async def test_after_a_refusal_it_goes_on(client: Client) -> None:
    with pytest.raises(StoreRefused):
        await client.eval("return redis.call('NOSUCH')", (), ())
    assert await call(client) == 1


async def test_nothing_is_opened_before_the_first_call() -> None:
    async with answering(ONE) as (server,):
        client = connect(f"redis://{server}")
        assert server.received == []
        assert await call(client) == 1
        await client.aclose()
        assert await call(client) == 1
        assert len(server.received) == 2
        await client.aclose()


async def test_nothing_is_asked_twice() -> None:
    async with answering(b"-LOADING soon\r\n") as (server,):
        client = connect(f"redis://{server}")
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await call(client)
        assert [len(readings) for readings in server.received] == [1, 1, 1]


async def test_a_server_that_hung_up_meanwhile_is_not_asked_in_vain() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(ONE)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        client = connect(f"redis://{host}:{port}")
        for _ in range(3):
            assert await call(client) == 1
            (idle,) = client._opened._redis.connection_pool._available_connections  # type: ignore[union-attr]
            await until(idle._reader.at_eof)
        await client.aclose()


async def test_no_call_lasts_longer_than_was_said() -> None:
    async with answering(None) as (silent,):
        for url in (
            f"redis://{silent}",
            f"redis://:p@{silent}/1",
            f"redis+sentinel://{silent},{silent}/m",
            f"redis+cluster://{silent},{silent},{silent},{silent}",
        ):
            began = time.monotonic()
            client = connect(url, 0.4)
            with pytest.raises(StoreUnavailable, match="no answer from the"):
                await call(client)
            assert time.monotonic() - began < 4 * 0.4
            await client.aclose()


async def test_a_store_that_has_become_a_replica_is_not_read(client: Client, raw: Any) -> None:
    await client.transaction([("TIME",)])
    await raw.replicaof("127.0.0.1", 1)
    try:
        with pytest.raises(StoreUnavailable, match="READONLY it was a master, and is not any more"):
            await client.transaction([("TIME",)])
    finally:
        await raw.replicaof("NO", "ONE")
    await client.transaction([("TIME",)])


def test_a_url_that_cannot_be_one_is_told_at_once() -> None:
    with pytest.raises(StoreUrlInvalid, match="hint: `redis://"):
        connect("localhost:6379")
