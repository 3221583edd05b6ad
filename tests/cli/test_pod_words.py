"""What a terminal says of a target's pods."""

from __future__ import annotations

import pytest
from proxy.cli.pod_words import pod_words
from proxy.live.view import FoundView


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, ""),
        (FoundView(up=True, age_s=1.0), ""),
        (FoundView(up=True, age_s=1.0, unready=2), "2 not ready"),
        (FoundView(up=True, age_s=1.0, unready=2, terminating=1), "2 not ready, 1 leaving"),
        (FoundView(up=False), "whoever lists its pods has not answered yet"),
        (FoundView(up=False, age_s=90.0, trouble="no answer"), "no answer"),
        (FoundView(up=True, age_s=1.0, unready=1, trouble="no port"), "1 not ready; no port"),
    ],
)
def test_words(found: FoundView | None, words: str) -> None:
    assert pod_words(found) == words
