"""Which server is believed to hold the keys. The rest is in `tests/redis`, on real sentinels and clusters."""

from __future__ import annotations

import asyncio
import ssl

import pytest
from proxy.meters.primary import Cluster, Sentinels, Vote, elected, read_slots, read_vote, slot_of
from proxy.meters.store_error import StoreRefused, StoreUnavailable
from proxy.meters.store_url import Login, Server
from tests.meters.answering import answering

ONE, TWO, THREE = Server("10.0.0.1", 1), Server("10.0.0.2", 2), Server("10.0.0.3", 3)
NO_TLS: ssl.SSLContext | None = None


def bulk(*words: str) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w.encode()), w.encode()) for w in words)


def master(server: Server, epoch: int, flags: str = "master") -> bytes:
    return bulk("name", "m", "ip", server.host, "port", str(server.port), "flags", flags, "config-epoch", str(epoch))


def test_the_slot_of_a_key_is_that_of_its_hash_tag() -> None:
    # The first is the example of the specification; the others are what a server says to CLUSTER KEYSLOT.
    assert slot_of("123456789") == 0x31C3 % 16384
    assert slot_of("{user1000}.following") == slot_of("{user1000}.followers") == 3443
    assert slot_of("foo{}{bar}") == 8363
    assert slot_of("foo{{bar}}zap") == 4015


def test_a_vote_is_read_whatever_else_a_sentinel_says() -> None:
    reply = [b"name", b"m", b"ip", b"10.0.0.1", b"port", b"1", b"flags", b"master,o_down", b"config-epoch", b"7"]
    assert read_vote(reply) == Vote(7, False, ONE)
    assert read_vote([*reply[:6], b"flags", b"master,disconnected", b"config-epoch", b"7"]) == Vote(7, True, ONE)
    with pytest.raises(StoreUnavailable):
        read_vote([b"ip", b"10.0.0.1"])


def test_the_latest_failover_is_believed() -> None:
    assert elected([Vote(3, True, ONE), Vote(4, True, TWO), Vote(3, True, ONE)], "m") == TWO
    assert elected([Vote(4, False, TWO), Vote(4, True, TWO)], "m") == TWO
    with pytest.raises(StoreUnavailable, match="no master `m` that is up"):
        elected([Vote(3, True, ONE), Vote(4, False, TWO)], "m")


def test_the_owner_of_a_slot() -> None:
    table = [
        [0, 99, [b"10.0.0.1", 1, b"id", []], [b"10.0.0.3", 3, b"id", []]],
        [100, 16383, [b"", 2, b"id"]],
        [16383, 16383, [None, 4]],
    ]
    assert read_slots(table, 99, TWO) == (ONE, (ONE, TWO, Server("10.0.0.2", 4), THREE))
    assert read_slots(table, 100, TWO)[0] == TWO
    assert read_slots(table[:1], 100, TWO) == (None, (ONE, THREE))


async def test_most_sentinels_are_enough() -> None:
    """One that never answers is not waited for."""
    async with answering(None, master(TWO, 2), master(ONE, 1)) as places:
        async with asyncio.timeout(10.0):
            assert await Sentinels(places, "m", Login(), NO_TLS, 30.0).find() == TWO


async def test_the_only_sentinel_that_answers_is_believed() -> None:
    async with answering(None, b"-ERR broken\r\n", master(ONE, 1)) as places:
        assert await Sentinels(places, "m", Login(), NO_TLS, 0.2).find() == ONE


async def test_sentinels_that_know_no_such_master() -> None:
    async with answering(None, b"-ERR No such master with that name\r\n") as places:
        with pytest.raises(StoreRefused, match="know no master by the name of `m`"):
            await Sentinels(places, "m", Login(), NO_TLS, 0.2).find()


async def test_a_cluster_is_asked_node_after_node_and_learns_of_others() -> None:
    table = b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n"
    async with answering(b"-LOADING\r\n", b"*0\r\n") as (loading, empty):
        async with answering(table % empty.port) as (knowing,):
            cluster = Cluster([loading, knowing], "{k}", Login(), NO_TLS, 1.0)
            assert await cluster.find() == empty
            with pytest.raises(StoreUnavailable, match="no node of the cluster holds"):
                for _ in range(3):
                    assert await cluster.find() == empty


async def test_a_cluster_that_nobody_answers_for() -> None:
    async with answering(b"-ERR This instance has cluster support disabled\r\n", None) as places:
        with pytest.raises(StoreRefused, match="cluster support disabled"):
            await Cluster(places, "{k}", Login(), NO_TLS, 0.2).find()
