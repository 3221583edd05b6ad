"""libyaml's errors in plain words, where the author has to look. `broken/` has the common ones."""

from __future__ import annotations

import pytest
import yaml
from proxy.policy.problem import Problem
from proxy.policy.source import SourceFile
from proxy.policy.syntax import explain_syntax


def explained(text: str) -> Problem:
    file = SourceFile("policy.yaml", text)
    with pytest.raises(yaml.YAMLError) as refused:
        list(yaml.parse(text, Loader=yaml.CSafeLoader))
    return explain_syntax(file, refused.value)


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("a:\n\tb: 1", 2, 1, "a tab in the indent"),
        ("a: @x", 1, 4, "`@` cannot begin a value"),
        ("a: {b: 1\nc: 2", 1, 4, "`{` is not closed, or a `,` is missing"),
        ("- a\nb: c", 2, 1, "a list and keys are mixed at one indent"),
        ("a: 'x", 1, 4, "a quote is not closed"),
        ("a: 'x\nb: 'y'\nc: 1", 1, 4, "a quote is not closed"),
        ("a: 1\nb: x\x01", 2, 5, "character U+0001 is not allowed in yaml"),
        ("a: [\n", 2, 1, "a value is missing, or a bracket is not closed"),
        ("%FOO\n", 1, 5, "not valid yaml: "),
    ],
)
def test_syntax_errors_are_placed_and_put_in_plain_words(text: str, line: int, column: int, message: str) -> None:
    problem = explained(text)
    assert problem.message.startswith(message)
    assert (problem.line, problem.column) == (line, column)
    assert problem.hint
