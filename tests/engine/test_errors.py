"""Refusals of the engine and of the proxy, in the shape that each protocol's clients expect."""

from typing import Any

import httpx
import pytest

from tests.engine.asks import GENERATING, chat, completion, messages, responses
from tests.engine.spillway import Spillway
from tests.engine.vllm import MAX_MODEL_LEN

LONG = "word " * (2 * MAX_MODEL_LEN)
REJECTED: dict[str, tuple[str, dict[str, Any]]] = {
    "bad value": ("/chat/completions", chat(temperature=-5)),
    "bad type": ("/chat/completions", chat(temperature="hot")),
    "no list": ("/chat/completions", chat(messages="Hello")),
    "answer too long": ("/chat/completions", chat(max_tokens=10 * MAX_MODEL_LEN)),
    "prompt too long": ("/chat/completions", chat(messages=[{"role": "user", "content": LONG}])),
    "prompt too long, completions": ("/completions", completion(prompt=LONG)),
    "prompt too long, responses": ("/responses", responses(input=LONG)),
    "prompt too long, messages": ("/messages", messages(messages=[{"role": "user", "content": LONG}])),
    "bad value, messages": ("/messages", messages(temperature=-5)),
}


def assert_shaped(path: str, response: httpx.Response, status: int) -> dict[str, Any]:
    """The error of a reply, which must be whole JSON in the shape of its protocol."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json")
    assert response.headers["x-request-id"]
    body = response.json()
    assert "detail" not in body
    if path.startswith("/messages"):
        assert body["type"] == "error"
    error: dict[str, Any] = body["error"]
    assert {"message", "type"} <= error.keys()
    assert error["message"]
    return error


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", REJECTED)
def test_engines_refusal_reaches_the_client(
    name: str, stream: bool, direct: httpx.Client, proxied: httpx.Client, spillway: Spillway
) -> None:
    path, body = REJECTED[name]
    expected, seen = (
        direct.post(path, json=body | {"stream": stream}),
        proxied.post(path, json=body | {"stream": stream}),
    )
    assert expected.status_code == 400
    error = assert_shaped(path, seen, 400)
    assert error["message"] == expected.json()["error"]["message"]
    attempts = spillway.record_of(seen.headers["x-request-id"])["attempts"]
    assert [(attempt["status"], attempt["failure"]) for attempt in attempts] == [(400, "rejected")]


@pytest.mark.parametrize("path", GENERATING)
def test_unknown_model_is_404(path: str, proxied: httpx.Client) -> None:
    error = assert_shaped(path, proxied.post(path, json=GENERATING[path](model="nobody")), 404)
    assert "nobody" in error["message"]


@pytest.mark.parametrize("path", GENERATING)
def test_wrong_key_is_401(path: str, proxied: httpx.Client) -> None:
    wrong = {"authorization": "Bearer sk-wrong"}
    error = assert_shaped(path, proxied.post(path, json=GENERATING[path](), headers=wrong), 401)
    assert "sk-wrong" not in error["message"]


def test_what_the_engine_does_not_serve_is_404_in_shape(proxied: httpx.Client) -> None:
    """A generating vLLM has no embeddings; it answers `{"detail": "Not Found"}`, which no SDK understands."""
    assert_shaped("/embeddings", proxied.post("/embeddings", json={"model": "tiny", "input": "Hello"}), 404)


def test_engine_goes_on_after_refusals(proxied: httpx.Client, spillway: Spillway) -> None:
    """What a client got wrong does not count against the engine's health."""
    for _ in range(20):
        assert proxied.post("/chat/completions", json=chat(temperature=-5)).status_code == 400
    assert proxied.post("/chat/completions", json=chat()).status_code == 200
