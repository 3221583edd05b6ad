"""One spelling each."""

from __future__ import annotations

import pytest
from proxy.policy.model import Per
from proxy.routing import wording


@pytest.mark.parametrize(
    ("spelled", "words"),
    [
        (wording.seconds(0.42), "420 ms"),
        (wording.seconds(2.305), "2.31 s"),
        (wording.tokens_per_s(0.032), "31.2 tokens/s"),
        (wording.percent(0.999), "99.90%"),
        (wording.usd(500_000), "$0.0005"),
        (wording.usd(20_000_000_000), "$20"),
        (wording.usd_per_mtok(1_500_000_000), "$1.50/M tokens"),
        (wording.usd_per(500 * 10**9, Per.DAY), "$500 a day"),
        (wording.usd_per(5 * 10**8, Per.HOUR), "$0.5 an hour"),
        (wording.usd_per(20 * 10**9, Per.TOTAL), "$20 in all"),
        (wording.listed(frozenset({"int4", "fp8"})), "fp8, int4"),
    ],
)
def test_spelling(spelled: str, words: str) -> None:
    assert spelled == words
