"""Replicas keep their places: what a proxy knows of them, and in which order it tries them, does not jump about."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from proxy.discovery.order import in_order

urls = st.sets(st.sampled_from("abcdefgh"))


def test_those_that_stay_keep_their_order_and_the_new_ones_follow() -> None:
    assert in_order((), {"b", "a"}) == ("a", "b")
    assert in_order(("c", "b", "a"), {"a", "c", "e", "d"}) == ("c", "a", "d", "e")


@given(st.permutations("abcdefgh"), st.integers(0, 8), urls)
def test_whatever_came_and_went(before: list[str], count: int, now: set[str]) -> None:
    ordered = in_order(tuple(before[:count]), now)
    assert sorted(ordered) == sorted(now)
    stayed = [url for url in before[:count] if url in now]
    assert list(ordered[: len(stayed)]) == stayed
    assert list(ordered[len(stayed) :]) == sorted(ordered[len(stayed) :])
