"""A server is lost, hangs or is replaced, and the same store goes on at the next one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from proxy.meters.part import Heard, Moment
from proxy.meters.store import Store, key_prefix
from proxy.meters.store_error import StoreUnavailable

from tests.meters.examples import push, pushed
from tests.redis.servers import PATIENCE_S, Server, start_cluster, start_redis, start_sentinel_set, wait_for

RHYTHM_S = 0.2
LONGEST_CALL_S = 2.0 + 1.0
"""What is promised, and what a busy machine may add."""
FOLLOWED_WITHIN_S = 2.0


class Gap(NamedTuple):
    """How long no sync came right: since the blow, and since there was another server. `first` is what came then."""

    outage_s: float
    followed_s: float
    first: Heard


@asynccontextmanager
async def opened(url: str, learn_s: float = 0.0) -> AsyncIterator[Store]:
    store = Store(url, learn_s=learn_s)
    yield store
    await store.aclose()


async def once(store: Store) -> Heard:
    heard, _ = await store.exchange(Moment("one", 0.0, None), [])
    return heard


async def requests(store: Store) -> int:
    return sum(map(sum, (await store.read_totals()).counters.values()))


async def requests_or_none(store: Store) -> int | None:
    try:
        return await requests(store)
    except StoreUnavailable:
        return None


async def gap(store: Store, blow: Callable[[], object], replaced: Callable[[], object]) -> Gap:
    """Sync all the time, while a server is struck and until another has taken its place and is used."""
    struck = time.monotonic()
    await asyncio.to_thread(blow)
    watching = asyncio.create_task(asyncio.to_thread(_moment, replaced))
    failed = False
    async with asyncio.timeout(PATIENCE_S):
        while True:
            asked = time.monotonic()
            try:
                heard = await once(store)
            except StoreUnavailable:
                failed = True
                assert time.monotonic() - asked < LONGEST_CALL_S
            else:
                if failed or watching.done():
                    break
            await asyncio.sleep(RHYTHM_S)
        came_right = time.monotonic()
        there = await watching
    return Gap(came_right - struck, came_right - there, heard)


def _moment(condition: Callable[[], object]) -> float:
    wait_for("another server", condition)
    return time.monotonic()


async def test_a_master_that_dies(tmp_path: Path) -> None:
    with start_sentinel_set(tmp_path) as whole:
        async with opened(whole.url, learn_s=30.0) as store:
            await pushed(store, push("one", requests=7))
            assert await asyncio.to_thread(whole.master.ask, "WAIT", 1, 5000) == 1
            found = await gap(store, whole.master.kill, lambda: whole.elected() == whole.replica.port)
            assert found.followed_s < FOLLOWED_WITHIN_S
            assert found.first.learning
            assert await requests(store) == 7


async def test_a_master_that_hangs_and_comes_back(tmp_path: Path) -> None:
    with start_sentinel_set(tmp_path) as whole:
        async with opened(whole.url) as store:
            await once(store)
            whole.sentinels[0].pause()
            found = await gap(store, whole.master.pause, lambda: whole.elected(1) == whole.replica.port)
            assert found.followed_s < FOLLOWED_WITHIN_S
            whole.master.resume()
            await asyncio.to_thread(wait_for, "a replica", lambda: role(whole.master) == "slave")
            await pushed(store, push("one", requests=3))
            async with opened(whole.replica.url) as direct:
                assert await requests(direct) == 3


async def test_a_master_that_is_replaced_in_good_order(tmp_path: Path) -> None:
    with start_sentinel_set(tmp_path) as whole:
        async with opened(whole.url) as store:
            await pushed(store, push("one", requests=1))
            assert await asyncio.to_thread(whole.master.ask, "WAIT", 1, 5000) == 1
            found = await gap(
                store,
                lambda: whole.sentinels[0].ask("SENTINEL", "FAILOVER", "mymaster"),
                lambda: role(whole.master) == "slave",
            )
            assert found.followed_s < FOLLOWED_WITHIN_S
            async with asyncio.timeout(FOLLOWED_WITHIN_S):
                while (counted := await requests_or_none(store)) is None:
                    await asyncio.sleep(RHYTHM_S)
            assert counted == 1


async def test_a_server_that_became_a_replica_is_not_read(tmp_path: Path) -> None:
    with start_redis(tmp_path / "one") as one, start_redis(tmp_path / "other") as other:
        async with opened(one.url) as store:
            await pushed(store, push("one", requests=7))
            one.ask("REPLICAOF", "127.0.0.1", other.port)
            with pytest.raises(StoreUnavailable, match="READONLY it was a master, and is not any more"):
                await requests(store)
            one.ask("REPLICAOF", "NO", "ONE")
            await requests(store)


async def test_a_node_of_a_cluster_that_dies(tmp_path: Path) -> None:
    with start_cluster(tmp_path, masters=3, replicas=3) as whole:
        async with opened(whole.url) as store:
            await pushed(store, push("one", requests=7))
            owner = whole.owner(key_prefix())
            assert await asyncio.to_thread(owner.ask, "WAIT", 1, 5000) == 1
            found = await gap(store, owner.kill, lambda: whole.owner(key_prefix()) is not owner)
            assert found.followed_s < FOLLOWED_WITHIN_S
            assert await requests(store) == 7


async def test_a_slot_that_moves_to_another_node(tmp_path: Path) -> None:
    with start_cluster(tmp_path, masters=3) as whole:
        async with opened(whole.url) as store:
            await pushed(store, push("one", requests=7))
            former = whole.owner(key_prefix())
            await asyncio.to_thread(move, former, next(node for node in whole.nodes if node is not former))
            assert await requests(store) == 7
            assert whole.owner(key_prefix()) is not former


async def test_a_server_that_starts_again(tmp_path: Path) -> None:
    with start_redis(tmp_path / "data") as server:
        async with opened(server.url, learn_s=1.0) as store:
            await pushed(store, push("one", requests=7))
            server.kill()
            await failure(store)  # on a connection that it had
            assert "Connection refused" in await failure(store)
            await asyncio.to_thread(server.restart, empty=True)
            assert (await once(store)).learning
            async with asyncio.timeout(PATIENCE_S):
                while (await once(store)).learning:
                    await asyncio.sleep(RHYTHM_S)
            assert await requests(store) == 0


async def test_a_server_that_hangs(tmp_path: Path) -> None:
    with start_redis(tmp_path) as server:
        async with opened(server.url) as store:
            await once(store)
            server.pause()
            for _ in range(2):  # the second has to connect
                began = time.monotonic()
                assert "no answer from the store" in await failure(store)
                assert time.monotonic() - began < LONGEST_CALL_S
            server.resume()
            await once(store)


async def failure(store: Store) -> str:
    try:
        await once(store)
    except StoreUnavailable as error:
        return str(error)
    raise AssertionError("it came right")


def role(server: Server) -> str:
    return server.info("replication")["role"]


def move(source: Server, to: Server) -> None:
    """Our slot with all its keys, as `redis-cli --cluster reshard` does it."""
    slot = source.ask("CLUSTER", "KEYSLOT", key_prefix())
    to.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.ask("CLUSTER", "MYID"))
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", to.ask("CLUSTER", "MYID"))
    keys = source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1000)
    source.ask("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)
    for node in (to, source):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", to.ask("CLUSTER", "MYID"))
