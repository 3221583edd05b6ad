"""What the proxy counts is what the engine counts."""

import httpx
import pytest

from tests.engine.asks import GENERATING, of_length
from tests.engine.spillway import Spillway, until
from tests.engine.vllm import Engine

TOKENS = 20


def engine_tokens(engine: Engine) -> tuple[float, float]:
    return engine.metric("vllm:prompt_tokens_total"), engine.metric("vllm:generation_tokens_total")


def proxy_tokens(spillway: Spillway) -> tuple[float, float]:
    return (
        spillway.metric("spillway_tokens_total", target="engine", direction="input"),
        spillway.metric("spillway_tokens_total", target="engine", direction="output"),
    )


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("path", GENERATING)
def test_tokens_agree_with_the_engines_own_count(
    path: str, stream: bool, engine: Engine, spillway: Spillway, proxied: httpx.Client
) -> None:
    engine_before, proxy_before = engine_tokens(engine), proxy_tokens(spillway)
    reply = proxied.post(path, json=of_length(path, TOKENS, stream=stream))
    attempt = spillway.record_of(reply.headers["x-request-id"])["attempts"][0]
    assert (attempt["output_tokens"], attempt["estimated"]) == (TOKENS, False)

    def agreed() -> bool:
        engine_now, proxy_now = engine_tokens(engine), proxy_tokens(spillway)
        counted = [now - before for now, before in zip(proxy_now, proxy_before, strict=True)]
        return counted == [now - before for now, before in zip(engine_now, engine_before, strict=True)]

    until(agreed, "the proxy and the engine count differently", 5)


def test_dedicated_tokens_cost_no_token_dollars(spillway: Spillway, proxied: httpx.Client) -> None:
    reply = proxied.post("/completions", json=of_length("/completions", TOKENS))
    attempt = spillway.record_of(reply.headers["x-request-id"])["attempts"][0]
    assert (attempt["nano_usd"], attempt["lane"]) == (0, "dedicated")
