"""Equal beginnings have equal blocks, others never; what the model does not see makes no difference."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.api.guard import read_members
from proxy.api.prefix import BLOCK_BYTES, MOST_BLOCKS, read_prefix
from proxy.policy.model import Endpoint
from proxy.routing.plan import Refusal

LONG = "all of this is said again and again " * 300
GENERATING = {
    Endpoint.CHAT: "messages",
    Endpoint.COMPLETIONS: "prompt",
    Endpoint.RESPONSES: "input",
    Endpoint.MESSAGES: "messages",
}


def prefix(endpoint: Endpoint = Endpoint.CHAT, *, asked: str = "m", **body: object) -> tuple[int, ...]:
    members = read_members(json.dumps(body).encode())
    assert not isinstance(members, Refusal)
    return read_prefix(endpoint, asked, members)


def turns(*contents: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[turn % 2], "content": text} for turn, text in enumerate(contents)]


def common(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    """How many blocks both begin with; none that come later may be equal."""
    alike = [one == other for one, other in zip(first, second, strict=False)]
    run = alike.index(False) if False in alike else len(alike)
    assert not set(first[run:]) & set(second[run:])
    return run


def test_a_conversation_goes_on_from_the_blocks_that_it_had() -> None:
    before = prefix(messages=turns("be kind " * 500, LONG))
    after = prefix(messages=turns("be kind " * 500, LONG, "and now?", LONG))
    assert len(before) > 3
    assert common(before, after) == len(before)
    assert len(after) > len(before)


@given(st.integers(0, len(LONG) - 1))
def test_blocks_are_others_from_the_first_byte_that_differs(place: int) -> None:
    changed = LONG[:place] + "#" + LONG[place + 1 :]
    whole, other = prefix(messages=turns(LONG)), prefix(messages=turns(changed))
    began = json.dumps(turns(LONG)).index("all of this")
    assert common(whole, other) == min((began + place) // BLOCK_BYTES, len(whole))


def test_one_block_is_whole_or_not_there() -> None:
    for length, blocks in ((BLOCK_BYTES - 3, 0), (BLOCK_BYTES - 2, 1), (2 * BLOCK_BYTES - 3, 1)):
        assert len(prefix(Endpoint.COMPLETIONS, prompt="x" * length)) == blocks


@pytest.mark.parametrize("endpoint", GENERATING)
def test_what_the_model_does_not_see_makes_no_difference(endpoint: Endpoint) -> None:
    plain = prefix(endpoint, **{GENERATING[endpoint]: LONG})
    assert plain
    unseen = {"stream": True, "temperature": 0.3, "user": "u-17", "max_tokens": 9, "metadata": {"a": "b"}, "seed": 5}
    assert prefix(endpoint, **unseen, **{GENERATING[endpoint]: LONG}) == plain


@pytest.mark.parametrize(
    "changing",
    [
        {"asked": "another"},
        {"cache_salt": "tenant-1"},
        {"chat_template_kwargs": {"thinking": False}},
        {"reasoning_effort": "high"},
        {"previous_response_id": "resp_1"},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
    ],
)
def test_what_changes_a_prompt_from_its_start_changes_every_block(changing: dict[str, Any]) -> None:
    plain, changed = prefix(messages=turns(LONG)), prefix(messages=turns(LONG), **changing)
    assert len(changed) >= len(plain) > 3
    assert common(plain, changed) == 0


def test_salts_are_told_apart() -> None:
    first, second = (prefix(messages=turns(LONG), cache_salt=salt) for salt in ("one", "two"))
    assert common(first, second) == 0
    assert prefix(messages=turns(LONG), cache_salt="one") == first


def test_tools_and_instructions_come_before_the_rest() -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": LONG}}]
    first, second = (prefix(messages=turns(text + LONG), tools=tools) for text in ("one", "two"))
    assert common(first, second) == len(json.dumps(tools)) // BLOCK_BYTES
    system = [{"type": "text", "text": LONG}]
    first, second = (prefix(Endpoint.MESSAGES, messages=turns(text + LONG), system=system) for text in ("one", "two"))
    assert common(first, second) == len(json.dumps(system)) // BLOCK_BYTES


@pytest.mark.parametrize("endpoint", [Endpoint.EMBEDDINGS, Endpoint.COUNT_TOKENS])
def test_what_generates_nothing_has_no_blocks(endpoint: Endpoint) -> None:
    assert prefix(endpoint, input=LONG, messages=LONG) == ()


def test_a_request_without_a_prompt_has_no_blocks() -> None:
    assert prefix(instructions=LONG) == ()


def test_the_number_of_blocks_is_bounded() -> None:
    endless = prefix(Endpoint.COMPLETIONS, prompt="x" * (2 * MOST_BLOCKS * BLOCK_BYTES))
    assert len(endless) == MOST_BLOCKS
    shorter = prefix(Endpoint.COMPLETIONS, prompt="x" * (MOST_BLOCKS * BLOCK_BYTES))
    assert common(endless, shorter) == MOST_BLOCKS
