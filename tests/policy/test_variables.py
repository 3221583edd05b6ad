"""`${NAME}`: replaced once, never shown, never guessed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.policy.variables import Interpolated, hidden, interpolate, revealed, shown


def test_variables_are_replaced_wherever_they_stand() -> None:
    value, mistakes = interpolate("http://${HOST}:${PORT}/v1", {"HOST": "gpu-1", "PORT": "8000"})
    assert (value.value, mistakes) == ("http://gpu-1:8000/v1", [])


def test_what_a_variable_holds_is_not_read_again() -> None:
    value, mistakes = interpolate("${A}", {"A": "${B}", "B": "no"})
    assert (value.value, mistakes) == ("${B}", [])


@pytest.mark.parametrize(("env", "state"), [({}, "not set"), ({"A": ""}, "empty")])
def test_a_variable_without_a_value_is_named(env: dict[str, str], state: str) -> None:
    _, (mistake,) = interpolate("${A}", env)
    assert mistake.message == f"environment variable `A` is {state}"
    assert mistake.hint == "export A=..."


@pytest.mark.parametrize("text", ["${}", "${1A}", "${A B}", "${A:-x}", "${A", "${${A}"])
def test_a_malformed_variable_is_a_mistake(text: str) -> None:
    _, mistakes = interpolate(text, {"A": "x"})
    assert [mistake.message for mistake in mistakes] == [
        f"`{text[: text.find('}') + 1] or text}` does not name an environment variable"
    ]


def test_a_dollar_without_a_brace_is_a_dollar() -> None:
    assert interpolate("$5", {})[0].value == "$5"


@given(st.text(min_size=4))
def test_an_interpolated_value_prints_as_it_was_written(secret: str) -> None:
    value = Interpolated(secret, "${KEY}")
    assert {str(value), repr(value), f"{value}", shown(value).strip("`")} == {"${KEY}"}
    assert revealed(value) == secret


@pytest.mark.parametrize(
    ("value", "spelt"),
    [
        (None, "nothing"),
        ({}, "a mapping"),
        ([1], "a list"),
        (True, "`true`"),
        (5, "`5`"),
        ("a\nb", "`a\N{REPLACEMENT CHARACTER}b`"),
    ],
)
def test_values_are_shown_in_one_short_line(value: object, spelt: str) -> None:
    assert shown(value) == spelt


def test_hiding_puts_the_names_back_and_leaves_short_words_alone() -> None:
    assert hidden("at sk-canary in us", {"KEY": "sk-canary", "REGION": "us"}) == "at ${KEY} in us"


def test_long_values_are_cut() -> None:
    assert len(shown("x" * 1000)) == 62
