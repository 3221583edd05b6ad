"""What is shown of the policy being served, through adoptions, refusals and returns."""

from __future__ import annotations

from proxy.policy.status import SHOWN_PROBLEMS, PolicyStatus

FIRST = PolicyStatus(revision="a" * 12, loaded_at=1.0)


def test_the_first_policy_is_generation_one() -> None:
    assert (FIRST.generation, FIRST.reload_failures, FIRST.error) == (1, 0, None)


def test_a_refused_text_is_counted_and_changes_nothing_else() -> None:
    status = FIRST.refused("b" * 12, 2.0, ("p:1:2: x",))
    assert (status.revision, status.generation, status.loaded_at, status.reload_failures) == ("a" * 12, 1, 1.0, 1)
    assert status.error is not None
    assert (status.error.revision, status.error.at, status.error.problems) == ("b" * 12, 2.0, ("p:1:2: x",))


def test_an_adopted_policy_ends_what_was_wrong_and_keeps_count() -> None:
    status = FIRST.refused("b" * 12, 2.0, ("x",)).adopted("c" * 12, 3.0)
    assert (status.revision, status.generation, status.loaded_at) == ("c" * 12, 2, 3.0)
    assert (status.reload_failures, status.error) == (1, None)


def test_a_text_that_returns_ends_what_was_wrong_and_is_no_new_generation() -> None:
    status = FIRST.refused("b" * 12, 2.0, ("x",)).restored()
    assert (status.revision, status.generation, status.loaded_at, status.error) == ("a" * 12, 1, 1.0, None)
    assert status.reload_failures == 1


def test_many_problems_are_counted_and_the_first_are_shown() -> None:
    problems = tuple(f"p:{line}:1: x" for line in range(100))
    error = FIRST.refused("b" * 12, 2.0, problems).error
    assert error is not None
    assert (error.problems, error.problem_count) == (problems[:SHOWN_PROBLEMS], 100)
