"""Where the embedded store keeps its files, and how sizes are written."""

from __future__ import annotations

from pathlib import Path

import pytest
from proxy.settings import Settings, admin_token, data_dir, size_bytes


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


@pytest.mark.parametrize(
    ("given", "token"),
    [(None, None), ("", None), (" \n", None), ("s3cret", "s3cret"), ("s3cret\n", "s3cret"), ("a-b._~+/=", "a-b._~+/=")],
)
def test_the_admin_token(given: str | None, token: str | None) -> None:
    assert admin_token({} if given is None else {"SPILLWAY_ADMIN_TOKEN": given}) == token


@pytest.mark.parametrize("given", ["two words", "line\nbreak", "ümlaut", "nul\0"])
def test_a_token_that_no_header_can_carry(given: str) -> None:
    with pytest.raises(ValueError, match="no header can carry") as refused:
        admin_token({"SPILLWAY_ADMIN_TOKEN": given})
    assert given not in str(refused.value)


def test_settings_that_are_printed_hold_no_token() -> None:
    assert "s3cret" not in repr(Settings(policy=Path("p.yaml"), admin_token="s3cret"))
