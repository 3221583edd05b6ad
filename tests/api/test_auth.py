"""Whose key it is: the table of everything that a caller may send, and one constant answer to all that is wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
from proxy.api.auth import INVALID_KEY, authenticate
from proxy.policy.model import NO_KEY, Key, Tenant
from tests.harness import dedicated, proxy, snapshot_of
from tests.scripted import CHAT_REPLY, reply, scripted

CHAT = "/v1/chat/completions"
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
POLICY = snapshot_of(dedicated("gpu", "http://127.0.0.1:1/v1"), bank=Tenant(name="bank"), shop=Tenant(name="shop"))

GOOD = {
    "Bearer": {"authorization": "Bearer sk-bank"},
    "lower case": {"authorization": "bearer sk-bank"},
    "upper case": {"authorization": "BEARER sk-bank"},
    "more space": {"authorization": "Bearer   sk-bank"},
    "Anthropic's": {"x-api-key": "sk-bank"},
    "both": {"authorization": "Bearer sk-bank", "x-api-key": "sk-shop"},
}
WRONG = {
    "none": {},
    "empty": {"authorization": ""},
    "no key": {"authorization": "Bearer "},
    "no scheme": {"authorization": "sk-bank"},
    "another scheme": {"authorization": "Basic sk-bank"},
    "two keys in one": {"authorization": "Bearer sk-bank, Bearer sk-shop"},
    "wrong": {"authorization": "Bearer sk-banc"},
    "a prefix": {"authorization": "Bearer sk-ban"},
    "more than the key": {"authorization": "Bearer sk-bank1"},
    "another case": {"authorization": "Bearer SK-BANK"},
    "the digest": {"authorization": "Bearer " + next(iter(POLICY.keys)).hex()},
    "bytes": {"authorization": "Bearer \xff\xfe"},
    "long": {"authorization": "Bearer " + "k" * 12_000},
    "wrong Anthropic's": {"x-api-key": "sk-banc"},
    "empty Anthropic's": {"x-api-key": ""},
    "wrong beside right": {"authorization": "Bearer no", "x-api-key": "sk-bank"},
}


def fields(headers: dict[str, str]) -> dict[bytes, bytes]:
    return {name.encode(): value.encode("latin-1") for name, value in headers.items()}


@pytest.mark.parametrize("name", GOOD)
def test_a_key_is_found_however_it_is_sent(name: str) -> None:
    key = authenticate(POLICY, fields(GOOD[name]))
    assert isinstance(key, Key)
    assert key.tenant.name == "bank"


@pytest.mark.parametrize("name", WRONG)
def test_everything_else_gets_the_same_refusal(name: str) -> None:
    assert authenticate(POLICY, fields(WRONG[name])) is INVALID_KEY


def test_a_policy_without_keys_takes_everybody() -> None:
    assert authenticate(snapshot_of(dedicated("gpu", "x")), {}) is NO_KEY


async def test_the_answer_is_constant_and_nothing_goes_upstream() -> None:
    async with scripted([reply(CHAT_REPLY)]) as up:
        policy = replace(POLICY, models=snapshot_of(dedicated("gpu", up.url)).models)
        async with proxy(policy) as spillway:
            answers = [await spillway.post(CHAT, ASK, headers) for headers in WRONG.values()]
            lists = [await spillway.get("/v1/models", headers) for headers in WRONG.values()]
            good = [await spillway.post(CHAT, ASK, headers) for headers in GOOD.values()]
    assert {(got.status, got.body) for got in answers} == {(401, answers[0].body)}
    assert {(got.status, got.body) for got in lists} == {(401, answers[0].body)}
    assert answers[0].json["error"]["code"] == "invalid_api_key"
    assert {got.status for got in good} == {200}
    assert len(up.requests) == len(GOOD)
    for request in up.requests:
        assert "sk-bank" not in str(request.headers)
        assert "x-api-key" not in request.headers
