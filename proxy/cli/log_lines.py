"""Opens a request log for the verbs that read one: as it is written, or as rotation has compressed it."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path


def log_lines(path: Path) -> Iterator[bytes]:
    """The lines of the log at `path`, unpacked if it ends in `.gz`. Raises OSError, for a broken archive too."""
    if path.suffix != ".gz":
        with path.open("rb") as lines:
            yield from lines
        return
    try:
        with gzip.open(path, "rb") as lines:
            yield from lines
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise OSError(0, "the archive is cut off or damaged", str(path)) from None
