"""What two kinds of upstream say, for the tests of translation: Anthropic's Messages API and OpenAI's chat."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import orjson
from tests.upstream.translated_server import Reply, Request, Script

Json = dict[str, Any]
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}}
CHAT_TOOLS = [{"type": "function", "function": {"name": "weather", "description": "now", "parameters": WEATHER}}]
MESSAGES_TOOLS = [{"name": "weather", "description": "now", "input_schema": WEATHER}]
RESPONSES_TOOLS = [{"type": "function", "name": "weather", "description": "now", "parameters": WEATHER, "strict": None}]


def _block(index: int, start: Json, *deltas: Json) -> list[Json]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


ANTHROPIC_MESSAGE: Json = {
    "id": "msg_01",
    "type": "message",
    "role": "assistant",
    "model": "claude-x",
    "content": [
        {"type": "thinking", "thinking": "which city", "signature": "c2ln"},
        {"type": "text", "text": "Hello you"},
        {"type": "tool_use", "id": "toolu_01", "name": "weather", "input": {"city": "Oslo"}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 12, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 0, "output_tokens": 42},
}

ANTHROPIC_STREAM: list[Json] = [
    {
        "type": "message_start",
        "message": {**ANTHROPIC_MESSAGE, "content": [], "stop_reason": None, "usage": {
            "input_tokens": 12, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 0, "output_tokens": 1,
        }},
    },
    {"type": "ping"},
    *_block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "which "},
        {"type": "thinking_delta", "thinking": "city"},
        {"type": "signature_delta", "signature": "c2ln"},
    ),
    *_block(
        1,
        {"type": "text", "text": ""},
        {"type": "text_delta", "text": "Hello"},
        {"type": "text_delta", "text": " you"},
    ),
    *_block(
        2,
        {"type": "tool_use", "id": "toolu_01", "name": "weather", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"city":'},
        {"type": "input_json_delta", "partial_json": '"Oslo"}'},
    ),
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 42},
    },
    {"type": "message_stop"},
]  # fmt: skip

OVERLOADED: Json = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}

_USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 42,
    "total_tokens": 54,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 7},
}

CHAT_COMPLETION: Json = {
    "id": "chatcmpl-01",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "m1",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "logprobs": None,
            "message": {
                "role": "assistant",
                "content": "Hello you",
                "tool_calls": [
                    {
                        "id": "call_01",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
                    }
                ],
            },
        }
    ],
    "usage": _USAGE,
}


GEMINI_REPLY: Json = {
    "candidates": [
        {"content": {"role": "model", "parts": [{"text": "Hello you"}]}, "finishReason": "STOP", "index": 0}
    ],
    "usageMetadata": {"promptTokenCount": 12, "candidatesTokenCount": 42, "totalTokenCount": 54},
    "modelVersion": "g",
    "responseId": "r1",
}

CONVERSE_REPLY: Json = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Hello you"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 12, "outputTokens": 42, "totalTokens": 54},
    "metrics": {"latencyMs": 1},
}

CONVERSE_STREAM: list[tuple[str, Json]] = [
    ("messageStart", {"role": "assistant"}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hello"}}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": " you"}}),
    ("contentBlockStop", {"contentBlockIndex": 0}),
    ("messageStop", {"stopReason": "end_turn"}),
    ("metadata", {"usage": {"inputTokens": 12, "outputTokens": 42, "totalTokens": 54}, "metrics": {"latencyMs": 1}}),
]


def aws_frame(kind: str, event: Json) -> bytes:
    """One message of `application/vnd.amazon.eventstream`: lengths, their CRC, headers, payload, CRC of it all."""
    payload, headers = orjson.dumps(event), b""
    for name, value in ((":message-type", "event"), (":event-type", kind), (":content-type", "application/json")):
        headers += bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    frame = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return frame + struct.pack(">I", zlib.crc32(frame))


def chat_chunk(delta: Json, finish_reason: str | None = None) -> Json:
    return {
        "id": "chatcmpl-01",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "m1",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }


def _call(**function: str) -> Json:
    return {"tool_calls": [{"index": 0, "function": function}]}


CHAT_STREAM: list[Json] = [
    chat_chunk({"role": "assistant", "content": ""}),
    chat_chunk({"content": "Hello"}),
    chat_chunk({"content": " you"}),
    chat_chunk({
        "tool_calls": [
            {"index": 0, "id": "call_01", "type": "function", "function": {"name": "weather", "arguments": ""}}
        ]
    }),
    chat_chunk(_call(arguments='{"city":')),
    chat_chunk(_call(arguments='"Oslo"}')),
    chat_chunk({}, "tool_calls"),
    {**chat_chunk({}), "choices": [], "usage": _USAGE},
]  # fmt: skip


def anthropic(*, upto: int | None = None) -> Script:
    """An Anthropic upstream; `upto` events of the stream and then its end."""

    async def script(request: Request, reply: Reply) -> None:
        if not request.json.get("stream"):
            await reply.json(ANTHROPIC_MESSAGE)
            return
        await reply.start_stream()
        for event in ANTHROPIC_STREAM[:upto]:
            await reply.event(event, event["type"])
        await reply.end_stream()

    return script


def openai(*, upto: int | None = None) -> Script:
    """An OpenAI-style upstream; `upto` chunks of the stream and then its end."""

    async def script(request: Request, reply: Reply) -> None:
        if not request.json.get("stream"):
            await reply.json(CHAT_COMPLETION)
            return
        await reply.start_stream()
        for chunk in CHAT_STREAM[:upto]:
            await reply.event(chunk)
        if upto is None:
            await reply.event(b"[DONE]")
        await reply.end_stream()

    return script
