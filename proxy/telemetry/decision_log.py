"""The decision log: an append-only file of request lines that the processes of a machine share, rotated by themselves.

Theory of operation
-------------------
Every process appends to the same file, a batch of whole lines at a time, under an advisory lock on the file itself
(flock): so lines of two processes never mix, and only one of them rotates. Who has the lock makes sure that the file is
still the one that the path names (it may have been renamed by another process, or by logrotate), that it ends in a line
break (somebody may have been killed while he wrote), and that it has room. What the disk does not take is cut off again
at the end of a line, so a full disk costs lines and tears none.

Rotation renames the file to `<name>.<time>` in UTC. By age, a file holds the lines of one period: it is put away once
its last line is of a period before the present one, which needs no memory and comes to the same in every process.
Rotated files beyond the number to keep are deleted, oldest first; nothing else in the folder is touched.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from proxy.settings import Settings

BATCH_BYTES = 256 * 1024
"""As much as goes out under one lock."""
_MODE = 0o640
_UNWRITTEN = "cannot be written, and its lines are dropped"
_UNROTATED = "cannot be put away, and grows on"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """When a file is put away, how many are kept, and whether they are compressed.

    With `max_age_s`, periods are counted from 1970 in UTC: with 86400 a file ends at midnight.
    """

    max_bytes: int = 100 * 1024 * 1024
    max_age_s: float | None = None
    keep: int = 10
    compress: bool = False


class DecisionLog:
    """Appends lines to the file at `path`. Raises OSError if it is none, or cannot be opened to begin with."""

    def __init__(self, path: Path, rotation: Rotation, clock: Callable[[], float] = time.time) -> None:
        self._path = path.resolve()
        self._rotation = rotation
        self._clock = clock
        self._file: int | None = None
        self._troubles: set[str] = set()
        self._rotated_name = re.compile(re.escape(self._path.name) + r"\.([0-9]{8}T[0-9]{9}Z)(\.gz)?")
        if self._path.exists() and not self._path.is_file():
            raise OSError(errno.EINVAL, "not a file that can be rotated", str(path))
        os.close(self._open())

    def write(self, lines: list[bytes]) -> int:
        """Append the lines; returns how many of them could not be. Whatever the disk does, nothing is raised."""
        lost = 0
        for batch in _batches(lines, min(BATCH_BYTES, self._rotation.max_bytes)):
            try:
                lost += len(batch) - self._append(batch)
            except OSError as error:
                lost += len(batch)
                self._close()
                self._tell(_UNWRITTEN, error)
        if not lost:
            self._troubles.discard(_UNWRITTEN)
        return lost

    def _append(self, lines: list[bytes]) -> int:
        """How many of the lines the disk took."""
        data = b"\n".join([*lines, b""])
        with self._locked() as file:
            due = self._is_due(os.fstat(file), len(data)) and self._put_away()
            if not due:
                return self._write_whole(file, data)
        self._close()
        with self._locked() as file:
            count = self._write_whole(file, data)
        self._tidy()
        return count

    def _write_whole(self, file: int, data: bytes) -> int:
        """Write as many whole lines as there is room for; how many they are."""
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b"\n":
            size += os.write(file, b"\n")
        done = 0
        try:
            while done < len(data):
                done += os.write(file, data[done:])
        except OSError as error:
            done = data.rfind(b"\n", 0, done) + 1
            os.ftruncate(file, size + done)
            self._tell(_UNWRITTEN, error)
        return data.count(b"\n", 0, done)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """The file that the path names at this moment, which nobody else appends to or renames meanwhile."""
        while True:
            if self._file is None:
                self._file = self._open()
            file = self._file
            if not self._is_named(file):
                self._close()
                continue
            fcntl.flock(file, fcntl.LOCK_EX)
            if self._is_named(file):
                break
            self._close()  # and with it the lock
        try:
            yield file
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)

    def _is_named(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), self._path.stat())
        except FileNotFoundError:
            return False

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _is_due(self, found: os.stat_result, more: int) -> bool:
        if not found.st_size:
            return False
        age_s = self._rotation.max_age_s
        if age_s is not None and self._clock() // age_s > found.st_mtime // age_s:
            return True
        return found.st_size + more > self._rotation.max_bytes

    def _put_away(self) -> bool:
        """Rename the file; if that is not possible it grows on, for its lines matter more than its size."""
        at_ms = int(self._clock() * 1000)
        while (target := self._rotated(at_ms)).exists() or target.with_name(f"{target.name}.gz").exists():
            at_ms += 1
        try:
            self._path.rename(target)
        except OSError as error:
            self._tell(_UNROTATED, error)
            return False
        self._troubles.discard(_UNROTATED)
        return True

    def _rotated(self, at_ms: int) -> Path:
        stamp = datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y%m%dT%H%M%S")
        return self._path.with_name(f"{self._path.name}.{stamp}{at_ms % 1000:03d}Z")

    def _tidy(self) -> None:
        """Delete what is beyond the number to keep, and compress the rest if that is wanted, which may take a while."""
        with contextlib.suppress(OSError):
            names = {path: self._rotated_name.fullmatch(path.name) for path in self._path.parent.iterdir()}
            times = {path: match[1] for path, match in names.items() if match is not None}
            kept = frozenset(sorted(set(times.values()))[-self._rotation.keep :])
            for path in [path for path, at in times.items() if at not in kept]:
                path.unlink(missing_ok=True)
            if self._rotation.compress:
                pending = sorted(path for path, at in times.items() if at in kept and path.suffix != ".gz")
                threading.Thread(target=_compress_all, args=(pending,), name="decision-log-gzip", daemon=True).start()

    def _tell(self, trouble: str, error: OSError) -> None:
        """Say it once, until it is over."""
        if trouble not in self._troubles:
            self._troubles.add(trouble)
            _log.warning("the decision log `%s` %s: %s", self._path, trouble, _reason(error))


def opened(settings: Settings) -> DecisionLog | None:
    """The decision log that the settings name, None if they name none. Raises OSError as DecisionLog does."""
    if settings.decision_log is None:
        return None
    rotation = Rotation(
        max_bytes=settings.decision_log_max_bytes,
        max_age_s=settings.decision_log_max_age_s,
        keep=settings.decision_log_keep,
        compress=settings.decision_log_gzip,
    )
    return DecisionLog(settings.decision_log, rotation)


def _batches(lines: list[bytes], max_bytes: int) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for line in lines:
        if batch and size + len(line) >= max_bytes:
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += len(line) + 1
    if batch:
        yield batch


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def _compress_all(paths: list[Path]) -> None:
    for path in paths:
        try:
            compress(path)
        except OSError as error:
            _log.warning("`%s` stays uncompressed: %s", path, _reason(error))


def compress(path: Path) -> None:
    """Put `<path>.gz` in the place of `path`, in one step; does nothing where another process is at it."""
    part = path.with_name(f".{path.name}.gz")
    with part.open("ab") as out:
        try:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(out.fileno()), part.stat()):
                return  # what was opened is the finished archive of another process
        except (BlockingIOError, FileNotFoundError):
            return
        try:
            with path.open("rb") as text:
                _pack(text, out)
            part.replace(path.with_name(f"{path.name}.gz"))
            path.unlink(missing_ok=True)
        except FileNotFoundError:  # another process has done it, or it was too old to keep
            part.unlink(missing_ok=True)
        except OSError:
            part.unlink(missing_ok=True)
            raise


def _pack(text: BinaryIO, out: BinaryIO) -> None:
    out.truncate(0)
    with gzip.GzipFile(filename="", mode="wb", fileobj=out) as packed:
        shutil.copyfileobj(text, packed, 1 << 20)
    out.flush()
    os.fchmod(out.fileno(), os.fstat(text.fileno()).st_mode & 0o777)
