"""How problems read."""

from __future__ import annotations

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
