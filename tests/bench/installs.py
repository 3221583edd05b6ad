"""What a benchmark needs on the machine: the C tools, compiled, and each Python peer in an environment of its own.

Everything is kept in the user's cache folder, keyed by what it was made from, so a second run starts at once.
"""

# ruff: noqa: T201 - a command prints
from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spillway" / "bench"


class MissingError(Exception):
    """Something a measurement needs is not there. The message says what, and how to get it."""


def program(name: str, *, package: str) -> str:
    """The path of a program that the distribution provides, also when the PATH leaves out the system folders."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
    if not found:
        raise MissingError(f"`{name}` is not installed; try: apt-get install {package}")
    return found


def compiled(source: str) -> str:
    """The path of one of the C tools beside this file, compiled when its text has changed."""
    path = HERE / source
    binary = CACHE / f"{path.stem}-{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
    if not binary.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        fresh = binary.with_suffix(f".{os.getpid()}")
        _run([program("gcc", package="gcc libc6-dev"), "-O2", "-Wall", "-o", str(fresh), str(path), "-lm"], what=source)
        fresh.rename(binary)
    return str(binary)


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that a benchmark runs something with, and how it was built: optimised builds are 15-20 % faster here."""

    path: str
    base: str
    version: str
    optimised: str
    loop_ms: float

    @classmethod
    def at(cls, path: str) -> Interpreter:
        return cls(path=path, **json.loads(_run([path, str(HERE / "interpreter.py")], what=path)))

    def __str__(self) -> str:
        return f"{self.version} at {self.path}, optimised build: {self.optimised} (a fixed loop: {self.loop_ms:.0f} ms)"


def peer(name: str, requirement: str, interpreter: Interpreter) -> Path:
    """The `bin` folder of an environment with one Python peer in it, installed on the first call."""
    made_from = hashlib.sha256(f"{requirement} {interpreter.base} {interpreter.version}".encode()).hexdigest()[:12]
    folder = CACHE / f"{name}-{made_from}"
    complete = folder / "complete"
    if not complete.exists():
        print(f"installing {requirement} into {folder} (once) ...", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        _run([interpreter.base, "-m", "venv", str(folder)], what=f"an environment for {name}")
        _run([str(folder / "bin/python"), "-m", "pip", "install", "--quiet", requirement], what=requirement)
        complete.touch()
    return folder / "bin"


def _run(command: list[str], *, what: str) -> str:
    """Run to the end; a failure becomes a MissingError that ends in the program's own last words."""
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except OSError as error:
        raise MissingError(f"could not make {what}: {error}") from error
    except subprocess.CalledProcessError as error:
        last_words = (error.stderr.strip() or error.stdout.strip()).rpartition("\n")[2]
        raise MissingError(f"could not make {what}: {last_words}") from error
