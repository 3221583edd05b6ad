"""What a route does while an answer is not there yet: the bounds of it, and what is meant where nothing is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from proxy.policy.hedge import Hedge, Quantile
from proxy.policy.model import Route
from proxy.policy.patience import MAX_WAIT_S, failovers, wait
from proxy.policy.problem import Mistake
from tests.policy.policies import compiled, two_lanes


def route(tmp_path: Path, keys: str) -> Route:
    return compiled(tmp_path, two_lanes(f"routes: [{{name: r, {keys}}}]")).snapshot.routes[0]


def test_without_a_word_nothing_waits_and_nothing_is_copied(tmp_path: Path) -> None:
    plain = route(tmp_path, "prefer: cost")
    assert (plain.wait_s, plain.deadline_s, plain.hedge) == (0.0, None, None)


def test_a_wait_ends_while_somebody_may_still_be_there() -> None:
    assert wait("30s") == 30.0
    assert wait("10m") == MAX_WAIT_S
    with pytest.raises(Mistake, match="too long to wait for room: `601s`"):
        wait("601s")


def test_failovers_are_counted_to_five() -> None:
    assert [failovers(count) for count in range(6)] == list(range(6))
    with pytest.raises(Mistake, match="from 0 to 5"):
        failovers(6)


@pytest.mark.parametrize(
    ("written", "hedge"),
    [
        ("p99", Hedge(after=Quantile.P99, budget_share=0.05)),
        ("{}", Hedge(after=Quantile.P95, budget_share=0.05)),
        ("{after: p50}", Hedge(after=Quantile.P50, budget_share=0.05)),
        ("{budget: 12.5%}", Hedge(after=Quantile.P95, budget_share=0.125)),
    ],
)
def test_a_hedge_is_a_quantile_or_more(written: str, hedge: Hedge, tmp_path: Path) -> None:
    assert route(tmp_path, f"hedge: {written}").hedge == hedge


def test_a_quantile_is_a_share() -> None:
    assert [quantile.share for quantile in Quantile] == [0.5, 0.9, 0.95, 0.99]
