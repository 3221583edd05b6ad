"""Which server holds our keys now: the one in the URL, the sentinels' choice, or the owner of our cluster slot.

Theory of operation
-------------------
The answer is asked for whenever there is no usable connection, and at no other time: a server that is no longer the
one refuses writes or hangs up, which ends the connection to it. An answer may be stale for as long as a failover
takes; following it fails, and the next call asks again.

Sentinels are asked all at once (redis.io/docs/reference/sentinel-clients). Once most of them have answered, or nobody
else will in time, the one that knows of the latest failover is believed: its configuration epoch is the greatest.

A cluster is asked node after node, a different one first each time, since a node that was cut off tells an old story.
All our keys carry one hash tag and so live in one slot (redis.io/docs/reference/cluster-spec), on one node.
"""

from __future__ import annotations

import asyncio
import ssl
from binascii import crc_hqx
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from proxy.meters.store_error import StoreError, StoreRefused, StoreUnavailable
from proxy.meters.store_line import Command, Line
from proxy.meters.store_url import Form, Login, Server, StoreAddress

SLOTS = 16384


class Primary(Protocol):
    """Finds the server to talk to."""

    async def find(self) -> Server:
        """The server that holds the keys now, as far as anybody says. Raises StoreError."""
        ...


class Fixed:
    """The server is the one in the URL."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def find(self) -> Server:
        return self._server


class Vote(NamedTuple):
    """What one sentinel says: the master, since which failover, and whether it sees it up."""

    epoch: int
    up: bool
    server: Server


class Sentinels:
    """The server is whichever the sentinels call by a name."""

    def __init__(
        self, sentinels: Sequence[Server], name: str, login: Login, tls: ssl.SSLContext | None, timeout_s: float
    ) -> None:
        self._sentinels = sentinels
        self._name = name
        self._ask = _Asker(login, tls, timeout_s)

    async def find(self) -> Server:
        votes: list[Vote] = []
        failures: list[StoreError] = []
        pending = {asyncio.create_task(self._vote(sentinel)) for sentinel in self._sentinels}
        try:
            while pending and len(votes) <= len(self._sentinels) // 2:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    vote = task.result()
                    votes.append(vote) if isinstance(vote, Vote) else failures.append(vote)
        finally:
            for task in pending:
                task.cancel()
        if not votes:
            raise _worst(failures)
        return elected(votes, self._name)

    async def _vote(self, sentinel: Server) -> Vote | StoreError:
        try:
            return read_vote(await self._ask(sentinel, ("SENTINEL", "MASTER", self._name)))
        except StoreRefused as error:
            if "No such master" in str(error):
                return StoreRefused(f"the sentinels know no master by the name of `{self._name}`")
            return error
        except StoreError as error:
            return error


class Cluster:
    """The server is the node that owns the slot of `key`."""

    def __init__(
        self, seeds: Sequence[Server], key: str, login: Login, tls: ssl.SSLContext | None, timeout_s: float
    ) -> None:
        self._seeds = tuple(seeds)
        self._nodes = tuple(seeds)
        self._slot = slot_of(key)
        self._timeout_s = timeout_s
        self._ask = _Asker(login, tls, timeout_s)

    async def find(self) -> Server:
        failures: list[StoreError] = []
        deadline = asyncio.get_running_loop().time() + 2 * self._timeout_s
        for node in self._nodes:
            try:
                table = await self._ask(node, ("CLUSTER", "SLOTS"))
            except StoreError as error:
                failures.append(error)
                if asyncio.get_running_loop().time() > deadline:
                    break
            else:
                return self._read(table, node)
            finally:
                self._nodes = (*self._nodes[1:], self._nodes[0])
        raise _worst(failures)

    def _read(self, table: Any, asked: Server) -> Server:
        owner, nodes = read_slots(table, self._slot, asked)
        known = dict.fromkeys((*self._nodes, *nodes, *self._seeds))
        # Whoever has left the cluster is forgotten, save the seeds: they are names, which may come to mean others.
        self._nodes = tuple(node for node in known if node in nodes or node in self._seeds)
        if owner is None:
            raise StoreUnavailable("no node of the cluster holds the slot of our keys")
        return owner


def primary_of(
    address: StoreAddress, key: str, tls: tuple[ssl.SSLContext | None, ssl.SSLContext | None], timeout_s: float
) -> Primary:
    """The way that `address` asks for; `tls` is for the servers and for the sentinels."""
    match address.form:
        case Form.SENTINEL:
            return Sentinels(address.servers, address.master, address.sentinel_login, tls[1], timeout_s)
        case Form.CLUSTER:
            return Cluster(address.servers, key, address.login, tls[0], timeout_s)
        case Form.SINGLE:
            return Fixed(address.servers[0])


def slot_of(key: str) -> int:
    """The cluster slot of a key: CRC-16/XMODEM of its hash tag (redis.io/docs/reference/cluster-spec)."""
    inside, closed, _ = key.partition("{")[2].partition("}")
    return crc_hqx((inside if closed and inside else key).encode(), 0) % SLOTS


def read_vote(reply: Sequence[bytes]) -> Vote:
    """The reply to `SENTINEL MASTER name`. Raises StoreUnavailable when it says something else."""
    fields: Mapping[bytes, bytes] = dict(zip(reply[::2], reply[1::2], strict=False))
    try:
        flags = fields[b"flags"].split(b",")
        server = Server(fields[b"ip"].decode(), int(fields[b"port"]))
        return Vote(int(fields[b"config-epoch"]), not {b"s_down", b"o_down"} & set(flags), server)
    except (KeyError, ValueError):
        raise StoreUnavailable("a sentinel does not describe the master") from None


def elected(votes: Sequence[Vote], name: str) -> Server:
    """The master of the latest failover, if anybody who knows of that sees it up. Raises StoreUnavailable."""
    latest = max(vote.epoch for vote in votes)
    up = [vote.server for vote in votes if vote.epoch == latest and vote.up]
    if not up:
        raise StoreUnavailable(f"the sentinels see no master `{name}` that is up")
    return up[0]


def read_slots(table: Sequence[Any], slot: int, asked: Server) -> tuple[Server | None, tuple[Server, ...]]:
    """The owner of `slot` and all nodes, masters first, from a reply to `CLUSTER SLOTS` of the node `asked`."""
    owner = None
    masters: list[Server] = []
    replicas: list[Server] = []
    for first, last, *nodes in table:
        here = [_node(node, asked) for node in nodes]
        if first <= slot <= last:
            owner = here[0]
        masters += here[:1]
        replicas += here[1:]
    return owner, tuple(dict.fromkeys((*masters, *replicas)))


def _node(node: Sequence[Any], asked: Server) -> Server:
    """A node without an address is to be reached as the one that was asked (redis.io/commands/cluster-slots)."""
    host = (node[0] or b"").decode()
    return Server(asked.host if host in ("", "?") else host, int(node[1]))


class _Asker:
    """One question to one server, over a connection of its own."""

    def __init__(self, login: Login, tls: ssl.SSLContext | None, timeout_s: float) -> None:
        self._login = login
        self._tls = tls
        self._timeout_s = timeout_s

    async def __call__(self, server: Server, command: Command) -> Any:
        line = await Line.open(server, self._login, self._tls, self._timeout_s)
        try:
            return (await line.ask([command], self._timeout_s))[0]
        finally:
            line.close()


def _worst(failures: Sequence[StoreError]) -> StoreError:
    """A refusal can be mended by whoever reads of it, so it is told before an absence."""
    return next((error for error in failures if isinstance(error, StoreRefused)), failures[0])
