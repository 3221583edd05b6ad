"""Every policy of the corpus is refused, with the one mistake it has, its place and a remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from proxy.policy.compile import compile_policy
from proxy.policy.problem import PolicyError
from tests.policy.corpus import BROKEN, ENV, expected


def test_the_corpus_is_large() -> None:
    assert len(BROKEN) >= 120


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_broken_policy_is_refused_with_place_mistake_and_remedy(path: Path) -> None:
    stated = expected(path)
    with pytest.raises(PolicyError) as refused:
        compile_policy(path, env=ENV, price_of=lambda provider, model: None)
    assert len(refused.value.problems) == 1, str(refused.value)
    (problem,) = refused.value.problems
    assert problem.path == str(path)
    assert problem.line == stated.line, str(problem)
    assert problem.column >= 1
    assert problem.check == stated.check
    assert stated.says in problem.message
    assert stated.hint in problem.hint
    assert str(problem).startswith(f"{path}:{problem.line}:{problem.column}: {problem.message}")


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_messages_keep_the_house_style_and_the_secrets(path: Path) -> None:
    with pytest.raises(PolicyError) as refused:
        compile_policy(path, env=ENV, price_of=lambda provider, model: None)
    for problem in refused.value.problems:
        first = problem.message[0]
        assert first in "`$" or first.islower(), problem.message
        assert not problem.message.endswith(".")
        assert problem.hint
    for secret in (ENV["OPENAI_API_KEY"], "hunter2", "sk-proj-1a2b3c4d5e6f", "sk-bank-1a2b3c4d", "key=abc"):
        assert secret not in str(refused.value)
        assert secret not in repr(refused.value)
