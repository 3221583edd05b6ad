"""Chat replies as Anthropic Messages."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from proxy.upstream.errors import ProtocolViolated
from proxy.upstream.translated_messages import MessagesStream, message

ENVELOPE: dict[str, Any] = {"id": "chatcmpl-1", "object": "x", "created": 7, "model": "m"}
USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "total_tokens": 15,
    "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2},
}


def reply(finish_reason: str = "stop", **given: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": None, **given}, "finish_reason": finish_reason}
    return {**ENVELOPE, "choices": [choice]}


def chunk(finish_reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {**ENVELOPE, "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def tool(index: int, arguments: str, **first: str) -> dict[str, Any]:
    named = {"name": first["name"]} if first else {}
    more = {"id": first["id"], "type": "function"} if first else {}
    return chunk(tool_calls=[{"index": index, **more, "function": {**named, "arguments": arguments}}])


def play(*chunks: dict[str, Any], usage: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    stream = MessagesStream({"short": "the caller's own name"})
    out = b"".join(stream.feed(each) for each in chunks) + stream.finish(chunks[-1], usage)
    events = []
    for block in out.decode().strip().split("\n\n"):
        name, data = block.split("\n")
        event = orjson.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


@pytest.mark.parametrize(
    ("finish_reason", "stop_reason"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("function_call", "tool_use"),
        ("content_filter", "refusal"),
        ("anything else", "end_turn"),
    ],
)
def test_finish_reasons_have_their_stop_reasons(finish_reason: str, stop_reason: str) -> None:
    assert message(reply(finish_reason), {})["stop_reason"] == stop_reason
    assert play(chunk(finish_reason, content="x"))[-2]["delta"]["stop_reason"] == stop_reason


def test_input_tokens_leave_out_the_cache() -> None:
    assert message({**reply(), "usage": USAGE}, {})["usage"] == {
        "input_tokens": 5,
        "cache_creation_input_tokens": 2,
        "cache_read_input_tokens": 3,
        "output_tokens": 5,
    }


def test_what_was_written_to_the_cache_is_told_by_how_long_it_is_kept() -> None:
    writes = {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 2}
    assert message({**reply(), "usage": {**USAGE, "cache_creation": writes}}, {})["usage"]["cache_creation"] == writes


def test_blocks_come_in_anthropics_order() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "short", "arguments": ""}}
    given = reply("tool_calls", content="text", reasoning_content="think", tool_calls=[call])
    assert message(given, {"short": "long"})["content"] == [
        {"type": "thinking", "thinking": "think", "signature": ""},
        {"type": "text", "text": "text"},
        {"type": "tool_use", "id": "c", "name": "long", "input": {}},
    ]


@pytest.mark.parametrize("arguments", ["{", "[]", "1"])
def test_tool_input_must_be_an_object(arguments: str) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    with pytest.raises(ProtocolViolated):
        message(reply(tool_calls=[call]), {})


def test_each_block_is_opened_filled_and_closed_in_turn() -> None:
    events = play(
        chunk(role="assistant", content=""),
        chunk(thinking_blocks=[{"type": "thinking", "thinking": "hm"}], reasoning_content="hm"),
        chunk(thinking_blocks=[{"type": "thinking", "thinking": "", "signature": "s"}]),
        chunk(content="a"),
        chunk(content="b"),
        tool(0, "", id="t1", name="short"),
        tool(0, "{}"),
        tool(1, "{}", id="t2", name="other"),
        chunk("tool_calls"),
        usage=USAGE,
    )
    shape = [(event["type"].removeprefix("content_block_"), event.get("index")) for event in events]
    assert shape == [
        ("message_start", None),
        ("start", 0), ("delta", 0), ("delta", 0), ("stop", 0),
        ("start", 1), ("delta", 1), ("delta", 1), ("stop", 1),
        ("start", 2), ("delta", 2), ("stop", 2),
        ("start", 3), ("delta", 3), ("stop", 3),
        ("message_delta", None), ("message_stop", None),
    ]  # fmt: skip
    started = [event["content_block"] for event in events if event["type"] == "content_block_start"]
    assert [block.get("name") for block in started] == [None, None, "the caller's own name", "other"]
    thoughts = [event["delta"] for event in events if event.get("index") == 0 and "delta" in event]
    assert thoughts == [
        {"type": "thinking_delta", "thinking": "hm"},
        {"type": "signature_delta", "signature": "s"},
    ]
    assert events[-2]["usage"]["output_tokens"] == 5


def test_redacted_thinking_is_a_block_of_its_own() -> None:
    events = play(chunk(thinking_blocks=[{"type": "redacted_thinking", "data": "zz"}]), chunk("stop", content="x"))
    assert events[1]["content_block"] == {"type": "redacted_thinking", "data": "zz"}
    assert events[2]["type"] == "content_block_stop"
    assert events[3]["index"] == 1


def test_reasoning_without_signatures_is_thinking_too() -> None:
    events = play(chunk(reasoning_content="hm"), chunk("stop"))
    assert events[2]["delta"] == {"type": "thinking_delta", "thinking": "hm"}


def test_mingled_tool_calls_cannot_be_told_in_blocks() -> None:
    with pytest.raises(ProtocolViolated):
        play(tool(0, "{", id="a", name="f"), tool(1, "{", id="b", name="g"), tool(0, "}"))


def test_a_usage_that_nobody_reported_is_not_made_up() -> None:
    assert play(chunk("stop", content="x"))[-2]["usage"] == {"output_tokens": None}


def test_an_empty_answer_is_still_a_message() -> None:
    assert [event["type"] for event in play(chunk("stop"))] == ["message_start", "message_delta", "message_stop"]
