"""Reads the texts of a policy: one YAML file, or a folder of them as Kubernetes mounts a ConfigMap.

Theory of operation
-------------------
The only module of the policy that touches the disk. A folder contributes its `*.yaml` and `*.yml` files in the order of
their names; names that begin with a dot (`..data` and the dated folders of a ConfigMap mount among them) and
`*.test.yaml`, which hold policy tests, are passed over; symbolic links are followed. The digest is reproducible with
coreutils: `sha256sum policy.yaml` for a file, `sha256sum *.yaml | sha256sum` inside a folder.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from proxy.policy.checks import Check
from proxy.policy.problem import PolicyError, Problem

MAX_FILE_BYTES = 8 << 20  # eight times the largest ConfigMap: sixty thousand tenants; a larger file is a mistake
SUFFIXES = (".yaml", ".yml")
_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
TEST_SUFFIXES = (".test.yaml", ".test.yml")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file's decoded text; `path` is spelled as problems will show it."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Sign:
    """What the file system says of one file: which it is (device, inode), and its size and times in nanoseconds.

    Both are empty for a file that cannot be asked about.
    """

    path: str
    identity: tuple[int, ...]
    state: tuple[int, ...]


Signs = tuple[Sign, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """All texts of one policy. `digest` is the SHA-256 over them, hex."""

    path: str
    files: tuple[SourceFile, ...]
    digest: str


def read_source(path: Path) -> Source:
    """Read the file or folder at `path`; raises `PolicyError` with every file that could not be read."""
    try:
        paths = _files_of(path) if path.is_dir() else [path]
    except OSError as error:
        raise PolicyError((_unreadable(path, error),)) from None
    if not paths:
        hint = "put at least one `*.yaml` file there, or name a file"
        raise PolicyError((Problem(str(path), 0, 0, "folder has no policy files", hint, Check.UNREADABLE_FILE),))
    problems: list[Problem] = []
    files: list[SourceFile] = []
    digests: list[str] = []
    for one in paths:
        read = _read_file(one)
        if isinstance(read, Problem):
            problems.append(read)
        else:
            data, text = read
            files.append(SourceFile(str(one), text))
            digests.append(hashlib.sha256(data).hexdigest())
    if problems:
        raise PolicyError(tuple(problems))
    return Source(str(path), tuple(files), _digest(path, paths, digests))


def line_and_column(before: str) -> tuple[int, int]:
    """Where a text goes on that begins with `before`, both from 1; lines end where YAML 1.1 says, as libyaml counts."""
    lines = _LINE_BREAK.split(before)
    return len(lines), len(lines[-1]) + 1


def read_signs(path: Path) -> Signs:
    """What can be known of the policy's files without reading them; never raises."""
    try:
        paths = _files_of(path) if path.is_dir() else [path]
    except OSError:
        return ()
    return tuple([_sign(one) for one in paths])


def _sign(path: Path) -> Sign:
    try:
        found = path.stat()
    except OSError:
        return Sign(str(path), (), ())
    return Sign(str(path), (found.st_dev, found.st_ino), (found.st_size, found.st_mtime_ns, found.st_ctime_ns))


def _files_of(folder: Path) -> list[Path]:
    def wanted(path: Path) -> bool:
        name = path.name
        return name.endswith(SUFFIXES) and not name.startswith(".") and not name.endswith(TEST_SUFFIXES)

    return sorted(path for path in folder.iterdir() if wanted(path) and not path.is_dir())


def _read_file(path: Path) -> tuple[bytes, str] | Problem:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        return _unreadable(path, error)
    decoded = decode(str(path), data)
    return decoded if isinstance(decoded, Problem) else (data, decoded.text)


def decode(path: str, data: bytes) -> SourceFile | Problem:
    """The text that `data` holds."""
    if len(data) > MAX_FILE_BYTES:
        message = f"file is larger than {MAX_FILE_BYTES >> 20} MiB"
        return Problem(path, 0, 0, message, "is this the policy?", Check.UNREADABLE_FILE)
    try:
        return SourceFile(path, data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line, column = line_and_column(data[: error.start].decode("utf-8-sig"))
        return Problem(path, line, column, "file is not valid utf-8", "save it as utf-8", Check.UNREADABLE_FILE)


def _unreadable(path: Path, error: OSError) -> Problem:
    reason = (error.strerror or type(error).__name__).lower()
    hint = "`--policy` names a YAML file or a folder of them" if isinstance(error, FileNotFoundError) else ""
    return Problem(str(path), 0, 0, f"cannot be read: {reason}", hint, Check.UNREADABLE_FILE)


def _digest(path: Path, paths: list[Path], digests: list[str]) -> str:
    if paths == [path]:
        return digests[0]
    listing = "".join(f"{digest}  {one.name}\n" for one, digest in zip(paths, digests, strict=True))
    return hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()
