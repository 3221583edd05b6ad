"""A recording sink, requests and targets, for the tests of translation that need LiteLLM."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import orjson
import pytest
from proxy.policy.model import Endpoint, Lane, Secret, Target, Timeouts
from proxy.routing.plan import Attempt, Cause
from proxy.upstream.base import Call, Exchange, Head
from proxy.upstream.errors import UpstreamError
from proxy.upstream.translated import Translated
from tests.upstream.translated_events import anthropic, openai
from tests.upstream.translated_server import Script, Upstream

# One worker imports LiteLLM, not each of them. The filters are its own, for warnings of its pydantic models, which
# pytest resets before every test.
LITELLM = [
    pytest.mark.xdist_group("litellm"),
    pytest.mark.filterwarnings("ignore:.*ReadOnly.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*conflict with protected namespace.*"),
    pytest.mark.filterwarnings("ignore:.*Accessing the.*attribute on the instance is deprecated.*"),
]

CANARY = "sk-canary-do-not-leak-0123456789"
USER = [{"role": "user", "content": "hi"}]

PROVIDERS = [("anthropic", anthropic), ("openai", openai), ("hosted_vllm", openai)]
BODIES: dict[Endpoint, dict[str, Any]] = {
    Endpoint.CHAT: {"messages": USER},
    Endpoint.COMPLETIONS: {"prompt": "hi"},
    Endpoint.MESSAGES: {"messages": USER, "max_tokens": 64},
    Endpoint.RESPONSES: {"input": "hi"},
}


class Sink:
    """Records what the relay would get."""

    def __init__(self) -> None:
        self.heads: list[Head] = []
        self.blocks: list[bytes] = []
        self.failure: UpstreamError | None = None
        self.ended = False
        self.over = asyncio.Event()
        self.arrived = asyncio.Event()
        self.exchange: Exchange | None = None
        self.after: Callable[[Sink], None] = lambda _: None

    def on_head(self, head: Head) -> None:
        assert not self.over.is_set()
        self.heads.append(head)

    def on_data(self, data: bytes) -> None:
        assert self.heads
        assert not self.over.is_set()
        self.blocks.append(data)
        self.arrived.set()
        self.after(self)

    def on_end(self) -> None:
        self.ended = True
        self._finish()

    def on_failure(self, error: UpstreamError) -> None:
        self.failure = error
        self._finish()

    def _finish(self) -> None:
        assert not self.over.is_set()
        self.over.set()

    @property
    def status(self) -> int:
        (head,) = self.heads
        return head.status

    @property
    def body(self) -> bytes:
        return b"".join(self.blocks)

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The decoded `data` of each event, `[DONE]` left out; a name must agree with the type."""
        found = []
        for block in self.body.decode().strip().split("\n\n"):
            *name, data = block.split("\n")
            if data == "data: [DONE]":
                continue
            event = orjson.loads(data.removeprefix("data: "))
            if name:
                assert name == [f"event: {event['type']}"]
            found.append(event)
        return found

    @property
    def text(self) -> str:
        """The text of a chat stream."""
        return "".join(event["choices"][0]["delta"].get("content") or "" for event in self.events if event["choices"])


def call(endpoint: Endpoint, *, stream: bool = False, **body: Any) -> Call:
    members = {key: msgspec.Raw(orjson.dumps(value)) for key, value in body.items()}
    return Call(request_id="r1", endpoint=endpoint, body=members, headers=[], stream=stream)


def attempt(
    provider: str, url: str, *, key: str | None = CANARY, timeouts: Timeouts | None = None, region: str = "eu"
) -> Attempt:
    target = Target(
        name="t",
        lane=Lane.SHARED,
        model="m1",
        region=region,
        urls=(url,),
        provider=provider,
        api_key=Secret(key) if key else None,
        timeouts=timeouts or Timeouts(),
    )
    return Attempt(target=target, replica=0, model="m1", ordinal=0, cause=Cause.PREFERRED, reason="")


async def ask(translated: Translated, to: Attempt, request: Call) -> Sink:
    sink = Sink()
    sink.exchange = translated.open(to, request, sink)
    async with asyncio.timeout(20):
        await sink.over.wait()
    return sink


async def serve(translated: Translated, script: Script, provider: str, request: Call) -> tuple[Sink, Upstream]:
    async with Upstream(script) as upstream:
        return await ask(translated, attempt(provider, upstream.url), request), upstream
