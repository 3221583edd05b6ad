"""What a request is matched by, what keeps it from a target that could not serve it, and what a caller may choose.

One proxy serves one policy whose routes each prefer another lane; the lane that answers says which route has matched.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from proxy.policy.times import DAYS
from tests.e2e.processes import Served, ask, serving
from tests.scripted import CHAT_REPLY, ScriptedUpstream, reply, scripted

POLICY = """version: 1
targets:
  gpu:
    lane: dedicated
    url: {gpu}
    model: up
    supports: [tools]
    context_window: 8k
  api:
    lane: shared
    url: {api}
    model: up
    parameters: {{inference_geo: eu}}
models:
  m: [gpu, api]
tenants:
  shop:
    keys: ["sha256:{plain}", {{name: ci, digest: "sha256:{ci}", rpm: 2}}]
    request_tags: [eval]
routes:
  - {{name: pinned, match: {{tags: [eval]}}, target_override: true}}
  - {{name: by-key, match: {{key: shop/ci}}, prefer: shared}}
  - {{name: by-tools, match: {{tools: true}}, prefer: shared}}
  - {{name: by-image, match: {{modality: [image]}}}}
  - {{name: by-size, match: {{input_tokens: {{min: 2k}}}}, prefer: shared}}
  - {{name: by-night, match: {{traffic: offline, time: {{days: {other_day}}}}}}}
  - {{name: by-day, match: {{traffic: offline, time: {{days: {today}, zone: UTC}}}}, require: {{lane: shared}}}}
  - {{name: default}}
"""
PLAIN, CI = "sk-canary-plain-key", "sk-canary-ci-key"
IMAGE = [
    {"type": "text", "text": "what is this?"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
]
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@contextlib.asynccontextmanager
async def shop(folder: Path) -> AsyncIterator[tuple[Served, ScriptedUpstream]]:
    """The proxy, and its shared upstream."""
    async with scripted([reply(CHAT_REPLY)]) as gpu, scripted([reply(CHAT_REPLY)]) as api:
        path = folder / "policy.yaml"
        days = {"today": "sun-sat", "other_day": DAYS[(datetime.now(UTC).weekday() + 3) % 7]}
        path.write_text(POLICY.format(gpu=gpu.url, api=api.url, plain=digest(PLAIN), ci=digest(CI), **days))
        async with serving(path) as served:
            served.headers["authorization"] = f"Bearer {PLAIN}"
            yield served, api


async def test_each_condition_finds_its_route_and_each_claim_its_target(tmp_path: Path) -> None:
    content = {"messages": [{"role": "user", "content": IMAGE}]}
    async with shop(tmp_path) as (served, api):
        cases: list[tuple[dict[str, Any], str, str]] = [
            (ask(), "default", "gpu"),
            (ask(tools=[TOOL]), "by-tools", "api"),
            (ask(**content), "by-image", "api"),  # the engine claims no vision
            (ask(messages=[{"role": "user", "content": "x" * 9000}]), "by-size", "api"),
            (ask(tokens=9000), "default", "api"),  # more than the engine's window holds
            (ask(stream_options=None), "default", "gpu"),
        ]
        for body, route, target in cases:
            got = await served.post(body)
            assert (got.status, got.headers["x-spillway-route"]) == (200, route)
            assert got.headers["x-spillway-target"] == target
        assert {one.json["inference_geo"] for one in api.requests} == {"eu"}


async def test_what_a_caller_may_choose_and_what_not(tmp_path: Path) -> None:
    async with shop(tmp_path) as (served, _):
        plain = dict(served.headers)

        async def choosing(**headers: str) -> tuple[int, str]:
            served.headers = plain | {name.replace("_", "-"): value for name, value in headers.items()}
            got = await served.post(ask())
            return got.status, got.headers["x-spillway-target"] if got.status == 200 else got.json["error"]["code"]

        assert await choosing(x_spillway_tags="eval", x_spillway_target="api") == (200, "api")
        assert await choosing(x_spillway_tags="eval", x_spillway_target="gpu") == (200, "gpu")
        assert await choosing(x_spillway_tags="eval", x_spillway_target="none-such") == (404, "target_not_found")
        assert await choosing(x_spillway_target="api") == (403, "target_override_not_allowed")
        assert await choosing(x_spillway_tags="gdpr") == (403, "tag_not_allowed")
        assert await choosing(x_spillway_lane="shared") == (200, "api")
        assert await choosing(x_spillway_traffic="offline") == (200, "api")  # by the day of the week
        assert await choosing(authorization="Bearer sk-not-a-key") == (401, "invalid_api_key")


async def test_a_key_of_its_own_has_its_own_route_and_its_own_rate(tmp_path: Path) -> None:
    async with shop(tmp_path) as (served, _):
        served.headers["authorization"] = f"Bearer {CI}"
        got = [await served.post(ask()) for _ in range(3)]
        assert [one.status for one in got] == [200, 200, 429]
        assert got[0].headers["x-spillway-route"] == "by-key"
        assert got[2].json["error"]["message"] == "key `shop/ci` has used 2 of its 2 requests a minute"
        served.headers["authorization"] = f"Bearer {PLAIN}"
        assert (await served.post(ask())).status == 200
        assert CI not in served.said


@pytest.mark.parametrize("member", ["inference_geo", "api_base", "aws_region_name"])
async def test_no_caller_moves_its_request(member: str, tmp_path: Path) -> None:
    async with shop(tmp_path) as (served, api):
        got = await served.post(ask(**{member: "elsewhere"}))
        assert (got.status, got.json["error"]["code"]) == (400, "geo_parameter_not_allowed")
        assert got.json["error"]["param"] == member
        assert api.requests == []


async def test_a_redirect_is_a_failure_and_is_not_followed(tmp_path: Path) -> None:
    async with scripted([reply(CHAT_REPLY)]) as elsewhere, scripted([]) as api:
        api.scripts = [[reply(b"", "307 Temporary Redirect", f"location: {elsewhere.url}/chat/completions")]]
        path = tmp_path / "policy.yaml"
        path.write_text(
            f"version: 1\ntargets:\n  api: {{lane: shared, url: '{api.url}', model: up}}\nmodels: {{m: [api]}}\n"
        )
        async with serving(path) as served:
            got = await served.post(ask())
        assert got.status == 502
        assert (len(api.requests), elsewhere.connections) == (1, 0)
