"""Where the embedded store keeps its files, and how sizes are written."""

from __future__ import annotations

from pathlib import Path

import pytest
from proxy.settings import data_dir, size_bytes


def test_the_named_folder_comes_first() -> None:
    assert data_dir({"SPILLWAY_DATA_DIR": "/srv/spillway", "XDG_DATA_HOME": "/data"}) == Path("/srv/spillway")


def test_else_the_users_data_folder() -> None:
    assert data_dir({"XDG_DATA_HOME": "/data"}) == Path("/data/spillway")


@pytest.mark.parametrize("env", [{}, {"SPILLWAY_DATA_DIR": "", "XDG_DATA_HOME": ""}])
def test_else_where_that_usually_is(env: dict[str, str]) -> None:
    assert data_dir(env) == Path.home() / ".local" / "share" / "spillway"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("1kB", 1000),
        ("2KB", 2000),
        ("100MiB", 104_857_600),
        ("1 GB", 10**9),
        ("7B", 7),
        ("1GiB", 2**30),
    ],
)
def test_a_size(text: str, size: int) -> None:
    assert size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "0", "MiB", "-1", "1.5MB", "1TB", "1mib", "1 0"])
def test_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        size_bytes(text)
