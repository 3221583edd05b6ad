"""Which server redis-py is made to talk to, and how it logs in. The rest is in `tests/redis`, on real servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from proxy.meters.redis_client import Clustered, Direct, open_client
from proxy.meters.store_error import StoreError, StoreRefused, StoreUnavailable
from proxy.meters.store_url import Server, parse_store_url
from redis.crc import key_slot
from tests.meters.answering import answering

ONE, TWO, BROKEN = b":1\r\n", b":2\r\n", b"-ERR broken\r\n"
NOWHERE = Server("127.0.0.1", 1)
TIMEOUT_S = 5.0


def bulk(*words: str) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w.encode()), w.encode()) for w in words)


def master(server: Server, epoch: int, flags: str = "master") -> bytes:
    """What a sentinel says of a master."""
    return bulk("name", "m", "ip", server.host, "port", str(server.port), "flags", flags, "config-epoch", str(epoch),
                "num-other-sentinels", "2")  # fmt: skip


def table(port: int) -> bytes:
    """A cluster whose slots are all on one port."""
    return b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n" % port


def node(port: Callable[[], int], answer: bytes = ONE) -> Callable[[bytes], bytes]:
    """A node of such a cluster; its answer to a script may name that `PORT`."""

    def answered(said: bytes) -> bytes:
        if b"SLOTS" in said:
            return table(port())
        return b"*0\r\n" if b"COMMAND" in said else answer.replace(b"PORT", b"%d" % port())

    return answered


async def call(client: Direct | Clustered) -> object:
    return await client.eval("return 1", ["k"], [])


async def reached(url: str, timeout_s: float = TIMEOUT_S) -> object:
    """What the server says to which a URL leads."""
    client = open_client(parse_store_url(url), timeout_s)
    try:
        return await call(client)
    finally:
        await client.aclose()


async def failure(url: str, timeout_s: float = TIMEOUT_S) -> StoreError:
    with pytest.raises(StoreError) as raised:
        await reached(url, timeout_s)
    return raised.value


async def elected(*votes: tuple[int, int, str] | bytes | None) -> object:
    """What is reached when each sentinel names a server (0 or 1), an epoch and flags, or gives another answer."""
    async with answering(ONE, TWO) as servers:
        answers = [master(servers[v[0]], v[1], v[2]) if isinstance(v, tuple) else v for v in votes]
        async with answering(*answers) as sentinels:
            return await reached(f"redis+sentinel://{','.join(map(str, sentinels))}/m", 1.0)


async def test_the_latest_failover_is_believed() -> None:
    assert await elected((0, 3, "master"), (1, 4, "master"), (0, 3, "master")) == 2
    assert await elected((0, 4, "s_down,master"), (1, 4, "master")) == 2


async def test_a_master_that_those_who_know_see_down_is_none() -> None:
    with pytest.raises(StoreUnavailable, match="see no master `m` that is up"):
        await elected((0, 3, "master"), (1, 4, "master,o_down,s_down"))


async def test_the_only_sentinel_that_answers_is_believed() -> None:
    assert await elected(None, BROKEN, (1, 1, "master")) == 2


async def test_sentinels_that_know_no_such_master() -> None:
    with pytest.raises(StoreRefused, match="know no master by the name of `m`"):
        await elected(None, b"-ERR No such master with that name\r\n")


async def test_a_refusal_of_sentinels_is_told_before_an_absence() -> None:
    with pytest.raises(StoreRefused, match="refused by the sentinels: NOAUTH"):
        await elected(None, b"-NOAUTH Authentication required.\r\n")


async def test_sentinels_that_are_not_there() -> None:
    said = await failure(f"redis+sentinel://{NOWHERE},{NOWHERE}/m")
    assert str(said) == "no connection to the sentinels: Connection refused"


async def test_the_master_is_asked_for_again_when_it_has_become_a_replica() -> None:
    named: list[Server] = []
    async with answering(b"-READONLY You can't write\r\n", TWO) as (former, present):
        async with answering(lambda _: master(named[-1], 1)) as (sentinel,):
            client = open_client(parse_store_url(f"redis+sentinel://{sentinel}/m"), TIMEOUT_S)
            named.append(former)
            with pytest.raises(StoreUnavailable, match="is a replica"):
                await call(client)
            named.append(present)
            assert await call(client) == 2
            await client.aclose()


async def test_a_node_that_says_moved_is_followed_within_the_call() -> None:
    async with answering(TWO) as (owner,):
        moved = b"-MOVED %d %s\r\n" % (key_slot(b"k"), str(owner).encode())
        async with answering(node(lambda: former.port, moved)) as (former,):
            client = open_client(parse_store_url(f"redis+cluster://{former}"), TIMEOUT_S)
            assert [await call(client), await call(client)] == [2, 2]
            assert len(owner.received) == 1
            await client.aclose()


async def test_a_node_that_sends_one_back_to_itself() -> None:
    async with answering(node(lambda: here.port, b"-MOVED 1 127.0.0.1:PORT\r\n")) as (here,):
        assert isinstance(await failure(f"redis+cluster://{here}"), StoreUnavailable)


async def test_keys_on_their_way_to_a_node_that_is_not_known_yet() -> None:
    async with answering(node(lambda: one.port, b"-ASK 1 127.0.0.1:1\r\n")) as (one,):
        said = await failure(f"redis+cluster://{one}")
    assert isinstance(said, StoreUnavailable)
    assert "to a new node" in str(said)


async def test_when_no_known_node_answers_those_of_the_url_are_asked_again() -> None:
    ports: list[int] = []
    former, present, seed = (node(lambda: ports[-1], answer) for answer in (ONE, TWO, BROKEN))
    async with answering(lambda said: former(said) if len(ports) == 1 else b"", present, seed) as (one, two, named):
        client = open_client(parse_store_url(f"redis+cluster://{named}"), TIMEOUT_S)
        ports.append(one.port)
        assert await call(client) == 1
        ports.append(two.port)
        for _ in range(2):  # once on the connection that there was, once looking for a node
            with pytest.raises(StoreUnavailable):
                await call(client)
        assert await call(client) == 2
        await client.aclose()


async def test_a_cluster_that_nobody_answers_for() -> None:
    async with answering(b"-ERR This instance has cluster support disabled\r\n") as (server,):
        said = await failure(f"redis+cluster://{server}")
    assert isinstance(said, StoreRefused)
    assert "cluster support disabled" in str(said)
    assert isinstance(await failure(f"redis+cluster://{NOWHERE}"), StoreUnavailable)


async def test_nothing_is_said_but_the_login_and_the_script() -> None:
    async with answering(b"+OK\r\n") as (server,):
        await reached(f"redis://user:pass@{server}/3")
    (readings,) = server.received
    said = b"".join(readings)
    assert said.startswith(bulk("AUTH", "user", "pass") + bulk("SELECT", "3") + b"*4\r\n$4\r\nEVAL\r\n")
    assert said.count(b"\r\n*") == 2


async def test_a_password_file_is_read_for_each_connection(tmp_path: Path) -> None:
    file = tmp_path / "password"
    async with answering(b"+OK\r\n") as (server,):
        for password in ("one", "two"):
            file.write_text(f"{password}\n")
            await reached(f"redis://{server}?password_file={file}")
            await reached(f"redis://me@{server}?password_file={file}")
    assert [readings[0] for readings in server.received] == [
        bulk(*words) for words in (("AUTH", "one"), ("AUTH", "me", "one"), ("AUTH", "two"), ("AUTH", "me", "two"))
    ]


async def test_a_password_file_that_cannot_be_read(tmp_path: Path) -> None:
    async with answering(b"+OK\r\n") as (server,):
        client = open_client(parse_store_url(f"redis://{server}?password_file={tmp_path / 'gone'}"), TIMEOUT_S)
        for _ in range(2):  # never without the login
            with pytest.raises(StoreRefused, match=r"password file `.*gone` cannot be read: No such file"):
                await call(client)
        await client.aclose()
    assert [readings for readings in server.received if readings] == []


@pytest.mark.parametrize("name", ["ca", "cert"])
def test_certificates_that_cannot_be_used(name: str, tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("no certificate")
    for path in (nonsense, tmp_path / "gone.pem"):
        with pytest.raises(StoreRefused, match="cannot be used"):
            open_client(parse_store_url(f"rediss://host?{name}={path}"), TIMEOUT_S)


async def test_idle_connections_are_dropped_when_told_to() -> None:
    async with answering(ONE) as (server,):
        client = open_client(parse_store_url(f"redis://{server}"), TIMEOUT_S)
        await asyncio.gather(*(call(client) for _ in range(3)))
        await call(client)
        opened = len(server.received)
        await client.forget()
        await call(client)
        assert len(server.received) == opened + 1
        await client.aclose()
