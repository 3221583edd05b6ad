"""Chat replies as OpenAI Responses."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from proxy.upstream.errors import ProtocolViolated
from proxy.upstream.translated_responses import ResponsesStream, response

ENVELOPE: dict[str, Any] = {"id": "chatcmpl-1", "object": "x", "created": 7, "model": "m"}
USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "total_tokens": 15,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
SEALED = {"include": ["reasoning.encrypted_content"]}


def reply(finish_reason: str = "stop", **given: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": None, **given}, "finish_reason": finish_reason}
    return {**ENVELOPE, "choices": [choice]}


def chunk(finish_reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {**ENVELOPE, "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def tool(index: int, arguments: str, **first: str) -> dict[str, Any]:
    named = {"name": first["name"]} if first else {}
    more = {"id": first["id"], "type": "function"} if first else {}
    return chunk(tool_calls=[{"index": index, **more, "function": {**named, "arguments": arguments}}])


def play(
    *chunks: dict[str, Any], usage: dict[str, Any] | None = None, request: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    stream = ResponsesStream(request or {})
    out = b"".join(stream.feed(each) for each in chunks) + stream.finish(chunks[-1], usage)
    events = []
    for number, block in enumerate(out.decode().strip().split("\n\n")):
        name, data = block.split("\n")
        event = orjson.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        assert event["sequence_number"] == number
        events.append(event)
    return events


@pytest.mark.parametrize(
    ("finish_reason", "status", "why"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", {"reason": "content_filter"}),
    ],
)
def test_finish_reasons_have_their_status(finish_reason: str, status: str, why: dict[str, str] | None) -> None:
    whole = response(reply(finish_reason, content="x"), {})
    assert (whole["status"], whole["incomplete_details"]) == (status, why)
    last = play(chunk(finish_reason, content="x"))[-1]
    assert last["type"] == f"response.{status}"
    assert last["response"]["incomplete_details"] == why


def test_the_request_is_repeated_and_nothing_is_stored() -> None:
    whole = response(reply(content="x"), {"instructions": "be brief", "temperature": 0, "store": True})
    assert (whole["instructions"], whole["temperature"], whole["store"]) == ("be brief", 0, False)
    assert (whole["id"], whole["created_at"]) == ("resp_1", 7)


def test_usage_is_told_in_responses_words_or_not_at_all() -> None:
    assert response({**reply(content="x"), "usage": USAGE}, {})["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 15,
    }
    assert response(reply(content="x"), {})["usage"] is None


def test_items_of_a_whole_response_come_in_order() -> None:
    call = {"id": "call_9", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    output = response(reply(content="x", reasoning_content="hm", tool_calls=[call]), {})["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call"]
    assert output[0]["summary"] == [{"type": "summary_text", "text": "hm"}]
    assert (output[2]["id"], output[2]["call_id"], output[2]["status"]) == ("fc_9", "call_9", "completed")
    assert len({item["id"] for item in output}) == 3


def test_each_item_is_added_filled_and_done_in_turn() -> None:
    events = play(
        chunk(role="assistant", content=""),
        chunk(reasoning_content="h"),
        chunk(reasoning_content="m"),
        chunk(content="a"),
        chunk(content="b"),
        tool(0, "", id="call_1", name="f"),
        tool(0, "{}"),
        tool(1, "[]", id="call_2", name="g"),
        chunk("tool_calls"),
        usage=USAGE,
    )
    assert [(event["type"].removeprefix("response."), event.get("output_index")) for event in events] == [
        ("created", None), ("in_progress", None),
        ("output_item.added", 0), ("reasoning_summary_part.added", 0),
        ("reasoning_summary_text.delta", 0), ("reasoning_summary_text.delta", 0),
        ("reasoning_summary_text.done", 0), ("reasoning_summary_part.done", 0), ("output_item.done", 0),
        ("output_item.added", 1), ("content_part.added", 1),
        ("output_text.delta", 1), ("output_text.delta", 1),
        ("output_text.done", 1), ("content_part.done", 1), ("output_item.done", 1),
        ("output_item.added", 2), ("function_call_arguments.delta", 2),
        ("function_call_arguments.done", 2), ("output_item.done", 2),
        ("output_item.added", 3), ("function_call_arguments.delta", 3),
        ("function_call_arguments.done", 3), ("output_item.done", 3),
        ("completed", None),
    ]  # fmt: skip
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert events[-1]["response"]["output"] == done
    added = [event["item"]["id"] for event in events if event["type"] == "response.output_item.added"]
    assert added == [item["id"] for item in done]
    assert len(set(added)) == 4
    assert {event["item_id"] for event in events if "item_id" in event} == set(added)


def test_reasoning_is_sealed_only_when_the_caller_can_use_it() -> None:
    blocks = [{"type": "thinking", "thinking": "hm", "signature": "s"}]
    given = reply(reasoning_content="hm", thinking_blocks=blocks)
    assert "encrypted_content" not in response(given, {})["output"][0]
    assert orjson.loads(response(given, SEALED)["output"][0]["encrypted_content"]) == blocks


def test_streamed_pieces_of_sealed_reasoning_are_put_together() -> None:
    events = play(
        chunk(reasoning_content="h", thinking_blocks=[{"type": "thinking", "thinking": "h"}]),
        chunk(reasoning_content="m", thinking_blocks=[{"type": "thinking", "thinking": "m"}]),
        chunk(thinking_blocks=[{"type": "thinking", "thinking": "", "signature": "s"}]),
        chunk("stop", content="x"),
        request=SEALED,
    )
    item = events[-1]["response"]["output"][0]
    assert orjson.loads(item["encrypted_content"]) == [{"type": "thinking", "thinking": "hm", "signature": "s"}]


def test_mingled_tool_calls_cannot_be_told_in_items() -> None:
    with pytest.raises(ProtocolViolated):
        play(tool(0, "{", id="a", name="f"), tool(1, "{", id="b", name="g"), tool(0, "}"))
