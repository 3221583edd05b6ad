"""The same exchange and the same reads, in every form in which a store may come."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from proxy.meters.binary import packaged_server
from proxy.meters.embedded import EmbeddedStore
from proxy.meters.gauges import Gauges
from proxy.meters.gpu_hours import GpuClock
from proxy.meters.slot import Accepted
from proxy.meters.store import Store, key_prefix
from proxy.meters.store_error import StoreError, StoreRefused, StoreUnavailable

from tests.meters.examples import LLAMA, asked, push, pushed
from tests.redis.certificates import Authority, make_authority
from tests.redis.servers import HOST, ClusterSet, SentinelSet, Server, start_cluster, start_redis, start_sentinel_set

PASSWORD = "p/ss:w@rd?"
QUOTED = "p%2Fss%3Aw%40rd%3F"


@asynccontextmanager
async def opened(url: str, timeout_s: float = 5.0) -> AsyncIterator[Store]:
    store = Store(url, timeout_s=timeout_s)
    yield store
    await store.aclose()


async def works(url: str) -> None:
    """A push, gauges, GPU time, totals and folding come out right."""
    async with opened(url) as store:
        assert await pushed(store, push("one", requests=1)) == Accepted()
        assert await pushed(store, push("two", requests=2)) == Accepted()
        seen: dict[str, int] = {}
        await asked(store, Gauges(lambda: {"llama/0": 3}, seen.update), "one")
        await asked(store, Gauges(dict, seen.update), "two")
        assert seen == {"llama/0": 3}
        heard = await asked(store, GpuClock(lambda: [LLAMA], dict), "one")
        assert heard.members == 2
        totals = await store.read_totals()
        assert (sum(map(sum, totals.counters.values())), totals.processes) == (3, 2)
        assert await store.fold_dead(0.0) == 2
        assert (await store.read_totals()).counters == totals.counters


async def refused(url: str) -> str:
    """What is said to somebody who may not come in."""
    async with opened(url) as store:
        with pytest.raises(StoreError) as told:
            await store.read_totals()
    text = str(told.value)
    assert PASSWORD not in text
    assert QUOTED not in text
    return text


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with start_redis(tmp_path_factory.mktemp("plain"), {"unixsocket": "redis.sock"}) as server:
        yield server


@pytest.fixture
def empty(plain: Server) -> Server:
    """The plain server, with nothing in it."""
    plain.ask("FLUSHALL")
    return plain


async def test_one_server(empty: Server) -> None:
    await works(empty.url)


async def test_a_database_of_it(empty: Server) -> None:
    await works(f"{empty.url}/5")
    assert "db5" in empty.info("keyspace")
    assert "db0" not in empty.info("keyspace")
    assert "no such database at" in await refused(f"{empty.url}/99")


async def test_a_unix_socket(empty: Server) -> None:
    await works(f"unix://{empty.folder / 'redis.sock'}")


async def test_valkey_that_runs_beside_us(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path / "data", packaged_server()) as embedded:
        await works(embedded.url)


async def test_a_password(tmp_path: Path) -> None:
    with start_redis(tmp_path, {"requirepass": PASSWORD}, {"password": PASSWORD}) as server:
        await works(f"redis://:{QUOTED}@{server.place}")
        await works(f"redis://default:{QUOTED}@{server.place}/1")
        file = tmp_path / "secret"
        file.write_text(f"{PASSWORD}\n")
        await works(f"redis://{server.place}/2?password_file={file}")
        assert "asks for a password" in await refused(server.url)
        assert "name and password are not accepted" in await refused(f"redis://:wrong@{server.place}")
    with start_redis(tmp_path / "open") as server:
        assert "no password is set" in await refused(f"redis://:{QUOTED}@{server.place}")


def tls_settings(authority: Authority, alternative: str = f"IP:{HOST}") -> dict[str, str]:
    served = authority.sign("server", alternative)
    return {
        "tls-cert-file": str(served.cert),
        "tls-key-file": str(served.key),
        "tls-ca-cert-file": str(authority.ca.cert),
    }


@asynccontextmanager
async def tls_server(folder: Path, authority: Authority, **settings: str) -> AsyncIterator[str]:
    """Where a server listens for TLS; the plain port stays, for the test itself."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    with start_redis(folder, {"tls-port": str(port), **settings}):
        yield f"{HOST}:{port}"


async def test_tls(tmp_path: Path, authority: Authority) -> None:
    settings = {**tls_settings(authority), "tls-auth-clients": "no"}
    async with tls_server(tmp_path, authority, **settings) as place:
        await works(f"rediss://{place}?ca={authority.ca.cert}")
        said = await refused(f"rediss://{place}")
        assert "is not accepted: unable to get local issuer certificate" in said or "self-signed" in said
        assert "hint: `?ca=/path/ca.pem`" in said
        assert "no connection" in await refused(f"redis://{place}")


