"""What becomes of the errors of the network and of the server: ours, once, and without a secret."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from proxy.meters.store_error import StoreError, StoreRefused, StoreUnavailable
from proxy.meters.store_line import Line, Moved, security
from proxy.meters.store_url import Login, Server, Tls
from tests.meters.answering import answering

SECRET = Login(username="u", password="s3cret")


async def told(answer: bytes | None, *, login: Login = Login(), database: int = 0) -> StoreError:  # noqa: B008
    """The error that an answer to a command, or to the login, ends in."""
    async with answering(answer) as (server,):
        with pytest.raises(StoreError) as raised:
            line = await Line.open(server, login, None, 0.3, database)
            try:
                await line.ask([("EVAL", "return 1", 0)], 0.3)
            finally:
                line.close()
    assert "s3cret" not in f"{raised.value} {raised.value.__cause__}"
    return raised.value


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
        ("ERR max number of clients reached", "has too many clients"),
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
        ("NOPERM this user has no permissions to run the 'eval' command", "the rule in the README"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "OOM command not allowed"),
        (
            "ERR Error running script (call to f_12): @user_script:3: -OOM command not allowed",
            "`maxmemory` is too small",
        ),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", "somebody else writes to keys of ours"),
        ("MISCONF Redis is configured to save RDB snapshots", "cannot write its own files"),
        ("ERR user_script:1: Script attempted", "the store refuses: ERR user_script:1: Script attempted"),
        ("", "an error without words"),
    ],
)
async def test_what_does_not_is_refused(answer: str, text: str) -> None:
    error = await told(b"-%s\r\n" % answer.encode())
    assert isinstance(error, StoreRefused)
    assert text in str(error)


async def test_an_error_inside_an_answer_is_one() -> None:
    assert isinstance(await told(b"*2\r\n:1\r\n*1\r\n-LOADING now\r\n"), StoreUnavailable)


async def test_keys_that_have_moved_name_their_place() -> None:
    error = await told(b"-MOVED 3999 10.0.0.1:6381\r\n")
    assert isinstance(error, Moved)
    assert error.server == Server("10.0.0.1", 6381)


async def test_keys_that_have_moved_to_another_port_of_the_same_host() -> None:
    error = await told(b"-MOVED 3999 :6381\r\n")
    assert isinstance(error, Moved)
    assert error.server == Server("127.0.0.1", 6381)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("WRONGPASS invalid username-password pair or user is disabled.", "does not accept the name and password"),
        ("ERR AUTH <password> called without any password configured for the default user.", "has no password"),
        (
            "ERR unknown command `AUTH`, with args beginning with: `u`, `s3cret`",
            "does not accept the name and password",
        ),
    ],
)
async def test_a_login_that_fails_repeats_nothing(answer: str, text: str) -> None:
    error = await told(b"-%s\r\n" % answer.encode(), login=SECRET)
    assert isinstance(error, StoreRefused)
    assert text in str(error)


async def test_too_many_clients_pass_at_the_login_too() -> None:
    assert isinstance(await told(b"-ERR max number of clients reached\r\n", login=SECRET), StoreUnavailable)


async def test_a_database_that_is_not_there() -> None:
    error = await told(b"-ERR DB index is out of range\r\n", database=99)
    assert "has no database 99" in str(error)
    assert "asks for a password" in str(await told(b"-NOAUTH Authentication required.\r\n", database=1))


async def test_an_answer_that_does_not_come() -> None:
    error = await told(None)
    assert isinstance(error, StoreUnavailable)
    assert "within 0.3 s" in str(error)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"*1000000000000000000000\r\n"])
async def test_something_else_that_answers(answer: bytes) -> None:
    assert "is no Redis or Valkey" in str(await told(answer))


async def test_nobody_there() -> None:
    with socket.socket() as taken:  # bound, and not listening
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(StoreUnavailable, match="Connection refused"):
            await Line.open(Server(*taken.getsockname()), Login(), None, 5.0)


async def test_no_such_host(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    with pytest.raises(StoreUnavailable, match=r"no connection to the store at `host.invalid:1`: Name or service"):
        await Line.open(Server("host.invalid", 1), Login(), None, 10.0)


async def test_a_server_that_hangs_up() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        line = await Line.open(Server(*server.sockets[0].getsockname()), Login(), None, 5.0)
        with pytest.raises(StoreUnavailable):
            await line.ask([("PING",)], 5.0)
        assert not line.open_still
        line.close()


async def test_a_password_file_is_read_for_each_connection(tmp_path: Path) -> None:
    file = tmp_path / "password"
    async with answering(b"+OK\r\n") as (server,):
        for password in ("one", "two"):
            file.write_text(f"{password}\n")
            (await Line.open(server, Login(password_file=file), None, 5.0)).close()
    assert server.received == [[b"*2\r\n$4\r\nAUTH\r\n$3\r\n%s\r\n" % word] for word in (b"one", b"two")]


async def test_a_password_file_that_cannot_be_read(tmp_path: Path) -> None:
    async with answering(b"+OK\r\n") as (server,):
        with pytest.raises(StoreRefused, match=r"password file `.*gone` cannot be read: No such file"):
            await Line.open(server, Login(password_file=tmp_path / "gone"), None, 5.0)


@pytest.mark.parametrize("name", ["ca", "cert"])
def test_certificates_that_cannot_be_used(name: str, tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("no certificate")
    for path in (nonsense, tmp_path / "gone.pem"):
        with pytest.raises(StoreRefused, match="cannot be used"):
            security(Tls(**{name: path}))
