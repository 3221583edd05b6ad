"""Where the embedded store keeps its files."""

from __future__ import annotations

from pathlib import Path

import pytest
from proxy.settings import data_dir


def test_the_named_folder_comes_first() -> None:
    assert data_dir({"SPILLWAY_DATA_DIR": "/srv/spillway", "XDG_DATA_HOME": "/data"}) == Path("/srv/spillway")


def test_else_the_users_data_folder() -> None:
    assert data_dir({"XDG_DATA_HOME": "/data"}) == Path("/data/spillway")


@pytest.mark.parametrize("env", [{}, {"SPILLWAY_DATA_DIR": "", "XDG_DATA_HOME": ""}])
def test_else_where_that_usually_is(env: dict[str, str]) -> None:
    assert data_dir(env) == Path.home() / ".local" / "share" / "spillway"
