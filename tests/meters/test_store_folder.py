"""Who owns a store folder, and how its socket is reached."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from proxy.meters.store_folder import MAX_SOCKET_PATH_BYTES, StoreFolder


def made(data_dir: Path) -> StoreFolder:
    folder = StoreFolder(data_dir)
    folder.create()
    return folder


def test_one_owner_at_a_time(tmp_path: Path) -> None:
    first, second = made(tmp_path), made(tmp_path)
    assert first.own() is None
    assert first.own() is None
    assert second.own() == os.getpid()
    first.release()
    assert second.own() is None
    second.release()


def test_the_lock_of_a_dead_owner_is_free(tmp_path: Path) -> None:
    folder = made(tmp_path)
    script = (
        "import os, sys; from pathlib import Path; from proxy.meters.store_folder import StoreFolder; "
        "folder = StoreFolder(Path(sys.argv[1])); assert folder.own() is None; os.kill(os.getpid(), 9)"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, timeout=30)
    assert ended.returncode == -9
    assert folder.own() is None
    folder.release()


def test_the_server_s_lock_lives_with_whoever_inherited_it(tmp_path: Path) -> None:
    folder = made(tmp_path)
    lock = folder.server_lock()
    assert lock is not None
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(lock,)) as heir:
        os.close(lock)
        assert folder.server_lock() is None
        heir.communicate(b"", timeout=30)
    free = folder.server_lock()
    assert free is not None
    os.close(free)


def test_a_short_path_is_used_as_it_is_and_a_long_one_through_a_link(tmp_path: Path) -> None:
    short = made(Path("/tmp") / tmp_path.name / "x") if len(str(tmp_path)) > 60 else made(tmp_path)
    assert short.socket == short.path / "valkey.sock"
    deep = made(tmp_path / ("d" * 120))
    link = deep.socket
    assert len(os.fsencode(link)) <= MAX_SOCKET_PATH_BYTES
    assert link.parent.resolve() == deep.path
    assert deep.socket == link
    deep.release()
    assert not link.parent.parent.exists()
    assert deep.path.is_dir()
