"""What becomes of the errors of the network, of redis-py and of the server: ours, once, and without a secret."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest
from proxy.meters.connection import connect
from proxy.meters.redis_errors import meaning
from proxy.meters.store_error import StoreError, StoreRefused, StoreUnavailable
from redis._parsers.base import NO_AUTH_SET_ERROR
from redis.exceptions import RedisError
from tests.meters.answering import answering
from tests.meters.conftest import PATIENCE_S


async def failure(url: str, timeout_s: float = PATIENCE_S) -> StoreError:
    """The error that a call ends in."""
    client = connect(url, timeout_s)
    with pytest.raises(StoreError) as raised:
        await client.eval("return 1", (), ())
    await client.aclose()
    assert "s3cret" not in f"{raised.value} {raised.value.__cause__}"
    return raised.value


async def told(answer: bytes, *, login: str = "", database: int = 0) -> StoreError:
    """The error that an answer to a command, or to the login, ends in."""
    async with answering(answer) as (server,):
        return await failure(f"redis://{login}{server}/{database}")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("LOADING Redis is loading the dataset in memory", "is still loading its data"),
        ("READONLY You can't write against a read only replica.", "is a replica and takes no writes"),
        ("ERR Error running script (call to f_12): @user_script:3: -READONLY You can't write", "takes no writes"),
        ("MASTERDOWN Link with MASTER is down", "has lost its master"),
        ("CLUSTERDOWN The cluster is down", "is part of a cluster that is down"),
        ("TRYAGAIN Multiple keys request during rehashing of slot", "is moving our keys"),
        ("ASK 3999 127.0.0.1:6381", "is moving our keys"),
        ("BUSY Redis is busy running a script.", "is busy with somebody's script"),
        ("NOREPLICAS Not enough good replicas to write.", "too few replicas"),
        ("ERR max number of clients reached", "too many clients for the store at `127.0.0.1:"),
    ],
)
async def test_what_passes_is_unavailable(answer: str, text: str) -> None:
    error = await told(b"-%s\r\n" % answer.encode())
    assert isinstance(error, StoreUnavailable)
    assert text in str(error)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("NOAUTH Authentication required.", "give one in the URL"),
        ("ERR Protocol error: unauthenticated multibulk length", "give one in the URL"),
        ("NOPERM this user has no permissions to run the 'eval' command", "the rule in the README"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "OOM command not allowed"),
        (
            "ERR Error running script (call to f_12): @user_script:3: -OOM command not allowed",
            "`maxmemory` is too small",
        ),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", "somebody else writes to keys of ours"),
        ("MISCONF Redis is configured to save RDB snapshots", "cannot write its own files"),
        ("MOVED 3999 10.0.0.1:6381", "hint: it is a node of a cluster: begin its URL with `redis+cluster://`"),
        ("ERR user_script:1: Script attempted", "`: ERR user_script:1: Script attempted"),
        ("", "an error without words"),
    ],
)
async def test_what_does_not_is_refused(answer: str, text: str) -> None:
    error = await told(b"-%s\r\n" % answer.encode())
    assert isinstance(error, StoreRefused)
    assert text in str(error)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("WRONGPASS invalid username-password pair or user is disabled.", "name and password are not accepted by"),
        ("ERR invalid password", "name and password are not accepted by"),
        ("ERR " + next(iter(NO_AUTH_SET_ERROR)), "no password is set at"),
        ("ERR unknown command `AUTH`, with args beginning with: `u`, `s3cret`", "ERR unknown command `AUTH`"),
    ],
)
async def test_a_login_that_fails_repeats_nothing(answer: str, text: str) -> None:
    error = await told(b"-%s\r\n" % answer.encode(), login="u:s3cret@")
    assert isinstance(error, StoreRefused)
    assert text in str(error)


async def test_too_many_clients_pass_at_the_login_too() -> None:
    error = await told(b"-ERR max number of clients reached\r\n", login="u:s3cret@")
    assert isinstance(error, StoreUnavailable)


async def test_a_database_that_is_not_there() -> None:
    assert "no such database" in str(await told(b"-ERR DB index is out of range\r\n", database=99))
    assert "asks for a password" in str(await told(b"-NOAUTH Authentication required.\r\n", database=1))


async def test_an_answer_that_does_not_come() -> None:
    async with answering(None) as (server,):
        error = await failure(f"redis://{server}", 0.2)
    assert isinstance(error, StoreUnavailable)
    assert str(error) == f"no answer from the store at `{server}` in time"


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"*1000000000000000000000\r\n"])
async def test_something_else_that_answers(answer: bytes) -> None:
    error = await told(answer)
    assert isinstance(error, StoreUnavailable)
    assert "is no Redis or Valkey" in str(error)


async def test_nobody_there() -> None:
    with socket.socket() as taken:  # bound, and not listening
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        error = await failure(f"redis://127.0.0.1:{port}")
    assert isinstance(error, StoreUnavailable)
    assert str(error) == f"no connection to the store at `127.0.0.1:{port}`: Connection refused"


async def test_no_such_socket() -> None:
    assert str(await failure("unix:///nowhere/s")) == (
        "no connection to the store at `/nowhere/s`: No such file or directory"
    )


async def test_no_such_host(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    error = await failure("redis://host.invalid:1")
    assert isinstance(error, StoreUnavailable)
    assert str(error) == "no connection to the store at `host.invalid:1`: Name or service not known"


def test_a_certificate_that_is_asked_for() -> None:
    """Where it is told at all: a server hangs up on what was sent meanwhile."""
    wrapped = RedisError("Error 1 connecting")
    wrapped.__context__ = ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required")
    wrapped.__context__.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    error = meaning(wrapped, "the store")
    assert isinstance(error, StoreRefused)
    assert str(error).startswith("a certificate is asked for by the store (hint: `?cert=")


async def test_a_server_that_hangs_up() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        error = await failure(f"redis://{host}:{port}")
    assert isinstance(error, StoreUnavailable)
    assert "no connection to the store at" in str(error)
