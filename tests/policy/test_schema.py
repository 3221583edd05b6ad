"""The shapes are the contract's: what stands in the design is read, or refused as not enforced yet."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from proxy.policy import schema
from tests.policy.policies import messages, one_target, two_lanes


def test_no_key_is_both_read_and_refused() -> None:
    assert not {one.name for one in fields(schema.TargetSpec)} & schema.TARGET_LATER.keys()


@pytest.mark.parametrize("key", schema.TARGET_LATER)
def test_target_keys_that_nothing_enforces_are_refused(key: str, tmp_path: Path) -> None:
    text = one_target(f'lane: dedicated, url: "http://h:1/v1", model: m, {key}: 5')
    assert messages(tmp_path, text) == [f"`{key}` is not supported yet"]


@pytest.mark.parametrize("written", ["6", "-1", "yes", "1.5", "true"])
def test_failovers_are_a_few(written: str, tmp_path: Path) -> None:
    (message,) = messages(tmp_path, two_lanes(f"routes: [{{name: r, max_failovers: {written}}}]"))
    assert message == f"expected a whole number from 0 to 5, got `{written}`"
