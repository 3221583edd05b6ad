"""What the policy sets for a target is in every body sent there, on both ways, whatever the caller wrote."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import msgspec
import orjson
import pytest
from proxy.policy.model import Endpoint, Timeouts
from proxy.routing.decide import Router
from proxy.routing.plan import Attempt
from proxy.upstream.parameters import encoded, set_in
from proxy.upstream.passthrough import PATHS
from proxy.upstream.translated import Translated
from proxy.upstream.translated_wire import Wire
from tests.harness import dedicated, proxy, snapshot_of
from tests.scripted import CHAT_REPLY, reply, scripted
from tests.upstream import translated_events as said
from tests.upstream.translated_events import anthropic, openai
from tests.upstream.translated_play import BODIES, CANARY, LITELLM, PROVIDERS, USER, ask, attempt, call
from tests.upstream.translated_server import Reply, Request, Script, Upstream

PARAMETERS = {"inference_geo": "us", "top_k": 5, "safe": True, "share": 0.5}


def told(to: Attempt) -> Attempt:
    return msgspec.structs.replace(to, target=replace(to.target, parameters=PARAMETERS))


def test_they_are_encoded_as_members() -> None:
    members = encoded(dedicated("gpu", "http://gpu/v1", parameters=PARAMETERS))
    assert {name: bytes(raw) for name, raw in members.items()} == {
        "inference_geo": b'"us"',
        "top_k": b"5",
        "safe": b"true",
        "share": b"0.5",
    }


def test_they_win_and_leave_the_rest_to_the_byte() -> None:
    members = encoded(dedicated("gpu", "http://gpu/v1", parameters={"top_k": 5}))
    assert set_in(b'{"top_k":1,"big":12345678901234567890123,"e":1e400}', members) == (
        b'{"top_k":5,"big":12345678901234567890123,"e":1e400}'
    )


@pytest.mark.parametrize("body", [b"", b"[]", b"a=b", b"\xff"])
def test_what_is_no_object_is_an_error(body: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        set_in(body, {})


@pytest.mark.parametrize("endpoint", PATHS)
async def test_native_targets_get_them_on_every_endpoint(endpoint: Endpoint) -> None:
    async with scripted([reply(CHAT_REPLY)]) as up:
        async with proxy(snapshot_of(dedicated("gpu", up.url, parameters=PARAMETERS))) as spillway:
            await spillway.post(f"/v1{PATHS[endpoint]}", {"model": "m", "top_k": 1, "safe": False, "kept": "x"})
    (sent,) = up.requests
    assert orjson.loads(sent.body) == {"model": "up", "kept": "x", **PARAMETERS}


async def test_a_new_policys_parameters_hold_from_its_first_request_on() -> None:
    async with scripted([reply(CHAT_REPLY)]) as up:
        target = dedicated("gpu", up.url)
        async with proxy(snapshot_of(target)) as spillway:
            ask_ = {"model": "m", "messages": USER}
            await spillway.post("/v1/chat/completions", ask_)
            changed = snapshot_of(replace(target, parameters={"inference_geo": "eu"}))
            spillway.spillway.adopt(Router(replace(changed, digest="e" * 64)))
            await spillway.post("/v1/chat/completions", ask_)
    assert ["inference_geo" in orjson.loads(sent.body) for sent in up.requests] == [False, True]


# translated

pytestmark = LITELLM


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("endpoint", BODIES)
@pytest.mark.parametrize(("provider", "script"), PROVIDERS)
async def test_translated_targets_get_them_whatever_the_provider(
    translated: Translated, provider: str, script: Callable[[], Script], endpoint: Endpoint, stream: bool
) -> None:
    async with Upstream(script()) as upstream:
        to = told(attempt(provider, upstream.url))
        sink = await ask(translated, to, call(endpoint, stream=stream, **BODIES[endpoint]))
    assert sink.status == 200
    (sent,) = upstream.requests
    assert {name: sent.json.get(name) for name in PARAMETERS} == PARAMETERS
    assert CANARY not in sent.body.decode()


async def test_they_win_over_what_a_translated_caller_sent(translated: Translated) -> None:
    async with Upstream(anthropic()) as upstream:
        request = call(Endpoint.MESSAGES, **BODIES[Endpoint.MESSAGES], top_k=1)
        await ask(translated, told(attempt("anthropic", upstream.url)), request)
    (sent,) = upstream.requests
    assert sent.json["top_k"] == 5


async def test_translated_embeddings_get_them(translated: Translated) -> None:
    async with Upstream(openai()) as upstream:
        await ask(translated, told(attempt("hosted_vllm", upstream.url)), call(Endpoint.EMBEDDINGS, input="hi"))
    (sent,) = upstream.requests
    assert sent.json["inference_geo"] == "us"


async def test_signed_bodies_get_them_before_they_are_signed(
    translated: Translated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    async def script(request: Request, answer: Reply) -> None:
        await answer.json(said.CONVERSE_REPLY)

    async with Upstream(script) as upstream:
        to = told(attempt("bedrock", f"http://127.0.0.1:{upstream.port}", key=None, region="eu-west-1"))
        to = msgspec.structs.replace(to, model="converse/anthropic.claude-3-5-sonnet-20240620-v1:0")
        sink = await ask(translated, to, call(Endpoint.CHAT, messages=USER))
    assert sink.status == 200
    (sent,) = upstream.requests
    assert sent.json["additionalModelRequestFields"]["inference_geo"] == "us"


class Network(httpx.AsyncBaseTransport):
    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(200, stream=httpx.ByteStream(b"{}"))


def wire(**parameters: Any) -> tuple[Wire, Network]:
    network = Network()
    members = encoded(dedicated("gpu", "http://gpu/v1", parameters=parameters))
    return Wire(network, None, Timeouts(), members), network


async def test_the_wire_sets_them_and_the_length() -> None:
    over, network = wire(inference_geo="us")
    await over.send(httpx.Request("POST", "https://api.example/v1", json={"inference_geo": "eu", "a": 1}))
    (sent,) = network.requests
    assert orjson.loads(await sent.aread()) == {"inference_geo": "us", "a": 1}
    assert sent.headers["content-length"] == str(len(sent.content))
    assert sent.headers["content-type"] == "application/json"


async def test_a_body_that_cannot_take_them_does_not_leave() -> None:
    over, network = wire(inference_geo="us")
    with pytest.raises(httpx.NetworkError):
        await over.send(httpx.Request("POST", "https://api.example/v1", content=b"prompt"))
    assert network.requests == []
    assert over.failure is not None
    assert "`parameters`" in over.failure.detail


async def test_a_request_for_a_token_is_none_for_a_model() -> None:
    over, network = wire(inference_geo="us")
    await over.send(httpx.Request("POST", "https://iam.example/token", data={"grant_type": "x"}))
    assert [await sent.aread() for sent in network.requests] == [b"grant_type=x"]
