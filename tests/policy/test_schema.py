"""What may stand where."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.policy.policies import messages, two_lanes


@pytest.mark.parametrize("written", ["6", "-1", "yes", "1.5", "true"])
def test_failovers_are_a_few(written: str, tmp_path: Path) -> None:
    (message,) = messages(tmp_path, two_lanes(f"routes: [{{name: r, max_failovers: {written}}}]"))
    assert message == f"expected a whole number from 0 to 5, got `{written}`"
