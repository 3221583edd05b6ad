"""From the store's URL to a client that always talks to the server which holds the keys now.

Theory of operation
-------------------
A call takes an idle connection, or finds the server and opens one (`primary.py`, `store_line.py`). After any error the
connection is closed; after one that says that the server is away, or no longer the one, all idle ones are, and the next
call looks for the server again. So a failover costs calls for as long as it takes and not longer, without a call ever
being made twice. The one exception proves harmless: a node that answers MOVED has done nothing.

No call lasts longer than twice `timeout_s`: half of it to find the server, half to connect, all of it for the reply.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Sequence
from typing import Any

from proxy.meters.primary import Primary, primary_of
from proxy.meters.store_error import StoreRefused, StoreUnavailable
from proxy.meters.store_line import Command, Line, Moved, Word, security
from proxy.meters.store_url import Form, Server, StoreAddress, parse_store_url

TIMEOUT_S = 1.0
IDLE_S = 30.0
"""A connection unused for so long is not trusted any more: a firewall may have forgotten it, without a word."""
_HOPS = 3


class Client:
    """The store at an address. Several calls may be under way at once; each has a connection to itself."""

    def __init__(self, address: StoreAddress, timeout_s: float, key: str) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._key = key
        self._primary: Primary | None = None
        self._tls: ssl.SSLContext | None = None
        self._moved_to: Server | None = None
        self._idle: list[tuple[float, Line]] = []

    async def eval(self, script: str, keys: Sequence[str], arguments: Sequence[Word]) -> Any:
        """What `script` returns. Raises StoreError."""
        return (await self._call([("EVAL", script, len(keys), *keys, *arguments)]))[0]

    async def transaction(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to `commands`, all as of one instant, in RESP2's own shapes. Raises StoreError.

        A server that was a master when we came, and is a replica now, still answers: with old data, or with none while
        it copies the new master's. It would refuse to write, but nobody may want to.
        """
        *_, answer = await self._call([("MULTI",), ("INFO", "replication"), *commands, ("EXEC",)])
        replies: list[Any]
        role, *replies = answer
        if b"role:slave" in role:
            self._forget()
            raise StoreUnavailable("the store's server is a replica by now")
        return replies

    async def aclose(self) -> None:
        """Close what is idle. A later call opens anew."""
        self._forget()

    async def _call(self, commands: Sequence[Command]) -> list[Any]:
        longest_s = 2 * self._timeout_s
        try:
            async with asyncio.timeout(longest_s):
                return await self._followed(commands)
        except TimeoutError:
            raise StoreUnavailable(f"no answer from the store within {longest_s:g} s") from None

    async def _followed(self, commands: Sequence[Command]) -> list[Any]:
        for _ in range(_HOPS):
            try:
                return await self._attempt(commands)
            except Moved as moved:
                if self._address.form is not Form.CLUSTER:
                    raise StoreRefused(
                        "the store is a node of a cluster (hint: begin its URL with `redis+cluster://`)"
                    ) from None
                self._moved_to = moved.server
        raise StoreUnavailable("the nodes of the cluster send us from one to the other")

    async def _attempt(self, commands: Sequence[Command]) -> list[Any]:
        try:
            line = self._take() or await self._open()
        except StoreUnavailable:
            self._forget()
            raise
        try:
            replies = await line.ask(commands, self._timeout_s)
        except BaseException as error:
            line.close()
            if isinstance(error, StoreUnavailable):
                self._forget()
            raise
        self._idle.append((time.monotonic(), line))
        return replies

    def _take(self) -> Line | None:
        """The idle connection that was used last, if it is still good."""
        trusted = time.monotonic() - IDLE_S
        while self._idle:
            since, line = self._idle.pop()
            if since >= trusted and line.open_still:
                return line
            line.close()
        return None

    async def _open(self) -> Line:
        half_s = self._timeout_s / 2
        if self._primary is None:
            tls = await asyncio.to_thread(_contexts, self._address)
            self._tls = tls[0]
            self._primary = primary_of(self._address, self._key, tls, half_s / 2)
        server, self._moved_to = self._moved_to, None
        server = server or await self._primary.find()
        return await Line.open(server, self._address.login, self._tls, half_s, self._address.database)

    def _forget(self) -> None:
        for _, line in self._idle:
            line.close()
        self._idle.clear()


def connect(url: str, timeout_s: float = TIMEOUT_S, *, key: str = "") -> Client:
    """A client for the store at `url`; connects at first use, and again whenever it has to.

    `timeout_s` bounds the wait for a reply. It is far longer than one should take: no request waits with it, and a busy
    event loop must not be mistaken for a store that is away. `key` is any key of ours: in a cluster it says which node
    to talk to. Raises StoreUrlInvalid.
    """
    return Client(parse_store_url(url), timeout_s, key)


def _contexts(address: StoreAddress) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    servers = security(address.tls)
    return servers, servers if address.sentinel_tls == address.tls else security(address.sentinel_tls)
