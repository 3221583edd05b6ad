"""Environments are built once, and never taken for finished when they are not."""

from pathlib import Path

import pytest

from tests.engine.environment import environment, python_of


class Build:
    """Counts how often it is asked to build, and may fail."""

    def __init__(self) -> None:
        self.count = 0
        self.fails = False

    def __call__(self, folder: Path) -> None:
        self.count += 1
        (folder / "half-done").touch()
        if self.fails:
            raise KeyboardInterrupt


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPILLWAY_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "thing.lock"
    path.write_text("thing==1.0")
    return path


def test_environment_is_built_once(lock: Path) -> None:
    build = Build()
    first = environment("thing", [lock], build)
    assert environment("thing", [lock], build) == first
    assert (build.count, python_of(first).exists()) == (1, True)


def test_interrupted_build_starts_over_from_nothing(lock: Path) -> None:
    build = Build()
    build.fails = True
    with pytest.raises(KeyboardInterrupt):
        environment("thing", [lock], build)
    build.fails = False
    seen: list[bool] = []

    def again(folder: Path) -> None:
        seen.append((folder / "half-done").exists())

    environment("thing", [lock], again)
    assert seen == [False]


def test_changed_lock_is_built_beside_the_old_one(lock: Path) -> None:
    build = Build()
    first = environment("thing", [lock], build)
    lock.write_text("thing==2.0")
    assert environment("thing", [lock], build) != first
    assert build.count == 2
