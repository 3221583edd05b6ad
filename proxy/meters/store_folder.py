"""The folder that the embedded store lives in: who owns it, and how its socket is reached.

Theory of operation
-------------------
`<data folder>/store/`, readable by its owner only, holds the append-only file, the server's log, its Unix socket and
two locks (flock(2): the kernel lets go of them when the holder dies, however it dies):

    owner.lock    held by the one proxy that runs the embedded store; it names that process
    server.lock   inherited by the server itself, so it is free exactly when no server is left on these files

A Unix socket's path has room for about a hundred bytes (sun_path, unix(7)). A deeper folder is reached through a
symbolic link in the temporary folder.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

SOCKET = "valkey.sock"
LOG = "valkey.log"
MAX_SOCKET_PATH_BYTES = 100


class StoreFolder:
    """One store folder, below a data folder. Nothing is made or locked until asked."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir.resolve() / "store"
        self._owner: int | None = None
        self._link: Path | None = None

    @property
    def log(self) -> Path:
        """Where the server writes what it has to say."""
        return self.path / LOG

    @property
    def socket(self) -> Path:
        """Where the server listens, by a path short enough for a socket. The link it may need lasts until `release`."""
        direct = self.path / SOCKET
        if len(os.fsencode(direct)) <= MAX_SOCKET_PATH_BYTES:
            return direct
        if self._link is None:
            self._link = Path(tempfile.mkdtemp(prefix="spillway-")) / "store"
            self._link.symlink_to(self.path)
        return self._link / SOCKET

    def create(self) -> None:
        """Make the folder, for its owner only. Raises OSError."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)

    def own(self) -> int | None:
        """Become the owner. None on success, else the present owner's process id (0 when it is not known)."""
        if self._owner is not None:
            return None
        handle = os.open(self.path / "owner.lock", os.O_RDWR | os.O_CREAT, 0o600)
        if not _lock(handle):
            owner = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
            os.close(handle)
            return int(owner) if owner.isdigit() else 0
        os.ftruncate(handle, 0)
        os.pwrite(handle, b"%d\n" % os.getpid(), 0)
        self._owner = handle
        return None

    def server_lock(self) -> int | None:
        """The server's lock, as a file descriptor to be handed to it and then closed; None while a server holds it."""
        handle = os.open(self.path / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
        if _lock(handle):
            return handle
        os.close(handle)
        return None

    def release(self) -> None:
        """Stop owning the folder, and remove the link to it. Its data stays."""
        if self._link is not None:
            shutil.rmtree(self._link.parent, ignore_errors=True)
            self._link = None
        if self._owner is not None:
            os.close(self._owner)
            self._owner = None


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
