"""One connection to one server of the store: log in, ask, read the replies, all in bounded time.

Theory of operation
-------------------
The protocol is RESP2 (redis.io/docs/reference/protocol-spec), which every Redis and Valkey speaks without being asked;
hiredis packs and parses it. Nothing is tried twice in here: the sync has a rhythm and a backoff of its own, and a retry
inside a call would only hide an outage from it. A line that has brought an error of any kind is not used again, since
nobody knows what is still under way on it, and since a new one logs in afresh and may find another server.

All errors of the network and of the server become a `StoreError` here, and nowhere else. What a server says to a login
is never repeated: some quote the words they did not understand.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import hiredis

from proxy.meters.store_error import StoreError, StoreRefused, StoreUnavailable
from proxy.meters.store_url import Login, Server, Tls

Word = str | bytes | int
Command = Sequence[Word]

_PENDING = object()
_READ_BYTES = 1 << 16
_LONGEST_SAID = 300
_CODE = re.compile(r"^(?:ERR .*? -)?([A-Z]+)\b")
_TOO_MANY = "ERR max number of clients reached"
_PASSING = {
    "LOADING": "is still loading its data",
    "READONLY": "is a replica and takes no writes",
    "MASTERDOWN": "has lost its master",
    "CLUSTERDOWN": "is part of a cluster that is down",
    "TRYAGAIN": "is moving our keys to another node",
    "ASK": "is moving our keys to another node",
    "BUSY": "is busy with somebody's script",
    "NOREPLICAS": "has too few replicas to take writes",
}
_HINTS = {
    "NOAUTH": "it asks for a password: give one in the URL, or in a `password_file`",
    "NOPERM": "give its user the rule in the README, under `The store`",
    "OOM": "its `maxmemory` is too small, or other data fills it",
    "WRONGTYPE": "somebody else writes to keys of ours",
    "MISCONF": "it cannot write its own files",
}


class Moved(StoreUnavailable):
    """The keys are elsewhere, at `server`; what was asked has not been done."""

    def __init__(self, server: Server) -> None:
        super().__init__(f"the keys have moved to `{server}`")
        self.server = server


class Line:
    """A connection that has logged in. Not for two callers at a time."""

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._replies = hiredis.Reader(notEnoughData=_PENDING)

    @classmethod
    async def open(
        cls, server: Server, login: Login, security: ssl.SSLContext | None, timeout_s: float, database: int = 0
    ) -> Self:
        """Connect and log in, all within `timeout_s`. Raises StoreError."""
        with _mapped(server, timeout_s):
            async with asyncio.timeout(timeout_s):
                line = cls(server, *await _streams(server, security))
                try:
                    await line._log_in(login, database)
                except BaseException:
                    line.close()
                    raise
                return line

    async def ask(self, commands: Sequence[Command], timeout_s: float) -> list[Any]:
        """One round trip: a reply for each command, all within `timeout_s`. The first that is an error is raised."""
        with _mapped(self._server, timeout_s):
            async with asyncio.timeout(timeout_s):
                replies = await self._round_trip(commands)
        for error in _errors(replies):
            raise _meaning(str(error), self._server)
        return replies

    @property
    def open_still(self) -> bool:
        """Whether the server has not hung up, as far as is known."""
        return not (self._reader.at_eof() or self._writer.is_closing())

    def close(self) -> None:
        """Hang up."""
        self._writer.close()

    async def _log_in(self, login: Login, database: int) -> None:
        words = await asyncio.to_thread(_credentials, login)
        if words:
            (reply,) = await self._round_trip([("AUTH", *words)])
            if isinstance(reply, hiredis.ReplyError):
                raise _login_refused(str(reply), self._server)
        if database:
            (reply,) = await self._round_trip([("SELECT", database)])
            if isinstance(reply, hiredis.ReplyError):
                raise _database_refused(str(reply), self._server, database)

    async def _round_trip(self, commands: Sequence[Command]) -> list[Any]:
        self._writer.write(b"".join(packed(command) for command in commands))
        await self._writer.drain()
        return [await self._reply() for _ in commands]

    async def _reply(self) -> Any:
        while (reply := self._replies.gets()) is _PENDING:
            received = await self._reader.read(_READ_BYTES)
            if not received:
                raise ConnectionResetError("it hung up")
            self._replies.feed(received)
        return reply


def security(tls: Tls | None) -> ssl.SSLContext | None:
    """What TLS needs to know; reads files, so call it off the event loop. Raises StoreRefused."""
    if tls is None:
        return None
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        if tls.cert is not None:
            context.load_cert_chain(tls.cert, tls.key, password=_no_passphrase)
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise StoreRefused(f"the certificates named in the store's URL cannot be used: {problem}") from None
    context.check_hostname = tls.check_hostname
    return context


def _no_passphrase() -> str:
    raise ValueError("the key asks for a passphrase, and there is nobody to give one")


async def _streams(
    server: Server, security: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if server.port:
        return await asyncio.open_connection(server.host, server.port, ssl=security)
    return await asyncio.open_unix_connection(server.host)


def _credentials(login: Login) -> tuple[str, ...]:
    password = login.password
    if login.password_file is not None:
        try:
            password = login.password_file.read_text("utf-8").rstrip("\r\n")
        except (OSError, ValueError) as error:
            problem = getattr(error, "strerror", None) or "it is not text"
            raise StoreRefused(f"the store's password file `{login.password_file}` cannot be read: {problem}") from None
    if login.username:
        return login.username, password
    return (password,) if password else ()


@contextmanager
def _mapped(server: Server, timeout_s: float) -> Iterator[None]:
    """Foreign errors to ours, once."""
    try:
        yield
    except TimeoutError:
        raise StoreUnavailable(f"no answer from the store at `{server}` within {timeout_s:g} s") from None
    except ssl.SSLCertVerificationError as error:
        raise StoreRefused(
            f"the certificate of the store at `{server}` is not accepted: {error.verify_message}"
            " (hint: `?ca=/path/ca.pem` names an authority, `?check_hostname=no` allows any name)"
        ) from None
    except ssl.SSLError as error:
        if "CERTIFICATE_REQUIRED" in (error.reason or ""):
            raise StoreRefused(
                f"the store at `{server}` asks for a certificate (hint: `?cert=/path/cert.pem&key=/path/key.pem`)"
            ) from None
        raise StoreUnavailable(f"no TLS with the store at `{server}`: {error.reason or error}") from None
    except OSError as error:
        raise StoreUnavailable(f"no connection to the store at `{server}`: {_reason(error)}") from None
    except (hiredis.ProtocolError, UnicodeError):
        raise StoreUnavailable(f"what answers at `{server}` is no Redis or Valkey") from None


def _reason(error: OSError) -> str:
    """In the system's words, whichever event loop it comes through."""
    if error.errno is None or isinstance(error, socket.gaierror):
        return error.strerror or str(error)
    return os.strerror(error.errno)


