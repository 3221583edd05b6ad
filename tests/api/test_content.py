"""What is found in a prompt, on every endpoint and however it is spelled; and how much of a body is media."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from proxy.api.content import MEDIA_TOKENS, TEXT_ONLY, Content, UnreadableContent, read_content
from proxy.policy.model import Modality

IMAGE, AUDIO, VIDEO, FILE = Modality.IMAGE, Modality.AUDIO, Modality.VIDEO, Modality.FILE
DATA = base64.b64encode(bytes(range(256)) * 16).decode()
URL = f"data:image/png;base64,{DATA}"


def read(**members: Any) -> Content:
    return read_raw(json.dumps(members).encode())


def read_raw(body: bytes) -> Content:
    return read_content(msgspec.json.decode(body, type=dict[str, msgspec.Raw]))


def user(*parts: Any) -> dict[str, Any]:
    return {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": list(parts)}]}


TEXT = {"type": "text", "text": "hi"}
MEDIA: dict[str, tuple[dict[str, Any], set[Modality]]] = {
    "chat image": (user(TEXT, {"type": "image_url", "image_url": {"url": URL}}), {IMAGE}),
    "chat image by link": (user({"type": "image_url", "image_url": {"url": "https://e.com/a.png"}}), {IMAGE}),
    "chat audio": (user({"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}}), {AUDIO}),
    "chat file": (user({"type": "file", "file": {"file_data": URL, "filename": "a.pdf"}}), {FILE}),
    "chat file by id": (user({"type": "file", "file": {"file_id": "f_1"}}), {FILE}),
    "vllm video": (user({"type": "video_url", "video_url": {"url": URL}}), {VIDEO}),
    "vllm audio": (user({"type": "audio_url", "audio_url": {"url": URL}}), {AUDIO}),
    "vllm without a type": (user({"image_url": {"url": URL}}), {IMAGE}),
    "a type that lies": (user({"type": "text", "text": "hi", "image_url": {"url": URL}}), {IMAGE}),
    "one part as an object": ({"messages": [{"role": "user", "content": {"type": "image_url"}}]}, {IMAGE}),
    "two kinds": (user({"type": "image_url", "image_url": {"url": URL}}, {"type": "file", "file": {}}), {IMAGE, FILE}),
    "chat tool result": ({"messages": [{"role": "tool", "content": [{"type": "image_url"}]}]}, {IMAGE}),
    "a spoken answer": ({"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]}, {AUDIO}),
    "responses image": ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": URL}]}]}, {IMAGE}),
    "responses image by id": ({"input": [{"content": [{"type": "input_image", "file_id": "f_1"}]}]}, {IMAGE}),
    "responses file": ({"input": [{"content": [{"type": "input_file", "file_data": URL}]}]}, {FILE}),
    "responses audio": ({"input": [{"content": [{"type": "input_audio", "input_audio": {"data": DATA}}]}]}, {AUDIO}),
    "responses bare item": ({"input": [{"type": "input_image", "image_url": URL}]}, {IMAGE}),
    "responses tool output": (
        {"input": [{"type": "function_call_output", "output": [{"type": "input_image", "image_url": URL}]}]},
        {IMAGE},
    ),
    "responses screenshot": (
        {"input": [{"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": URL}}]},
        {IMAGE},
    ),
    "responses generated image": ({"input": [{"type": "image_generation_call", "result": DATA}]}, {IMAGE}),
    "responses prompt variable": (
        {"prompt": {"id": "p_1", "variables": {"city": "Paris", "x": {"type": "input_file", "file_id": "f_1"}}}},
        {FILE},
    ),
    "messages image": (user({"type": "image", "source": {"type": "base64", "data": DATA}}), {IMAGE}),
    "messages image by id": (user({"type": "image", "source": {"type": "file", "file_id": "f_1"}}), {IMAGE}),
    "messages document": (user({"type": "document", "source": {"type": "base64", "data": DATA}}), {FILE}),
    "messages tool result": (
        user({"type": "tool_result", "content": [{"type": "image", "source": {"type": "base64", "data": DATA}}]}),
        {IMAGE},
    ),
    "messages document with an image": (
        user({"type": "document", "source": {"type": "content", "content": [{"type": "image", "source": {}}]}}),
        {FILE, IMAGE},
    ),
    "messages upload": (user({"type": "container_upload", "file_id": "f_1"}), {FILE}),
    "sglang embedding": ({"input": [{"text": "hi", "image": URL}]}, {IMAGE}),
    "llama.cpp": ({"prompt": {"prompt_string": "hi", "multimodal_data": [DATA]}}, {IMAGE}),
}


@pytest.mark.parametrize("name", MEDIA)
def test_every_medium_is_found(name: str) -> None:
    members, modalities = MEDIA[name]
    content = read(**members)
    assert content.modalities == modalities
    assert content.encoded_bytes <= len(json.dumps(members))


@pytest.mark.parametrize("name", MEDIA)
def test_escapes_hide_nothing(name: str) -> None:
    """Every word that names a kind, spelled with escapes."""
    members, modalities = MEDIA[name]
    body = json.dumps(members)
    for word in ("image", "audio", "video", "file", "document", "container", "computer", "multimodal"):
        body = body.replace(f'"{word}', '"' + "".join(f"\\u{ord(letter):04x}" for letter in word))
        body = body.replace(f'"input_{word}', f'"\\u0069nput_{word}')
    assert "\\u" in body
    assert read_raw(body.encode()).modalities == modalities


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"messages": None, "input": None, "prompt": None},
        {"messages": [{"role": "user", "content": 'an "image_url" in words, and an input_audio'}]},
        user(TEXT, {"type": "refusal", "refusal": "image"}),
        {"messages": [{"role": "assistant", "content": None, "audio": None, "tool_calls": []}]},
        user({"type": "tool_use", "id": "t", "name": "n", "input": {"image": "a", "file": "b", "type": "document"}}),
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": '{"file":"a"}'}}]}]},
        {"input": "image_url"},
        {"input": ["image", "file"]},
        {"input": [[1, 2, 3], [4]]},
        {"prompt": ["audio"]},
        {"input": [{"type": "function_call", "name": "file", "arguments": '{"type":"image"}'}]},
        {"prompt": {"id": "p_1", "variables": {"image": "a word"}}},
        {"messages": [None, 1, "image", [["image"]]]},
        {"messages": [{"content": [{"type": ["image"]}, {"type": None}]}]},
        {"tools": [{"type": "function", "function": {"parameters": {"image": {}, "file": {}}}}]},
        {"system": [{"type": "text", "text": "image"}]},
    ],
)
def test_text_is_only_text(members: dict[str, Any]) -> None:
    assert read(**members) is TEXT_ONLY


def test_media_count_at_flat_figures_and_their_bytes_are_known() -> None:
    content = read(**user(TEXT, {"type": "image_url", "image_url": {"url": URL}}, {"type": "image_url"}))
    assert content.media_tokens == 2 * MEDIA_TOKENS[IMAGE]
    assert content.encoded_bytes == len(URL)
    spoken = read(**user({"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}}))
    assert (spoken.media_tokens, spoken.encoded_bytes) == (MEDIA_TOKENS[AUDIO], len(DATA))


def test_a_document_in_words_counts_by_its_length() -> None:
    words = "many words " * 100
    content = read(**user({"type": "document", "source": {"type": "text", "data": words}}))
    assert (content.modalities, content.media_tokens, content.encoded_bytes) == ({FILE}, 0, 0)


def test_words_in_a_part_of_another_kind_are_not_left_out() -> None:
    content = read(**user({"type": "image_url", "image_url": {"url": URL}, "text": "many words " * 1000}))
    assert content.encoded_bytes == len(URL)


def test_a_number_out_of_range_hides_nothing() -> None:
    assert read_raw(b'{"messages":[{"x":1e400,"content":[{"type":"image_url"}]}]}').modalities == {IMAGE}


def test_what_no_decoder_takes_is_refused() -> None:
    with pytest.raises(UnreadableContent, match="messages"):
        read_raw(b'{"messages":[' + b"9" * 5000 + b',{"content":[{"type":"image_url"}]}]}')


def test_the_deepest_nesting_that_passes_the_guard_is_walked() -> None:
    body = b'{"content":' * 126 + b'{"type":"image"}' + b"}" * 126
    assert read_raw(b'{"messages":' + body + b"}").modalities == {IMAGE}
