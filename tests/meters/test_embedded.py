"""The embedded server: private, tied to its proxy, and careful with its data."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from proxy.meters import embedded as module
from proxy.meters.embedded import EmbeddedStore, FolderInUse, ServerDidNotStart, ServerNotFound
from proxy.meters.part import Moment
from proxy.meters.store import Store
from proxy.meters.store_folder import StoreFolder
from proxy.meters.summary import summarise
from tests.meters.conftest import PATIENCE_S, PROGRAMS, ended, until
from tests.meters.examples import push, pushed
from tests.meters.owner_process import PUSHED, SETTLED

ROOT = Path(__file__).parents[2]


def put(url: str, value: int, slot: str = "one") -> None:
    async def write() -> None:
        store = Store(url, timeout_s=PATIENCE_S)
        await pushed(store, push(slot, force=True, a=value))
        await store.aclose()

    asyncio.run(write())


def get(url: str) -> dict[str, int]:
    async def read() -> dict[str, int]:
        store = Store(url, timeout_s=PATIENCE_S)
        try:
            counters = (await store.read_totals()).counters
            return {name: sum(vector) for name, vector in counters.items()}
        finally:
            await store.aclose()

    return asyncio.run(read())


def requests(data_dir: Path) -> int:
    async def read(url: str) -> int:
        store = Store(url, timeout_s=PATIENCE_S)
        try:
            return summarise(await store.read_totals()).all().get("requests", 0)
        finally:
            await store.aclose()

    with EmbeddedStore(data_dir) as embedded:
        return asyncio.run(read(embedded.url))


def ask(embedded: EmbeddedStore, command: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(embedded.url.removeprefix("unix://"))
            client.sendall(command)
            return client.recv(128)
        except OSError:
            return b""


@contextmanager
def owner(data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """`owner_process` in a process group of its own, as a terminal would start it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.meters.owner_process", str(data_dir)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=30)


def read_until(process: subprocess.Popen[str], word: str) -> list[str]:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.strip())
        if lines[-1] == word:
            return lines
    raise AssertionError(f"ended before it said {word}: {lines}")


@pytest.fixture(params=PROGRAMS, ids=lambda program: program.name)
def program(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_it_starts_at_once_and_leaves_nothing_behind(data_dir: Path, program: Path) -> None:
    began = time.perf_counter()
    embedded = EmbeddedStore(data_dir, program)
    embedded.start()
    took_s = time.perf_counter() - began
    pid = embedded.pid
    assert pid is not None
    put(embedded.url, 1)
    embedded.stop()
    embedded.stop()
    assert ended(pid)
    assert not (data_dir / "store" / "valkey.sock").exists()
    assert took_s < 3.0


async def learning(url: str) -> bool:
    store = Store(url, timeout_s=PATIENCE_S)
    try:
        heard, _ = await store.exchange(Moment("one", 0.0, None), [])
        return heard.learning
    finally:
        await store.aclose()


async def crash(embedded: EmbeddedStore) -> None:
    """Kill the server, and wait for the next one."""
    first = embedded.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: embedded.pid not in (None, first) and ask(embedded, b"PING\r\n") == b"+PONG\r\n")


async def test_who_starts_it_has_forgotten_nothing_but_a_crashed_server_learns(data_dir: Path, program: Path) -> None:
    for _ in range(2):
        embedded = EmbeddedStore(data_dir, program)
        embedded.start()
        try:
            assert not await learning(embedded.url)
            await crash(embedded)
            assert await learning(embedded.url)
        finally:
            embedded.stop()


def test_data_survives_a_stop_whichever_server_comes_next(data_dir: Path) -> None:
    for number, program in enumerate((*PROGRAMS, *PROGRAMS)):
        with EmbeddedStore(data_dir, program) as embedded:
            assert get(embedded.url) == ({"a": number} if number else {})
            put(embedded.url, 1, slot=f"slot{number}")


def test_only_its_owner_can_reach_it(data_dir: Path, program: Path) -> None:
    with EmbeddedStore(data_dir, program) as embedded:
        folder = data_dir / "store"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "valkey.sock").stat().st_mode) == 0o600
        assert embedded.pid is not None
        assert os.getsid(embedded.pid) != os.getsid(0)
        assert ask(embedded, b"CONFIG GET port\r\n") == b"*2\r\n$4\r\nport\r\n$1\r\n0\r\n"


