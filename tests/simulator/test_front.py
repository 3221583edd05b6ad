"""The front door: models, health, keys, errors, the ledger as a page."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from openai import APIStatusError, AsyncOpenAI, BadRequestError, NotFoundError
from proxy.simulator.asks import CHAT, COMPLETIONS, MESSAGES, RESPONSES
from proxy.simulator.engine import EngineSimulator
from tests.simulator.calls import FAST, USER, exchange, sdk


async def test_models_health_and_an_unknown_path() -> None:
    async with EngineSimulator(FAST) as sim, sdk(sim) as client:
        listed = await client.models.list()
        one = await client.models.retrieve(sim.model)
        health = await exchange(sim, "/health", None, method="GET")
        unknown = await exchange(sim, "/v1/nothing", None, method="GET")
        wrong_method = await exchange(sim, CHAT, None, method="GET")
    assert [each.id for each in listed.data] == [one.id] == [sim.model]
    assert (health[0], unknown[0], wrong_method[0]) == (200, 404, 405)
    assert b"server: spillway-engine-simulator" in health[1]


async def test_errors_are_what_the_sdk_expects() -> None:
    async with EngineSimulator(replace(FAST, kv_tokens=100)) as sim, sdk(sim) as client:
        with pytest.raises(NotFoundError) as missing:
            await client.chat.completions.create(model="other", messages=USER)
        with pytest.raises(BadRequestError) as bad:
            await client.chat.completions.create(model=sim.model, messages=[])
        with pytest.raises(BadRequestError, match="maximum context length is 100"):
            await client.chat.completions.create(model=sim.model, messages=USER, max_tokens=91)
    assert missing.value.param == "model"
    assert bad.value.param == "messages"


async def test_an_api_key_is_asked_for_when_there_is_one() -> None:
    async with EngineSimulator(FAST, api_key="secret") as sim:
        for key, status in (("wrong", 401), ("secret", 200)):
            async with AsyncOpenAI(base_url=sim.url, api_key=key, max_retries=0) as client:
                try:
                    await client.chat.completions.create(model=sim.model, messages=USER, max_tokens=1)
                    seen = 200
                except APIStatusError as error:
                    seen = error.status_code
            assert seen == status


async def test_the_ledger_is_served_as_json() -> None:
    async with EngineSimulator(FAST) as sim:
        await exchange(sim, RESPONSES, {"model": sim.model, "input": "x" * 40, "max_output_tokens": 3})
        await exchange(sim, COMPLETIONS, {"model": "other", "prompt": "x"})
        ledger = orjson.loads((await exchange(sim, "/simulator/ledger", None, method="GET"))[2])
        totals = orjson.loads((await exchange(sim, "/simulator/totals", None, method="GET"))[2])
    assert ledger["totals"] == totals
    assert (totals["requests"], totals["refused"], totals["input_tokens"], totals["output_tokens"]) == (2, 1, 10, 3)
    assert [entry["status"] for entry in ledger["entries"]] == [200, 404]


async def test_errors_below_messages_have_anthropics_shape() -> None:
    async with EngineSimulator(FAST, api_key="secret") as sim:
        status, _, body = await exchange(sim, MESSAGES, {"model": sim.model, "messages": USER, "max_tokens": 1})
    assert status == 401
    assert orjson.loads(body) == {
        "type": "error",
        "error": {"type": "authentication_error", "message": "wrong API key"},
    }


async def test_a_request_without_a_model_gets_the_one_that_is_served() -> None:
    async with EngineSimulator(FAST) as sim:
        _, _, body = await exchange(sim, CHAT, {"messages": USER, "max_tokens": 1})
    assert orjson.loads(body)["model"] == sim.model