def packed(command: Command) -> bytes:
    """A command as it goes over the line."""
    # The stub of hiredis knows only tuples of one word.
    line: bytes = hiredis.pack_command(tuple(command))  # type: ignore[arg-type]
    return line


def _errors(reply: Any) -> Iterator[hiredis.ReplyError]:
    if isinstance(reply, hiredis.ReplyError):
        yield reply
    elif isinstance(reply, list):
        for part in reply:
            yield from _errors(part)


def _meaning(said: str, server: Server) -> StoreError:
    """What an error of the server means to us. Redis 6 puts those of a script's commands behind words of its own."""
    found = _CODE.match(said)
    code = found[1] if found else ""
    if code == "MOVED":
        host, _, port = said.split()[2].rpartition(":")
        return Moved(Server(host or server.host, int(port)))
    quoted = said.splitlines()[0][:_LONGEST_SAID] if said else "an error without words"
    if code in _PASSING:
        return StoreUnavailable(f"the store at `{server}` {_PASSING[code]}: {quoted}")
    if said.startswith(_TOO_MANY):
        return StoreUnavailable(f"the store at `{server}` has too many clients")
    hint = f" (hint: {_HINTS[code]})" if code in _HINTS else ""
    return StoreRefused(f"the store refuses: {quoted}{hint}")


def _login_refused(said: str, server: Server) -> StoreError:
    if said.startswith(_TOO_MANY):
        return StoreUnavailable(f"the store at `{server}` has too many clients")
    if "without any password configured" in said or "no password is set" in said:
        return StoreRefused(f"the store at `{server}` has no password, but its URL gives one")
    return StoreRefused(f"the store at `{server}` does not accept the name and password of its URL")


def _database_refused(said: str, server: Server, database: int) -> StoreError:
    if said.startswith("ERR"):
        return StoreRefused(f"the store at `{server}` has no database {database}")
    return _meaning(said, server)
