"""Facts are made for every request: they must be cheap, and nothing may change them on the way."""

from __future__ import annotations

import pytest
from tests.routing.policies import facts


def test_facts_cannot_be_changed_once_read() -> None:
    with pytest.raises(AttributeError):
        facts().model = "other"  # type: ignore[misc]


def test_equal_requests_have_equal_facts() -> None:
    assert facts() == facts()
    assert facts(stream=True) != facts()
