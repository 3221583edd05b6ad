"""How problems read."""

from __future__ import annotations

from proxy.policy.checks import Check, Severity
from proxy.policy.problem import PolicyError, Problem


def test_a_problem_reads_as_editors_and_terminals_expect() -> None:
    problem = Problem("policy.yaml", 3, 5, "unknown key `a`", "did you mean `b`?")
    assert str(problem) == "policy.yaml:3:5: unknown key `a` (hint: did you mean `b`?)"


def test_a_problem_with_the_file_as_a_whole_has_no_line() -> None:
    assert str(Problem("policy.yaml", 0, 0, "cannot be read")) == "policy.yaml: cannot be read"


def test_a_refused_policy_lists_every_problem() -> None:
    first, second = Problem("a.yaml", 1, 1, "one"), Problem("a.yaml", 2, 1, "two")
    error = PolicyError((first, second))
    assert error.problems == (first, second)
    assert str(error) == f"{first}\n{second}"


def test_control_characters_of_a_policy_reach_no_terminal() -> None:
    problem = Problem("a.yaml", 1, 1, "unknown key `\x1b[2J\x07`", "did you mean `\u202e`?")
    assert problem.message == "unknown key `\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}`"
    assert problem.hint == "did you mean `\N{REPLACEMENT CHARACTER}`?"


def test_a_finding_weighs_as_its_check_does() -> None:
    assert Problem("a.yaml", 1, 1, "one").severity is Severity.ERROR
    assert Problem("a.yaml", 1, 1, "one", check=Check.CHUNK_SIZE).severity is Severity.ADVICE
