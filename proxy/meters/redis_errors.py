"""What the errors of redis-py, of the network and of the server mean to us: one `StoreError`, without a secret.

Theory of operation
-------------------
redis-py wraps what it meets: a certificate that is not accepted is the context of its ConnectionError. The nearest link
of that chain that says what happened is the one that is told. A server's answer to a login is never repeated, and no
words of a command: some servers quote those that they did not understand.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import (
    AuthenticationError,
    InvalidResponse,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from proxy.meters.store_error import StoreError, StoreRefused, StoreUnavailable

_LONGEST_SAID = 300
_CODE = re.compile(r"^(?:ERR .*? -)?([A-Z]+)\b")
_WORDS_OF_A_COMMAND = re.compile(r",? with args beginning with:.*", re.DOTALL)
_NO_LOGIN = "Protocol error: unauthenticated"
"""What is said to a long script, rather than that a password is missing."""
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
    "MOVED": "it is a node of a cluster: begin its URL with `redis+cluster://`",
}


class PasswordUnreadable(RedisError):
    """A password file that cannot be read; the text is ours. redis-py closes a connection upon errors of its own."""


@contextmanager
def mapped(place: str) -> Iterator[None]:
    """Foreign errors to ours, once. `place` is who answers, or does not: "the store at `10.0.0.1:6379`"."""
    try:
        yield
    except (RedisError, RedisClusterException, OSError, UnicodeError) as error:
        raise meaning(error, place) from None


def meaning(error: BaseException, place: str) -> StoreError:
    """What an error means to us."""
    for link in _links(error):
        match link:
            case PasswordUnreadable():
                return StoreRefused(str(link))
            case ssl.SSLError():
                return _of_tls(link, place)
            case RedisTimeoutError() | TimeoutError():
                return StoreUnavailable(f"no answer from {place} in time")
            case OSError():
                return StoreUnavailable(f"no connection to {place}: {_reason(link)}")
            case InvalidResponse() | UnicodeError():
                return StoreUnavailable(f"what answers is no Redis or Valkey, instead of {place}")
            case ResponseError() | RedisError(status_code=str()):
                return _of_the_server(link, place)
    return StoreUnavailable(f"no connection to {place}: {error}")


def _links(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _of_tls(error: ssl.SSLError, place: str) -> StoreError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return StoreRefused(
            f"the certificate of {place} is not accepted: {error.verify_message}"
            " (hint: `?ca=/path/ca.pem` names an authority, `?check_hostname=no` allows any name)"
        )
    if "CERTIFICATE_REQUIRED" in (error.reason or ""):
        return StoreRefused(f"a certificate is asked for by {place} (hint: `?cert=/path/cert.pem&key=/path/key.pem`)")
    return StoreUnavailable(f"no TLS with {place}: {error.reason or error}")


def _reason(error: OSError) -> str:
    """In the system's words, whichever event loop it comes through."""
    if error.errno is None or isinstance(error, socket.gaierror):
        return error.strerror or str(error)
    return os.strerror(error.errno)


def _of_the_server(error: RedisError, place: str) -> StoreError:
    """An answer that is an error. redis-py takes the codes that it knows off the text."""
    said = f"{error.status_code} {error}" if error.status_code else str(error)
    # Redis 6 puts the errors of a script's commands behind words of its own.
    found = _CODE.match(said)
    code = "NOAUTH" if _NO_LOGIN in said else found[1] if found else ""
    if said.startswith(_TOO_MANY):
        return StoreUnavailable(f"too many clients for {place}")
    if isinstance(error, AuthenticationError) and code != "NOAUTH":
        return _of_the_login(said, place)
    if "DB index is out of range" in said:
        return StoreRefused(f"no such database at {place}")
    quoted = _WORDS_OF_A_COMMAND.sub("", said.split("\n")[0])[:_LONGEST_SAID] or "an error without words"
    if code in _PASSING:
        return StoreUnavailable(f"{place} {_PASSING[code]}: {quoted}")
    hint = f" (hint: {_HINTS[code]})" if code in _HINTS else ""
    return StoreRefused(f"refused by {place}: {quoted}{hint}")


def _of_the_login(said: str, place: str) -> StoreError:
    if "without any password configured" in said or "no password is set" in said:
        return StoreRefused(f"no password is set at {place}, but its URL gives one")
    return StoreRefused(f"name and password are not accepted by {place}")
