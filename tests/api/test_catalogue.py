"""What clients find when they look around: models they may use, and nothing of the others."""

from __future__ import annotations

import openai
import pytest
from proxy.policy.model import Tenant
from tests.harness import dedicated, proxy, shared, snapshot_of

URL = "http://127.0.0.1:1/v1"
POLICY = snapshot_of(
    dedicated("gpu", URL),
    shared("api", URL),
    bank=Tenant(name="bank"),
    guest=Tenant(name="guest", models=frozenset({"other"})),
)
BANK, GUEST = {"authorization": "Bearer sk-bank"}, {"authorization": "Bearer sk-guest"}


async def test_models_are_listed_with_their_lanes() -> None:
    async with proxy(POLICY) as spillway:
        got = await spillway.get("/v1/models", BANK)
        one = await spillway.get("/v1/models/m", BANK)
    assert got.json["object"] == "list"
    assert got.json["data"] == [one.json]
    assert one.json["id"] == "m"
    assert one.json["lanes"] == ["dedicated", "shared"]
    assert got.headers["x-request-id"]


async def test_a_tenant_sees_its_own_models_only() -> None:
    async with proxy(POLICY) as spillway:
        got = await spillway.get("/v1/models", GUEST)
        hidden = await spillway.get("/v1/models/m", GUEST)
        missing = await spillway.get("/v1/models/n", GUEST)
    assert got.json["data"] == []
    assert (hidden.status, missing.status) == (404, 404)
    assert hidden.body.replace(b"`m`", b"`n`") == missing.body


async def test_without_a_key_there_is_nothing_to_see() -> None:
    async with proxy(POLICY) as spillway:
        assert (await spillway.get("/v1/models")).status == 401
        assert (await spillway.get("/v1/models/m")).status == 401


@pytest.mark.parametrize("path", ["/v1/models/a%2Fb", "/v1/models/a/b"])
async def test_a_name_with_a_slash_is_a_name(path: str) -> None:
    snapshot = snapshot_of(dedicated("gpu", URL))
    snapshot.models["a/b"] = snapshot.models["m"]  # type: ignore[index]
    async with proxy(snapshot) as spillway:
        assert (await spillway.get(path)).json["id"] == "a/b"


async def test_the_sdks_read_the_list() -> None:
    async with proxy(POLICY) as spillway:
        url = f"http://127.0.0.1:{spillway.port}"
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-bank", max_retries=0) as client:
            assert [model.id async for model in client.models.list()] == ["m"]
            assert (await client.models.retrieve("m")).owned_by == "spillway"
            with pytest.raises(openai.NotFoundError):
                await client.models.retrieve("n")


async def test_an_unknown_path_is_told_in_the_protocol_of_its_neighbours() -> None:
    async with proxy(POLICY) as spillway:
        plain = await spillway.post("/v1/nowhere", {})
        batches = await spillway.get("/v1/messages/batches")
    assert plain.json["error"]["code"] == "unknown_url"
    assert batches.json["error"]["type"] == "not_found_error"
