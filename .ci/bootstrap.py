"""Fills .venv with exactly what requirements-dev.lock names, every file checked against its hash.

It runs before anything is installed, so it is standard library only. pip installs uv, and uv the rest: 8 s for what
takes the pip of Debian 12 44 s. Where uv fails and pip may not (an index that only pip's settings name, say), pip does
it all.
A Python without `ensurepip` (Debian's, before `apt install python3-venv`) runs pip straight from its wheel.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "spillway-setup.json"
LOCK = ROOT / "requirements-dev.lock"
INDEX = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/")
CHECKED = ["--require-hashes", "--only-binary", ":all:", "-r"]
PROJECT = ["--no-deps", "--no-build-isolation", "--no-index", "--editable", str(ROOT)]


def main() -> int:
    """Install unless the stamp says that nothing has changed since the last time."""
    if sys.prefix != sys.base_prefix:  # an environment is active: build on the Python below it, which will outlive it
        os.execv(sys._base_executable, [sys._base_executable, *sys.argv])
    inputs = {"root": str(ROOT)} | {path.name: digest(path) for path in (LOCK, ROOT / "pyproject.toml")}
    old = stamp()
    if old.get("inputs") == inputs and runs(PYTHON) and os.environ.get("PYTHON", "") in ("", old.get("asked_for")):
        return 0
    started_s = time.monotonic()
    version = ".".join(map(str, sys.version_info[:3]))
    print(f"setup: installing into {VENV.name}/ with Python {version} ({sys.executable})", flush=True)
    STAMP.unlink(missing_ok=True)
    install()
    STAMP.write_text(json.dumps({"inputs": inputs, "asked_for": os.environ.get("PYTHON", "")}))
    print(f"setup: done in {time.monotonic() - started_s:.0f} s", flush=True)
    return 0


def install() -> None:
    """Make the environment afresh and put the lock's packages and the project into it."""
    env = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "UV_SYSTEM_CERTS": "1", "UV_NO_CONFIG": "1"}
    env.pop("VIRTUAL_ENV", None)
    if "PIP_INDEX_URL" in env:
        env.setdefault("UV_DEFAULT_INDEX", env["PIP_INDEX_URL"])
    if VENV.exists():
        shutil.rmtree(VENV)
    with tempfile.TemporaryDirectory() as scratch:
        venv.create(VENV, symlinks=True, with_pip=find_spec("ensurepip") is not None)
        pip = [str(PYTHON), "-m", "pip"] if find_spec("ensurepip") else [str(PYTHON), fetch_pip(Path(scratch))]
        installer = Path(scratch) / "uv.lock"
        installer.write_text(locked("uv"))
        try:
            call([*pip, "install", "-q", *CHECKED, str(installer)], env)
            uv = [str(VENV / "bin" / "uv"), "pip"]
            call([*uv, "sync", "-q", "--python", str(PYTHON), "--compile-bytecode", *CHECKED[:-1], str(LOCK)], env)
            call([*uv, "install", "-q", "--python", str(PYTHON), *PROJECT], env)
        except subprocess.CalledProcessError as failed:
            print(f"setup: uv ended with status {failed.returncode}; trying pip alone", flush=True)
            call([*pip, "install", "-q", *CHECKED, str(LOCK)], env)
            call([*pip, "install", "-q", *PROJECT], env)


def fetch_pip(folder: Path) -> str:
    """Download the locked pip and return a path that Python runs as a program; its hash must be in the lock."""
    entry = locked("pip")
    version = re.match(r"pip==(\S+)", entry)[1]
    name = f"pip-{version}-py3-none-any.whl"
    ask = urllib.request.Request(f"{INDEX}/pip/", headers={"Accept": "application/vnd.pypi.simple.v1+json"})
    with urllib.request.urlopen(ask, timeout=60) as page:
        url = next(file["url"] for file in json.load(page)["files"] if file["filename"] == name)
    with urllib.request.urlopen(url, timeout=60) as reply:
        wheel = folder / name
        wheel.write_bytes(reply.read())
    if f"--hash=sha256:{digest(wheel)}" not in entry:
        raise SystemExit(f"setup: `{url}` is not the file that {LOCK.name} names")
    return str(wheel / "pip")


def locked(package: str) -> str:
    """The lines of the lock that pin one package, hashes and all."""
    found = re.search(rf"^{package}==.*(?:\n +--hash=.*)+", LOCK.read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit(f"setup: {LOCK.name} does not name `{package}`; run `make lock`")
    return found[0] + "\n"


def stamp() -> dict[str, object]:
    return json.loads(STAMP.read_text()) if STAMP.exists() else {}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def runs(python: Path) -> bool:
    """Whether the interpreter still works: the Python below an environment may have been removed."""
    return python.exists() and subprocess.run([python, "-c", ""], check=False).returncode == 0


def call(command: list[str], env: dict[str, str]) -> None:
    subprocess.run(command, check=True, cwd=ROOT, env=env, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
