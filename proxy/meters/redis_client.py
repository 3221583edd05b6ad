"""The store's client: redis-py, set up for an address.

Theory of operation
-------------------
redis-py finds the server: it asks the sentinels before each new connection, reads the slots of a cluster anew after
each lost one, and follows a node that says MOVED or ASK, which has done nothing. All else that it would try again by
itself is switched off: the sync has a rhythm and a backoff of its own, and a retry would only hide an outage from it.

The protocol is RESP2, with nothing said about ourselves: so a user needs no permission for HELLO or CLIENT, and no
server sends anything that was not asked for.

This module takes as long to import as the rest of Spillway together: see `connection.py`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import RedisError

from proxy.meters.redis_errors import PasswordUnreadable, mapped, meaning
from proxy.meters.store_error import StoreError, StoreRefused, StoreUnavailable
from proxy.meters.store_url import Form, Login, StoreAddress, Tls

Word = str | bytes | int


class Direct:
    """One server: that of the URL, or whichever the sentinels name."""

    def __init__(self, redis: Redis, place: str, sentinels: Sentinels | None = None) -> None:
        self._redis = redis
        self._place = place
        self._sentinels = sentinels

    async def eval(self, script: str, keys: Sequence[str], arguments: Sequence[Word]) -> Any:
        """What `script` returns. Raises StoreError."""
        with mapped(self._place):
            return await self._redis.eval(script, len(keys), *keys, *arguments)

    async def forget(self) -> None:
        """Use no connection any more that is idle now: its server may no longer be the one."""
        with suppress(RedisError, OSError):
            await self._redis.connection_pool.disconnect(inuse_connections=False)

    async def aclose(self) -> None:
        with suppress(RedisError, OSError):
            await self._redis.aclose()
        if self._sentinels is not None:
            with suppress(RedisError, OSError):
                await self._sentinels.aclose()


class Clustered:
    """The node that holds the keys of a script."""

    def __init__(self, address: StoreAddress, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._cluster = self._new()
        self._finding = asyncio.Lock()
        self._failed: str | None = None

    async def eval(self, script: str, keys: Sequence[str], arguments: Sequence[Word]) -> Any:
        """What `script` returns. Raises StoreError."""
        with mapped("the store"):
            await self._find()
            try:
                return await self._cluster.eval(script, len(keys), *keys, *arguments)
            except RedisError as error:
                self._failed = getattr(error, "last_failed_node_name", None)
                raise
            except AttributeError:
                # redis-py knows no node that holds no slot yet, and an ASK may send it to one.
                raise StoreUnavailable("the cluster is moving our keys to a new node") from None

    async def forget(self) -> None:
        """redis-py drops what has failed by itself."""

    async def aclose(self) -> None:
        with suppress(RedisError, OSError):
            await self._cluster.aclose()  # does nothing after a connection was lost
            await self._cluster.nodes_manager.aclose()
            await self._cluster.nodes_manager.aclose("startup_nodes")

    async def _find(self) -> None:
        """Read the slots, unless they are known. redis-py asks the nodes that it knows, the one that failed last; if
        none answers, ask those of the URL next time: they are names, which may mean others by then.
        """
        async with self._finding:
            try:
                await self._cluster.initialize(last_failed_node_name=self._failed)
            except BaseException:
                self._cluster = self._new()
                raise

    def _new(self) -> RedisCluster:
        nodes = [ClusterNode(server.host, server.port) for server in self._address.servers]
        options = _options(self._address.login, self._address.tls, self._timeout_s, self._timeout_s / 2)
        return RedisCluster(startup_nodes=nodes, **options)


class Sentinels(Sentinel):
    """All are asked at once, and the one that knows of the latest failover is believed."""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Where the master is. Raises StoreError."""
        answers = await asyncio.gather(
            *(sentinel.sentinel_master(service_name) for sentinel in self.sentinels), return_exceptions=True
        )
        states = [answer for answer in answers if isinstance(answer, dict)]
        if not states:
            raise _worst([answer for answer in answers if isinstance(answer, BaseException)], service_name)
        latest = max(state["config-epoch"] for state in states)
        for state in states:
            if state["config-epoch"] == latest and self.check_master_state(state, service_name):
                return state["ip"], state["port"]
        raise StoreUnavailable(f"the sentinels see no master `{service_name}` that is up")


class PasswordFile(CredentialProvider):
    """A login whose password is read anew for each connection."""

    def __init__(self, login: Login) -> None:
        self._login = login

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """What goes into AUTH. Raises PasswordUnreadable."""
        file = self._login.password_file
        assert file is not None
        try:
            password = file.read_text("utf-8").rstrip("\r\n")
        except (OSError, ValueError) as error:
            problem = getattr(error, "strerror", None) or "it is not text"
            raise PasswordUnreadable(f"the store's password file `{file}` cannot be read: {problem}") from None
        return (self._login.username, password) if self._login.username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return await asyncio.to_thread(self.get_credentials)


def open_client(address: StoreAddress, timeout_s: float) -> Direct | Clustered:
    """A client that connects when it is first used. Reads files: not for the event loop. Raises StoreRefused."""
    for tls in filter(None, (address.tls, address.sentinel_tls)):
        _check(tls)
    if address.form is Form.CLUSTER:
        return Clustered(address, timeout_s)
    options = _options(address.login, address.tls, timeout_s, timeout_s / 2) | {"db": address.database}
    if address.form is Form.SENTINEL:
        asked = _options(address.sentinel_login, address.sentinel_tls, timeout_s / 4, timeout_s / 4)
        sentinels = Sentinels(list(address.servers), sentinel_kwargs=asked)  # type: ignore[no-untyped-call]
        return Direct(sentinels.master_for(address.master, **options), "the store", sentinels)
    (server,) = address.servers
    place = {"host": server.host, "port": server.port} if server.port else {"unix_socket_path": server.host}
    return Direct(Redis(**place, **options), f"the store at `{server}`")


def _options(login: Login, tls: Tls | None, timeout_s: float, connect_s: float) -> dict[str, Any]:
    given = (
        {"credential_provider": PasswordFile(login)}
        if login.password_file
        else {"username": login.username or None, "password": login.password or None}
    )
    return {
        "protocol": 2,
        "driver_info": None,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": timeout_s,
        "socket_connect_timeout": connect_s,
        **given,
        **(_tls_options(tls) if tls else {}),
    }


def _tls_options(tls: Tls) -> dict[str, Any]:
    return {
        "ssl": True,
        "ssl_ca_certs": tls.ca and str(tls.ca),
        "ssl_certfile": tls.cert and str(tls.cert),
        "ssl_keyfile": tls.key and str(tls.key),
        "ssl_check_hostname": tls.check_hostname,
    }


def _check(tls: Tls) -> None:
    """Whether the files can be used: redis-py would say so much less clearly, or ask the terminal for a passphrase."""
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        if tls.cert is not None:
            context.load_cert_chain(tls.cert, tls.key, password=_no_passphrase)
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise StoreRefused(f"the certificates named in the store's URL cannot be used: {problem}") from None


def _no_passphrase() -> str:
    raise ValueError("the key asks for a passphrase, and there is nobody to give one")


def _worst(failures: Sequence[BaseException], master: str) -> StoreError:
    """A refusal can be mended by whoever reads of it, so it is told before an absence."""
    if any("No such master" in str(failure) for failure in failures):
        return StoreRefused(f"the sentinels know no master by the name of `{master}`")
    told = [meaning(failure, "the sentinels") for failure in failures]
    return next((error for error in told if isinstance(error, StoreRefused)), told[0])
