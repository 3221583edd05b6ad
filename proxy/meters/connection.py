"""From the store's URL to a client that always talks to the server which holds the keys now.

Theory of operation
-------------------
redis-py does the work (`redis_client.py`); what is ours is that it is imported with the first call, off the event loop,
that all is a script, and how long a call may last. After an error that says that the server is away, or no longer the
one, no idle connection is used again: the next call looks for the server anew. So a failover costs calls for as long as
it takes and not longer, without anything being done twice.

No call lasts longer than twice `timeout_s`: half of it to find the server, half to connect, all of it for the reply.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from importlib.resources import files
from typing import Any, Protocol

from proxy.meters.store_error import StoreUnavailable
from proxy.meters.store_url import StoreAddress, parse_store_url

TIMEOUT_S = 1.0

Word = str | bytes | int
Command = Sequence[Word]


class Opened(Protocol):
    """What `redis_client.open_client` opens."""

    async def eval(self, script: str, keys: Sequence[str], arguments: Sequence[Word]) -> Any:
        """What `script` returns. Raises StoreError."""
        ...

    async def forget(self) -> None:
        """Use no connection any more that is idle now."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


class Client:
    """The store at an address. Several calls may be under way at once."""

    def __init__(self, address: StoreAddress, timeout_s: float, key: str) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._key = key
        self._opened: Opened | None = None
        self._opening = asyncio.Lock()

    async def eval(self, script: str, keys: Sequence[str], arguments: Sequence[Word]) -> Any:
        """What `script` returns. Raises StoreError."""
        longest_s = 2 * self._timeout_s
        try:
            async with asyncio.timeout(longest_s), _cancellable():
                return await self._eval(script, keys, arguments)
        except TimeoutError:
            raise StoreUnavailable(f"no answer from the store within {longest_s:g} s") from None

    async def transaction(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to `commands`, all as of one instant, in RESP2's own shapes. The first argument of a command, if
        there is one, is its key. Never the replies of a replica. Raises StoreError.
        """
        keys = [self._key, *(str(command[1]) for command in commands if len(command) > 1)]
        words = [word for command in commands for word in (len(command), *command)]
        replies: list[Any] = await self.eval(_transaction(), keys, words)
        return replies

    async def aclose(self) -> None:
        """Close what is open. A later call opens anew."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.aclose()

    async def _eval(self, script: str, keys: Sequence[str], arguments: Sequence[Word]) -> Any:
        async with self._opening:
            if self._opened is None:
                self._opened = await asyncio.to_thread(_open, self._address, self._timeout_s)
            opened = self._opened
        try:
            return await opened.eval(script, keys, arguments)
        except StoreUnavailable:
            await opened.forget()
            raise


def connect(url: str, timeout_s: float = TIMEOUT_S, *, key: str = "") -> Client:
    """A client for the store at `url`; connects at first use, and again whenever it has to.

    `timeout_s` bounds the wait for a reply. It is far longer than one should take: no request waits with it, and a busy
    event loop must not be mistaken for a store that is away. `key` is any key of ours: in a cluster it says which node
    to talk to. Raises StoreUrlInvalid.
    """
    return Client(parse_store_url(url), timeout_s, key)


def _open(address: StoreAddress, timeout_s: float) -> Opened:
    opened: Opened = importlib.import_module("proxy.meters.redis_client").open_client(address, timeout_s)
    return opened


@asynccontextmanager
async def _cancellable() -> AsyncIterator[None]:
    """Nothing inside swallows a cancellation. Python 3.11's `wait_for` may, and redis-py sends with it."""
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    yield
    if task.cancelling() > before:
        raise asyncio.CancelledError


@cache
def _transaction() -> str:
    return files("proxy.meters").joinpath("lua", "transaction.lua").read_text("utf-8")
