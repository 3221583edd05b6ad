"""Policies as text, and what comes of compiling them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from proxy.policy.compile import Compiled, check_policy
from proxy.policy.model import Price, Target
from proxy.policy.problem import PolicyError, Problem

KEY = "sk-canary-of-the-tests"
ENV = {"KEY": KEY}
DIGEST = "sha256:" + "0123456789abcdef" * 4


def no_price(provider: str, model: str) -> Price | None:
    """A price list without an entry."""
    return None


def compiled(tmp_path: Path, text: str, env: Mapping[str, str] = ENV) -> Compiled:
    """`text`, compiled from a file in `tmp_path`."""
    path = tmp_path / "policy.yaml"
    path.write_text(text, "utf-8")
    return check_policy(path, env=env, price_of=no_price)


def problems(tmp_path: Path, text: str, env: Mapping[str, str] = ENV) -> tuple[Problem, ...]:
    """What is wrong with `text`; fails when nothing is."""
    with pytest.raises(PolicyError) as refused:
        compiled(tmp_path, text, env)
    return refused.value.problems


def messages(tmp_path: Path, text: str) -> list[str]:
    """The messages of what is wrong with `text`, in order."""
    return [problem.message for problem in problems(tmp_path, text)]


def target(tmp_path: Path, keys: str) -> Target:
    """The only target of a policy, written as the inside of a flow mapping."""
    text = f"version: 1\ntargets:\n  it: {{{keys}}}\nmodels: {{m: [it]}}\n"
    return compiled(tmp_path, text).snapshot.targets["it"]


def one_target(keys: str) -> str:
    """A policy whose only target has `keys`, the inside of a flow mapping."""
    return f"version: 1\ntargets:\n  it: {{{keys}}}\nmodels: {{m: [it]}}\n"


def two_lanes(rest: str) -> str:
    """A policy with a dedicated target in the EU and a shared one in the US, the model `m` of both, and `rest`."""
    return f"""version: 1
targets:
  own: {{lane: dedicated, url: "http://own:8000/v1", model: up, region: eu-west-1, retention: zero, tags: [iso]}}
  api: {{lane: shared, url: "https://api.example.com/v1", model: up, region: us, retention: 7d}}
models:
  m: [own, api]
  own-only: [own]
{rest}"""
