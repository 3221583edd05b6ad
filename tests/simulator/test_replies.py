"""Wire shapes, event by event. The SDKs' own view of them is in `test_engine.py`."""

from __future__ import annotations

from base64 import b64decode
from struct import unpack
from typing import Any

import orjson
import pytest
from proxy.simulator.asks import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES, Ask
from proxy.simulator.replies import TOKENS, answer_text, reply_to


def ask(path: str, **wishes: Any) -> Ask:
    return Ask(path=path, model="@", input_tokens=9, stream=True, **wishes)


def events(path: str, tokens: int, cut: bool = False, **wishes: Any) -> list[tuple[str, Any]]:
    reply = reply_to(ask(path, **wishes), "sim-1", 1_700_000_000)
    stream = reply.opening() + b"".join(reply.token(n) for n in range(tokens)) + reply.closing(tokens, cut)
    parsed = []
    assert stream.endswith(b"\n\n")
    for block in stream.decode().removesuffix("\n\n").split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        data = lines["data"]
        parsed.append((lines.get("event", ""), data if data == "[DONE]" else orjson.loads(data)))
    return parsed


def test_the_text_says_that_it_is_simulated() -> None:
    assert "simulated" in answer_text(4)
    assert answer_text(30) == "".join(TOKENS[n % len(TOKENS)] for n in range(30))


def test_chat_stream_has_role_tokens_finish_reason_and_done() -> None:
    role, first, second, end, done = (data for _, data in events(CHAT, 2))
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [each["choices"][0]["delta"]["content"] for each in (first, second)] == list(TOKENS[:2])
    assert end["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert done == "[DONE]"
    assert {(each["id"], each["object"], each["model"]) for each in (role, first, end)} == {
        ("sim-1", "chat.completion.chunk", "@")
    }
    assert not any("usage" in each for each in (role, first, second, end))


def test_chat_usage_comes_last_and_only_when_asked_for() -> None:
    *_, usage, done = (data for _, data in events(CHAT, 3, cut=True, include_usage=True))
    assert (usage["choices"], done) == ([], "[DONE]")
    assert usage["usage"] == {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def test_legacy_completions_carry_text() -> None:
    *tokens, end, done = (data for _, data in events(COMPLETIONS, 3, cut=True))
    assert "".join(each["choices"][0]["text"] for each in tokens) == answer_text(3)
    assert (end["choices"][0]["finish_reason"], end["object"], done) == ("length", "text_completion", "[DONE]")


@pytest.mark.parametrize("cut", [False, True])
def test_responses_events_are_named_numbered_and_enclosed_by_the_response(cut: bool) -> None:
    stream = events(RESPONSES, 2, cut)
    last = "response.incomplete" if cut else "response.completed"
    assert [name for name, _ in stream] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        last,
    ]
    assert [data["sequence_number"] for _, data in stream] == list(range(len(stream)))
    assert all(data["type"] == name for name, data in stream)
    response = stream[-1][1]["response"]
    assert response["output"][0]["content"][0]["text"] == answer_text(2)
    assert response["usage"]["total_tokens"] == 11


def test_messages_events_are_anthropics() -> None:
    stream = events(MESSAGES, 2, cut=True)
    assert [name for name, _ in stream] == [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert all(data["type"] == name for name, data in stream)
    assert stream[0][1]["message"]["usage"] == {"input_tokens": 9, "output_tokens": 0}
    assert stream[-2][1]["delta"]["stop_reason"] == "max_tokens"
    assert stream[-2][1]["usage"] == {"output_tokens": 2}


def test_embeddings_are_the_same_in_base64_and_depend_on_the_text_alone() -> None:
    def vectors(**wishes: Any) -> list[Any]:
        whole = reply_to(ask(EMBEDDINGS, inputs=("a", "b", "a"), **wishes), "sim-1", 0).whole(0, False)
        return [each["embedding"] for each in orjson.loads(whole)["data"]]

    floats, packed = vectors(), vectors(base64=True)
    assert floats[0] == floats[2] != floats[1]
    assert [list(unpack("<64f", b64decode(each))) for each in packed] == floats
