"""A folder as the kubelet mounts a ConfigMap and Secrets: written anew, and put in place by the renaming of one link.

The steps, and their order, are those of Kubernetes' `pkg/volume/util/atomic_writer.go`.
"""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

_DATA, _NEW = "..data", "..data_tmp"


class Mounted:
    """What a projected volume shows at `folder`."""

    def __init__(self, folder: Path, files: Mapping[str, str]) -> None:
        self.folder = folder
        self._numbers = itertools.count()
        folder.mkdir()
        self.update(files)

    def update(self, files: Mapping[str, str]) -> float:
        """Bring other files; the moment at which they were in place, on the monotonic clock."""
        data = self.folder / _DATA
        before = data.resolve() if data.is_symlink() else None
        written = self.folder / f"..2026_11_23_02_00_00.{next(self._numbers):09}"
        written.mkdir()
        for name, text in files.items():
            (written / name).write_text(text)
        new = self.folder / _NEW
        new.symlink_to(written.name)
        new.rename(data)
        at = time.monotonic()
        for name in files:
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"{_DATA}/{name}")
        for path in self.folder.iterdir():
            if not path.name.startswith("..") and path.name not in files:
                path.unlink()
        if before is not None:
            shutil.rmtree(before)
        return at
