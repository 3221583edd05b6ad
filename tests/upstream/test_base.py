"""The values that pass between the relay and an upstream."""

from __future__ import annotations

import pytest
from proxy.policy.model import Endpoint
from proxy.upstream.base import Call, Head


def test_the_first_of_a_repeated_header_counts() -> None:
    head = Head(200, [(b"retry-after", b"1"), (b"retry-after", b"2"), (b"x", b"")])
    assert head.get(b"retry-after") == b"1"
    assert head.get(b"x") == b""
    assert head.get(b"content-type") is None


def test_a_call_cannot_be_changed_by_the_targets_it_is_sent_to() -> None:
    call = Call(request_id="r", endpoint=Endpoint.CHAT, body={}, headers=[], stream=False)
    assert call.usage_wanted is False
    with pytest.raises(AttributeError):
        call.stream = True  # type: ignore[misc]
