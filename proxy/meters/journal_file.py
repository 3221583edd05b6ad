"""The file under a journal: made whole, locked by its owner for as long as it lives, mapped into memory.

Theory of operation
-------------------
A file is made under a name that nobody looks for, locked, allocated and given its header, and only then gets its name:
who finds a journal that is not locked has found a dead owner's. The lock (flock(2)) goes with the process, however it
ends. Where a file system has no locks, nobody could ever tell, so there is no journal either.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import secrets
import stat
from io import FileIO
from pathlib import Path

from proxy.meters.journal_format import MAX_FILE_BYTES, arena_at, header

PREFIX = "journal-"
UNFINISHED = ".unfinished-"
_ZEROS = bytes(1 << 20)
_TRIES = 5
"""A process that cleans up may take a file for a dead one's, in the instant between its making and its locking."""
_NO_FALLOCATE = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}


class JournalFile:
    """An open journal file of one's own. Raises OSError when it cannot be made."""

    def __init__(self, folder: Path, slot: str, attempts: int, arena_bytes: int) -> None:
        size = arena_at(attempts) + arena_bytes
        if size > MAX_FILE_BYTES:
            raise OSError(errno.EFBIG, f"it would have {size} bytes, and {MAX_FILE_BYTES} are the most")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = folder / f"{PREFIX}{slot}-{secrets.token_hex(4)}"
        self._handle, unfinished = _begun(folder)
        try:
            _allocate(self._handle, size)
            self._map = mmap.mmap(self._handle, size)
            self.view = memoryview(self._map)
            written = header(attempts, arena_bytes)
            self.view[: len(written)] = written
            unfinished.rename(self.path)
        except OSError:
            os.close(self._handle)
            unfinished.unlink(missing_ok=True)
            raise

    @property
    def removed(self) -> bool:
        """Whether somebody has deleted it under us."""
        return os.fstat(self._handle).st_nlink == 0

    def flush(self) -> None:
        """Wait until the disk has it. Raises OSError."""
        # Not mmap.flush: that may hold the interpreter's lock for as long as the disk takes. Linux writes out what was
        # changed through a mapping with fsync(2) as well.
        os.fsync(self._handle)

    def close(self, *, remove: bool) -> None:
        """Let go of it, and of its lock."""
        if remove:
            self.path.unlink(missing_ok=True)
        self.view.release()
        self._map.close()
        os.close(self._handle)


def claim(path: Path) -> FileIO | None:
    """Lock a file that somebody else has made, until it is closed. None while its owner lives, or if it is gone.

    Raises OSError for what is no plain file, or cannot be opened or locked.
    """
    try:
        file = FileIO(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "r")
    except FileNotFoundError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no plain file")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError:
        file.close()
        raise
    # Between our opening it and locking it another may have removed it.
    if os.fstat(file.fileno()).st_nlink:
        return file
    file.close()
    return None


def _begun(folder: Path) -> tuple[int, Path]:
    """A new file that is ours alone, under a name that tells that it is not a journal yet."""
    for _ in range(_TRIES):
        path = folder / f"{UNFINISHED}{secrets.token_hex(8)}"
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            continue
        except OSError:
            os.close(handle)
            path.unlink(missing_ok=True)
            raise
        if os.fstat(handle).st_nlink:
            return handle, path
        os.close(handle)
    raise OSError(errno.EBUSY, "others remove the file before it can be locked")


def _allocate(handle: int, size: int) -> None:
    """Take all the room now: a page of a mapping for which the disk has none left is SIGBUS, and the end."""
    try:
        os.posix_fallocate(handle, 0, size)
    except (AttributeError, OSError) as error:  # macOS has no such call, and some file systems
        if isinstance(error, OSError) and error.errno not in _NO_FALLOCATE:
            raise
        for at in range(0, size, len(_ZEROS)):
            os.pwrite(handle, _ZEROS[: size - at], at)