async def test_the_authorities_of_this_machine(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ssl.get_default_verify_paths().openssl_cafile_env, str(authority.ca.cert))
    async with tls_server(tmp_path, authority, **tls_settings(authority), **{"tls-auth-clients": "no"}) as place:
        await works(f"rediss://{place}")


async def test_a_certificate_of_our_own(tmp_path: Path, authority: Authority) -> None:
    ours = authority.sign("spillway", "DNS:spillway")
    async with tls_server(tmp_path, authority, **tls_settings(authority)) as place:
        await works(f"rediss://{place}?ca={authority.ca.cert}&cert={ours.cert}&key={ours.key}")
        # The server says why, and hangs up on what we have sent meanwhile: its words may be lost with that.
        assert await refused(f"rediss://{place}?ca={authority.ca.cert}")


async def test_a_certificate_for_another_name(tmp_path: Path, authority: Authority) -> None:
    settings = {**tls_settings(authority, "DNS:elsewhere"), "tls-auth-clients": "no"}
    async with tls_server(tmp_path, authority, **settings) as place:
        assert "IP address mismatch" in await refused(f"rediss://{place}?ca={authority.ca.cert}")
        await works(f"rediss://{place}?ca={authority.ca.cert}&check_hostname=no")


@pytest.fixture(scope="module")
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelSet]:
    with start_sentinel_set(tmp_path_factory.mktemp("sentinels")) as whole:
        yield whole


async def test_sentinels(sentinels: SentinelSet) -> None:
    await works(sentinels.url)
    assert "know no master by the name of `other`" in await refused(sentinels.url.replace("mymaster", "other"))


async def test_one_sentinel_of_many_and_a_database(sentinels: SentinelSet) -> None:
    await works(f"redis+sentinel://127.0.0.1:1,{sentinels.sentinels[2].place}/mymaster/1")


async def test_a_replica_is_not_written_to(sentinels: SentinelSet) -> None:
    async with opened(sentinels.replica.url) as store:
        with pytest.raises(StoreUnavailable, match="is a replica and takes no writes"):
            await pushed(store, push("one", requests=1))


async def test_sentinels_and_servers_with_passwords(tmp_path: Path) -> None:
    settings = {"requirepass": "data", "masterauth": "data"}
    with start_sentinel_set(tmp_path, settings, admin={"password": "data"}, sentinel_password="watch") as whole:
        await works(whole.url.replace("://", "://:data@") + "?sentinel_password=watch")
        assert "asks for a password" in await refused(whole.url.replace("://", "://:data@"))
        assert "asks for a password" in await refused(whole.url + "?sentinel_password=watch")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterSet]:
    with start_cluster(tmp_path_factory.mktemp("cluster"), masters=3) as whole:
        yield whole


async def test_a_cluster_of_one_node(tmp_path: Path) -> None:
    with start_cluster(tmp_path) as whole:
        await works(whole.url)


@pytest.mark.parametrize("seed", [0, 1, 2])
async def test_a_cluster_entered_by_any_of_its_nodes(cluster: ClusterSet, seed: int) -> None:
    for node in cluster.nodes:
        node.ask("FLUSHALL")
    await works(f"redis+cluster://{cluster.nodes[seed].place}")
    keys = {node.port: node.ask("DBSIZE") for node in cluster.nodes}
    assert {port for port, count in keys.items() if count} == {cluster.owner(key_prefix()).port}


async def test_a_node_of_a_cluster_is_no_server_by_itself(cluster: ClusterSet) -> None:
    other = next(node for node in cluster.nodes if node is not cluster.owner(key_prefix()))
    assert "begin its URL with `redis+cluster://`" in await refused(other.url)


async def test_a_server_is_no_cluster(empty: Server) -> None:
    assert "cluster support disabled" in await refused(f"redis+cluster://{empty.place}")


async def test_a_server_that_is_full(empty: Server) -> None:
    empty.ask("CONFIG", "SET", "maxmemory", "1")
    try:
        async with opened(empty.url) as store:
            with pytest.raises(StoreRefused, match=r"OOM .*`maxmemory` is too small"):
                await pushed(store, push("one", requests=1))
    finally:
        empty.ask("CONFIG", "SET", "maxmemory", "0")


async def test_a_key_of_ours_that_is_something_else(empty: Server) -> None:
    empty.ask("SET", f"{key_prefix()}members", "x")
    async with opened(empty.url) as store:
        with pytest.raises(StoreRefused, match="WRONGTYPE"):
            await pushed(store, push("one", requests=1))
