"""The lines of a log, packed or not."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from proxy.cli.log_lines import log_lines

LINES = [b'{"event": "request"}\n', b"another\n"]


def test_a_log_is_read_as_it_is_written_and_as_rotation_packs_it(tmp_path: Path) -> None:
    plain, packed = tmp_path / "log", tmp_path / "log.20261122T120000000Z.gz"
    plain.write_bytes(b"".join(LINES))
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert list(log_lines(plain)) == list(log_lines(packed)) == LINES


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-12], lambda data: b"no archive", lambda data: data[:12] + b"x" * 9]
)
def test_a_damaged_archive_says_so(tmp_path: Path, damage: object) -> None:
    packed = tmp_path / "log.gz"
    packed.write_bytes(damage(gzip.compress(b"".join(LINES) * 99)))  # type: ignore[operator]
    with pytest.raises(OSError, match="cut off or damaged"):
        list(log_lines(packed))
