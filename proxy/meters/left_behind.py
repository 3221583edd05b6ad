"""The journals of processes that are dead: what they had counted, and what they were in the midst of.

Theory of operation
-------------------
Several processes share the folder. A journal whose lock can be taken has no owner any more, and whoever takes the lock
first sees to it; the others pass it by. Its counts go to the store under the dead process's own slot, where only what
is greater counts, so it does no harm to do it twice; then `forget` removes the file. Who dies before that leaves it to
the next.

What cannot be read is moved aside, as `<name>.broken`, for a person to look at: it never keeps a proxy from starting.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from proxy.meters import journal_format
from proxy.meters.journal_file import PREFIX, UNFINISHED, claim
from proxy.meters.journal_format import HEADER_BYTES, Open, Unreadable

BROKEN = ".broken"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What one dead process has left. It is ours until `forget` or `put_back`.

    `cells` are, by kind and name, the latest values of what the store may lack; `acknowledged` of what it had. `open`
    are the attempts that were in flight. `at_ms` is when the process was last alive, Unix time in milliseconds: by
    the store's clock where it had heard of that, else by this machine's.
    """

    path: Path
    slot: str
    cells: Mapping[tuple[str, str], tuple[int, ...]]
    acknowledged: Mapping[tuple[str, str], tuple[int, ...]]
    open: tuple[Open, ...]
    at_ms: int
    damaged: int
    file: FileIO

    def forget(self) -> None:
        """Remove the file: its content is safe in the store."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("the journal `%s` is settled, but cannot be removed: %s", self.path, error.strerror)
        self.file.close()

    def put_back(self) -> None:
        """Leave the file to somebody else, or to a later start."""
        self.file.close()


def recover(folder: Path) -> tuple[Left, ...]:
    """What the dead have left in `folder`; nothing where there is no such folder. Never raises for what it finds."""
    try:
        paths = sorted(folder.iterdir())
    except FileNotFoundError:
        return ()
    except OSError as error:
        _log.warning("no look at the journals in `%s`: %s", folder, error.strerror)
        return ()
    return tuple(left for left in map(_seen_to, paths) if left is not None)


def _seen_to(path: Path) -> Left | None:
    unfinished = path.name.startswith(UNFINISHED)
    if not unfinished and (not path.name.startswith(PREFIX) or path.name.endswith(BROKEN)):
        return None
    try:
        file = claim(path)
        if file is None:
            return None
        if not unfinished:
            return _read(path, file)
        # Its maker is dead; or about to lock it, and will find it gone.
        path.unlink(missing_ok=True)
        file.close()
    except OSError as error:
        _log.warning("the journal `%s` cannot be seen to: %s", path, error.strerror)
    return None


def _read(path: Path, file: FileIO) -> Left | None:
    try:
        _, size = journal_format.sizes(file.read(HEADER_BYTES))
        file.seek(0)
        # One byte more than it should have tells a longer file from a whole one.
        contents = journal_format.read(file.read(size + 1))
    except (Unreadable, OSError) as error:
        _set_aside(path, str(error))
        file.close()
        return None
    if contents.damaged:
        _log.warning("in the journal `%s`, cells that cannot be read: %d; the others are whole", path, contents.damaged)
    return Left(
        path=path,
        slot=contents.slot,
        cells=contents.cells,
        acknowledged=contents.acknowledged,
        open=contents.open,
        at_ms=contents.at_ms or int(os.fstat(file.fileno()).st_mtime * 1000),
        damaged=contents.damaged,
        file=file,
    )


def _set_aside(path: Path, why: str) -> None:
    aside = path.with_name(path.name + BROKEN)
    _log.error("the journal `%s` cannot be read: %s; moving it aside to `%s`", path, why, aside.name)
    try:
        path.rename(aside)
    except OSError as error:
        _log.warning("the journal `%s` cannot be moved aside: %s", path, error.strerror)
