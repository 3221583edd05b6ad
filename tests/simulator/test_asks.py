"""How request bodies are understood, in every dialect."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from proxy.simulator.asks import (
    CHAT,
    COMPLETIONS,
    COUNT_TOKENS,
    EMBEDDINGS,
    MESSAGES,
    RESPONSES,
    Ask,
    Problem,
    count_tokens,
    read_ask,
)

USER = [{"role": "user", "content": "x" * 40}]


def asked(path: str, **fields: Any) -> Ask:
    ask = read_ask(path, orjson.dumps({"model": "m", **fields}))
    assert isinstance(ask, Ask)
    return ask


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (CHAT, {"messages": USER}),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": "x" * 40}]}]}),
        (COMPLETIONS, {"prompt": "x" * 40}),
        (COMPLETIONS, {"prompt": ["x" * 40]}),
        (COMPLETIONS, {"prompt": list(range(10))}),
        (EMBEDDINGS, {"input": ["x" * 20, "x" * 20]}),
        (RESPONSES, {"input": "x" * 36, "instructions": "x" * 4}),
        (RESPONSES, {"input": [{"role": "user", "content": [{"type": "input_text", "text": "x" * 40}]}]}),
        (MESSAGES, {"messages": USER, "max_tokens": 5}),
        (MESSAGES, {"messages": USER[:1], "system": [{"type": "text", "text": ""}], "max_tokens": 5}),
        (COUNT_TOKENS, {"messages": USER}),
    ],
)
def test_a_prompt_has_one_token_in_four_bytes_of_text(path: str, fields: dict[str, Any]) -> None:
    assert asked(path, **fields).input_tokens in {10, 11}


def test_tokens_are_counted_in_utf8_and_are_at_least_one() -> None:
    assert [count_tokens(text) for text in ("", "abcd", "abcde", "€€€€")] == [1, 1, 2, 3]


@pytest.mark.parametrize(
    ("path", "limit"),
    [(CHAT, "max_tokens"), (CHAT, "max_completion_tokens"), (RESPONSES, "max_output_tokens"), (MESSAGES, "max_tokens")],
)
def test_the_answer_ends_at_its_limit_or_by_itself(path: str, limit: str) -> None:
    content = {"input": "hello"} if path == RESPONSES else {"messages": USER}
    assert asked(path, **content, **{limit: 7}).answer_tokens(200) == 7
    assert asked(path, **content, **{limit: 700}).answer_tokens(200) == 200
    assert asked(path, **content, **{limit: 700}, ignore_eos=True).answer_tokens(200) == 700


def test_an_answer_without_a_limit_ends_by_itself() -> None:
    assert asked(CHAT, messages=USER, ignore_eos=True).answer_tokens(200) == 200


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, b"{", None),
        (CHAT, b"[]", None),
        (CHAT, b'{"messages": []}', "messages"),
        (CHAT, b'{"messages": ["hello"]}', "messages"),
        (CHAT, b'{"messages": [{}], "model": 7}', "model"),
        (CHAT, b'{"messages": [{}], "n": 2}', "n"),
        (CHAT, b'{"messages": [{}], "max_tokens": 0}', "max_tokens"),
        (CHAT, b'{"messages": [{}], "max_tokens": true}', "max_tokens"),
        (CHAT, b'{"messages": [{}], "max_completion_tokens": "9"}', "max_completion_tokens"),
        (COMPLETIONS, b'{"prompt": ["one", "two"]}', "prompt"),
        (EMBEDDINGS, b"{}", "input"),
        (MESSAGES, b'{"messages": [{}]}', "max_tokens"),
    ],
)
def test_a_request_that_cannot_be_answered_is_a_problem_that_names_the_field(
    path: str, body: bytes, param: str | None
) -> None:
    problem = read_ask(path, body)
    assert isinstance(problem, Problem)
    assert (problem.status, problem.param) == (400, param)