def test_it_sees_nothing_of_our_environment(data_dir: Path, program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = data_dir.parent / "spy"
    spy.write_text(f'#!/bin/sh\nenv > "$0.env"\nexec {program} "$@"\n')
    spy.chmod(0o755)
    monkeypatch.setenv("TOGETHER_API_KEY", "s3cret")
    with EmbeddedStore(data_dir, spy):
        seen = {line.partition("=")[0] for line in (spy.parent / "spy.env").read_text().splitlines()}
    assert "LC_ALL" in seen
    assert seen <= {"PATH", "LD_LIBRARY_PATH", "TMPDIR", "LC_ALL", "PWD", "OLDPWD", "SHLVL", "_"}


def test_a_second_owner_is_refused_with_a_hint(data_dir: Path) -> None:
    with EmbeddedStore(data_dir) as first:
        with pytest.raises(FolderInUse, match=rf"in use by another proxy \(process {os.getpid()}\).*`--redis-url`"):
            EmbeddedStore(data_dir).start()
        assert get(first.url) == {}
    with EmbeddedStore(data_dir):
        pass


def test_a_folder_too_deep_for_a_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    with EmbeddedStore(deep) as embedded:
        put(embedded.url, 5)
        link = Path(embedded.url.removeprefix("unix://"))
        assert len(os.fsencode(link)) <= 100
    assert not link.parent.parent.exists()
    with EmbeddedStore(deep) as embedded:
        assert get(embedded.url) == {"a": 5}


def test_no_program_at_all(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_server", lambda: None)
    with pytest.raises(ServerNotFound, match=r"hint: install one of them, or name a server with `--redis-url`"):
        EmbeddedStore(data_dir).start()


def test_a_program_that_ends_at_once(data_dir: Path) -> None:
    with pytest.raises(ServerDidNotStart, match=r"ended at once: it left no log \(hint: see `.*valkey.log`\)"):
        EmbeddedStore(data_dir, Path("/bin/false")).start()
    with EmbeddedStore(data_dir):
        pass


def test_a_data_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        EmbeddedStore(tmp_path / "file").start()


async def test_a_crashed_server_is_started_again_with_its_data(data_dir: Path, program: Path) -> None:
    embedded = EmbeddedStore(data_dir, program)
    embedded.start()
    store = Store(embedded.url, timeout_s=PATIENCE_S)
    try:
        await pushed(store, push(force=True, a=3))
        await crash(embedded)
        assert (await store.read_totals()).counters == {"a": (3,)}
    finally:
        await store.aclose()
        embedded.stop()


def test_a_torn_last_record_is_dropped(data_dir: Path, program: Path) -> None:
    with EmbeddedStore(data_dir, program) as embedded:
        put(embedded.url, 3)
    log = max((data_dir / "store" / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_size)
    with log.open("ab") as file:
        file.write(b"*3\r\n$4\r\nHSET\r\n$99\r\nhalf a wo")
    with EmbeddedStore(data_dir, program) as embedded:
        assert get(embedded.url) == {"a": 3}


def test_kill_9_of_the_owner_loses_no_more_than_one_sync(data_dir: Path) -> None:
    with owner(data_dir) as process:
        server = int(read_until(process, "settled")[0])
        process.kill()
        process.wait(30)
        assert PUSHED <= requests(data_dir) <= SETTLED
        assert ended(server)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ties the server to its parent on Linux only")
def test_kill_9_of_the_owner_ends_the_server_too(data_dir: Path) -> None:
    with owner(data_dir) as process:
        server = int(read_until(process, "settled")[0])
        process.kill()
        asyncio.run(until(lambda: ended(server)))
    assert not (data_dir / "store" / "valkey.sock").exists()


def test_ctrl_c_reaches_the_server_only_after_the_last_flush(data_dir: Path) -> None:
    with owner(data_dir) as process:
        server = int(read_until(process, "settled")[0])
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.read().split() == ["flushed", "stopping"]
        assert process.wait(30) == 0
        assert ended(server)
    assert requests(data_dir) == SETTLED


def test_a_server_left_behind_is_ended_and_its_data_kept(data_dir: Path, program: Path) -> None:
    """As on systems without the tie: the proxy is gone, its server is not."""
    folder = StoreFolder(data_dir)
    folder.create()
    lock = folder.server_lock()
    assert lock is not None
    orphan = subprocess.Popen(
        [str(program), *EmbeddedStore(data_dir)._arguments()], pass_fds=(lock,), stdout=subprocess.DEVNULL
    )
    os.close(lock)
    try:
        asyncio.run(until(folder.socket.exists))
        url = f"unix://{folder.socket}"
        put(url, 9)
        with EmbeddedStore(data_dir, program) as embedded:
            assert embedded.pid != orphan.pid
            assert orphan.wait(30) == 0
            assert get(embedded.url) == {"a": 9}
    finally:
        orphan.kill()
        orphan.wait(30)


def test_a_server_left_behind_that_does_not_end_is_named(data_dir: Path) -> None:
    folder = StoreFolder(data_dir)
    folder.create()
    lock = folder.server_lock()
    assert lock is not None
    with pytest.raises(ServerDidNotStart, match=r"left behind on `.*` does not end"):
        EmbeddedStore(data_dir).start(timeout_s=0.05)
    os.close(lock)
