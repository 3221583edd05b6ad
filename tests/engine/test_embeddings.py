"""Embeddings, from a vLLM that serves the tiny model as an embedding model."""

import httpx
import pytest

from tests.engine import spillway as proxies
from tests.engine.fixtures import ONE_ENGINE, StartSpillway, client
from tests.engine.spillway import Spillway
from tests.engine.vllm import Engine

ASKS = {
    "floats": {"model": "tiny", "input": "Hello there"},
    "batch": {"model": "tiny", "input": ["Hello", "there"]},
    "base64": {"model": "tiny", "input": "Hello there", "encoding_format": "base64"},
    "token ids": {"model": "tiny", "input": [300, 301, 302]},
}


@pytest.fixture
def embedder(embedding_engine: Engine, start_spillway: StartSpillway) -> Spillway:
    return start_spillway(ONE_ENGINE.format(url=embedding_engine.url))


def test_vectors_are_the_engines(embedder: Spillway, embedding_engine: Engine) -> None:
    with client(embedder.url, proxies.KEY) as proxied, client(embedding_engine.url, "unused") as direct:
        for name, body in ASKS.items():
            expected, seen = direct.post("/embeddings", json=body), proxied.post("/embeddings", json=body)
            assert (seen.status_code, name) == (200, name)
            assert seen.json()["data"] == expected.json()["data"]
            assert seen.json()["usage"] == expected.json()["usage"]


def test_embeddings_are_metered(embedder: Spillway) -> None:
    with client(embedder.url, proxies.KEY) as proxied:
        reply: httpx.Response = proxied.post("/embeddings", json=ASKS["batch"])
    attempt = embedder.record_of(reply.headers["x-request-id"])["attempts"][0]
    assert (attempt["input_tokens"], attempt["output_tokens"]) == (reply.json()["usage"]["prompt_tokens"], 0)
    assert not attempt["estimated"]
