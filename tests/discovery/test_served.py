"""A whole proxy beside an API server: requests go to the pods that it lists, and elsewhere while it lists none."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from proxy.policy.discovery import KubernetesService
from tests.apiserver import endpoint, endpoint_slice, serving
from tests.discovery.following import VLLM
from tests.harness import Proxy, dedicated, proxy, shared, snapshot_of
from tests.scripted import CHAT_REPLY, reply, scripted

ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


async def lane(spillway: Proxy) -> str:
    answer = await spillway.post("/v1/chat/completions", ASK)
    assert answer.status == 200
    return answer.headers["x-spillway-lane"]


async def until_served_by(spillway: Proxy, wanted: str) -> None:
    async with asyncio.timeout(10.0):
        while await lane(spillway) != wanted:
            await asyncio.sleep(0.01)


async def test_requests_follow_the_pods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [reply(CHAT_REPLY)] * 10_000
    async with scripted(answers) as pod, scripted(answers) as provider, serving(tmp_path) as (server, access):
        monkeypatch.setattr("proxy.discovery.api_client.from_here", lambda: access)
        port = urlsplit(pod.url).port or 0
        service: KubernetesService = replace(VLLM, port="http")
        own = replace(dedicated("own", "http://vllm.inference.svc:80/v1"), discovery=service)

        def there(*, ready: bool) -> None:
            one = endpoint("1", "127.0.0.1", ready=ready)
            server.put(endpoint_slice("one", one, ports=(("http", port), ("metrics", 9000))))

        there(ready=False)
        async with proxy(snapshot_of(own, shared("openai", provider.url))) as spillway:
            assert await lane(spillway) == "shared"
            there(ready=True)
            await until_served_by(spillway, "dedicated")
            await server.down()
            assert [await lane(spillway) for _ in range(5)] == ["dedicated"] * 5
            server.delete("one")
            await server.up()
            await until_served_by(spillway, "shared")
