"""Virtual environments outside the tree, each built once from a hashed lock file.

An engine or a client library brings its own pins, which must not meet the proxy's. Each gets an environment of its own
in the user's cache, so that a fresh clone, or `git clean`, does not download gigabytes again.

Its folder is named for what it is built from, so that two checkouts with different locks do not take it from each
other. It is finished when its marker says so, which is written last: an interrupted build starts over from nothing.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

MARKER = ".complete"


def cache_root() -> Path:
    """Where environments live: `SPILLWAY_CACHE`, else `spillway` in the user's cache folder."""
    if chosen := os.environ.get("SPILLWAY_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spillway"


def environment(name: str, sources: list[Path], build: Callable[[Path], None]) -> Path:
    """The folder of environment `name`, built from `sources` by `build(folder)` if it is missing or unfinished.

    Two processes asking at once build it once: the second waits for the first.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache_root() / f"{name}-py{version}-{digest(sources)}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_name(folder.name + ".lock")):
        if not finished(folder):
            print(f"building {folder}", flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            venv.create(folder, with_pip=False, symlinks=True)
            build(folder)
            (folder / MARKER).touch()
    return folder


def digest(sources: list[Path]) -> str:
    """Twelve hex digits that tell these files from others."""
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:12]


def finished(folder: Path) -> bool:
    """Whether `folder` was built to the end, by a Python that is still there."""
    return (folder / MARKER).is_file() and python_of(folder).exists()


def python_of(folder: Path) -> Path:
    return folder / "bin" / "python"


def site_packages(folder: Path) -> Path:
    return next((folder / "lib").glob("python3*")) / "site-packages"


def pip_install(folder: Path, *arguments: str | Path) -> None:
    """Installs into `folder` with the calling environment's own pip, which therefore needs to be nowhere else."""
    subprocess.run([*PIP, "--python", python_of(folder), "install", *QUIET, *arguments], check=True)


def pip_install_locked(folder: Path, lock: Path) -> None:
    pip_install(folder, "--no-deps", "--require-hashes", "--requirement", lock)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock on `path`; the kernel lets go of it when the process dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


PIP = [sys.executable, "-m", "pip"]
QUIET = ["--quiet", "--quiet", "--disable-pip-version-check", "--no-input", "--no-warn-script-location"]
