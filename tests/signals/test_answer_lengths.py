"""Means per app: quick at first, steady later, never beyond a request's own limit, and bounded in number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.policy.model import Endpoint, Key, Tenant
from proxy.routing.facts import Facts
from proxy.signals.answer_lengths import MOST_APPS, SLOWEST, AnswerLengths


def facts(
    app: str = "chat", model: str = "m", endpoint: Endpoint = Endpoint.CHAT, limit: int | None = None, choices: int = 1
) -> Facts:
    tenant = Tenant(name="acme")
    return Facts(
        request_id="r",
        tenant=tenant,
        key=Key(tenant=tenant, name=f"acme/{app}"),
        model=model,
        endpoint=endpoint,
        max_output_tokens=limit,
        choices=choices,
    )


def test_nothing_is_expected_of_what_was_never_seen() -> None:
    assert AnswerLengths().expected(facts()) is None


@pytest.mark.parametrize("endpoint", [Endpoint.EMBEDDINGS, Endpoint.COUNT_TOKENS])
def test_what_generates_nothing_is_expected_to_generate_nothing(endpoint: Endpoint) -> None:
    assert AnswerLengths().expected(facts(endpoint=endpoint)) == 0.0


def test_the_first_samples_count_alike() -> None:
    lengths = AnswerLengths()
    for tokens, mean in ((100, 100.0), (200, 150.0), (600, 300.0)):
        lengths.feed(facts(), tokens)
        assert lengths.expected(facts()) == pytest.approx(mean)


def test_apps_are_told_apart_and_a_new_one_begins_between_its_model_and_its_first_answer() -> None:
    lengths = AnswerLengths()
    for _ in range(10):
        lengths.feed(facts("long"), 1000)
    assert lengths.expected(facts("short")) == pytest.approx(1000.0)
    lengths.feed(facts("short"), 10)
    assert lengths.expected(facts("short")) == pytest.approx(505.0)
    for _ in range(8):
        lengths.feed(facts("short"), 10)
    assert lengths.expected(facts("short")) == pytest.approx(10 + 990 / 10)
    assert lengths.expected(facts("long")) == pytest.approx(1000.0)
    assert lengths.expected(facts("long", model="other")) is None
    assert lengths.expected(facts("long", endpoint=Endpoint.COMPLETIONS)) is None


def test_the_limit_of_a_request_binds_what_is_expected_of_it() -> None:
    lengths = AnswerLengths()
    lengths.feed(facts(), 500)
    assert lengths.expected(facts(limit=16)) == 16.0
    assert lengths.expected(facts(limit=501)) == 500.0


def test_lengths_are_those_of_one_choice() -> None:
    lengths = AnswerLengths()
    lengths.feed(facts(choices=4), 400)
    assert lengths.expected(facts()) == 100.0


def test_an_app_that_changes_is_followed() -> None:
    lengths = AnswerLengths()
    for _ in range(1000):
        lengths.feed(facts(), 100)
    for _ in range(round(3 / SLOWEST)):
        lengths.feed(facts(), 500)
    assert lengths.expected(facts()) == pytest.approx(500, rel=0.05)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=200))
def test_a_mean_lies_among_its_samples_and_is_plain_at_first(samples: list[int]) -> None:
    lengths = AnswerLengths()
    for tokens in samples:
        lengths.feed(facts(), tokens)
    expected = lengths.expected(facts())
    assert expected is not None
    assert min(samples) - 1e-6 <= expected <= max(samples) + 1e-6
    if len(samples) <= 1 / SLOWEST:
        assert expected == pytest.approx(sum(samples) / len(samples))


def test_apps_seen_longest_ago_are_forgotten() -> None:
    lengths = AnswerLengths()
    lengths.feed(facts("kept"), 7)
    lengths.feed(facts("lost"), 9)
    lengths.feed(facts("kept"), 7)
    for number in range(MOST_APPS - 1):
        lengths.feed(facts(f"app-{number}", model="another"), 100)
    assert len(lengths) == MOST_APPS
    assert lengths.expected(facts("kept")) == pytest.approx(7.0)
    assert lengths.expected(facts("lost")) == pytest.approx((7 + 9 + 7) / 3)
