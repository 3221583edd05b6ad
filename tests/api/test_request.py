"""What is read from a request, what is refused in it, and what of it reaches an upstream."""

from __future__ import annotations

from typing import Any

import pytest
from proxy.api.content import MEDIA_TOKENS
from proxy.api.guard import read_members
from proxy.api.request import read_call, read_facts, request_id
from proxy.policy.model import Endpoint, Key, Lane, Modality, Tenant, Traffic
from proxy.routing.facts import Facts
from proxy.routing.plan import Refusal
from proxy.upstream.base import Call

TENANT = Tenant(name="bank", tags=frozenset({"gdpr"}), request_tags=frozenset({"eval"}))
KEY = Key(tenant=TENANT, name="bank/ci", tags=frozenset({"gdpr", "ci"}))
AT_S = 1_700_000_000.5


def facts(
    body: bytes,
    fields: dict[bytes, bytes] | None = None,
    endpoint: Endpoint = Endpoint.CHAT,
    *,
    reads_content: bool = True,
    cached_models: frozenset[str] = frozenset(),
) -> Facts | Refusal:
    members = read_members(body)
    assert not isinstance(members, Refusal)
    return read_facts(
        KEY,
        endpoint,
        "r1",
        fields or {},
        members,
        body,
        at_s=AT_S,
        reads_content=reads_content,
        cached_models=cached_models,
    )


def call(body: bytes, fields: dict[bytes, bytes] | None = None, endpoint: Endpoint = Endpoint.CHAT) -> Call | Refusal:
    members, known = read_members(body), facts(body, fields, endpoint)
    assert isinstance(known, Facts)
    assert not isinstance(members, Refusal)
    return read_call(known, fields or {}, members)


def test_facts_of_a_plain_request() -> None:
    known = facts(b'{"model":"m","max_tokens":50,"messages":[]}')
    assert isinstance(known, Facts)
    assert (known.model, known.stream, known.traffic) == ("m", False, Traffic.ONLINE)
    assert (known.max_output_tokens, known.lane_override, known.tags) == (50, None, KEY.tags)
    assert known.input_tokens == len(b'{"model":"m","max_tokens":50,"messages":[]}') // 4


@pytest.mark.parametrize(
    ("member", "limit"),
    [
        (b'"max_completion_tokens":7,"max_tokens":9', 7),
        (b'"max_output_tokens":8', 8),
        (b'"max_tokens":null', None),
        (b'"max_tokens":-1', None),
        (b'"max_tokens":"7"', None),
        (b'"max_tokens":1.5', None),
        (b'"max_tokens":99999999999999999999999999', 999999999999999999),
    ],
)
def test_the_output_limit(member: bytes, limit: int | None) -> None:
    known = facts(b'{"model":"m",' + member + b"}")
    assert isinstance(known, Facts)
    assert known.max_output_tokens == limit


@pytest.mark.parametrize(
    ("body", "fields", "param"),
    [
        (b"{}", {}, "model"),
        (b'{"model":null}', {}, "model"),
        (b'{"model":["m"]}', {}, "model"),
        (b'{"model":"m","stream":1}', {}, "stream"),
        (b'{"model":"m","stream":"true"}', {}, "stream"),
        (b'{"model":"m"}', {b"x-spillway-lane": b"fast"}, "x-spillway-lane"),
        (b'{"model":"m"}', {b"x-spillway-traffic": b"batch"}, "x-spillway-traffic"),
    ],
)
def test_what_is_wrong_is_named(body: bytes, fields: dict[bytes, bytes], param: str) -> None:
    refusal = facts(body, fields)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.param, refusal.retryable) == (400, param, False)


@pytest.mark.parametrize(("said", "lane"), [(b"Dedicated", Lane.DEDICATED), (b"shared", Lane.SHARED), (b"auto", None)])
def test_the_lane_a_caller_asks_for(said: bytes, lane: Lane | None) -> None:
    known = facts(b'{"model":"m"}', {b"x-spillway-lane": said, b"x-spillway-traffic": b"offline"})
    assert isinstance(known, Facts)
    assert (known.lane_override, known.traffic) == (lane, Traffic.OFFLINE)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (b'{"include_usage":true}', True),
        (b'{"include_usage":false}', False),
        (b'{"include_usage" : true, "include_obfuscation":false}', True),
        (b"{}", False),
        (b"null", False),
    ],
)
def test_whether_the_caller_wants_usage(options: bytes, wanted: bool) -> None:
    made = call(b'{"model":"m","stream":true,"stream_options":' + options + b"}")
    assert isinstance(made, Call)
    assert (made.stream, made.usage_wanted) == (True, wanted)


def test_stream_options_must_be_an_object() -> None:
    assert isinstance(call(b'{"model":"m","stream_options":[1]}'), Refusal)


def read(body: bytes, fields: dict[bytes, bytes] | None = None, **more: Any) -> Facts:
    known = facts(body, fields, **more)
    assert isinstance(known, Facts)
    return known


def test_whose_it_is_and_when_it_came() -> None:
    known = read(b'{"model":"m"}')
    assert (known.tenant, known.key, known.at_s) == (TENANT, KEY, AT_S)


def test_tags_are_the_keys_and_the_requests() -> None:
    known = read(b'{"model":"m"}', {b"x-spillway-tags": b"eval", b"x-spillway-target": b"gpu"})
    assert known.tags == {"gdpr", "ci", "eval"}
    assert known.target_override == "gpu"


@pytest.mark.parametrize(
    ("member", "tools"),
    [
        (b'"tools":[{"type":"function"}]', True),
        (b'"tools": [ {} ]', True),
        (b'"functions":[{"name":"f"}]', True),
        (b'"tools":[],"functions":[{"name":"f"}]', True),
        (b'"tools":[]', False),
        (b'"tools":[ \n]', False),
        (b'"tools":null', False),
        (b'"tool_choice":"auto"', False),
    ],
)
def test_tools(member: bytes, tools: bool) -> None:
    assert read(b'{"model":"m",' + member + b"}").tools is tools


@pytest.mark.parametrize(
    ("member", "endpoint", "choices"),
    [
        (b'"messages":[]', Endpoint.CHAT, 1),
        (b'"n":4', Endpoint.CHAT, 4),
        (b'"n":null', Endpoint.CHAT, 1),
        (b'"n":0', Endpoint.CHAT, 1),
        (b'"n":-3', Endpoint.CHAT, 1),
        (b'"n":"4"', Endpoint.CHAT, 1),
        (b'"n":99999999999999', Endpoint.CHAT, 999_999),
        (b'"n":2,"best_of":5', Endpoint.COMPLETIONS, 5),
        (b'"prompt":"one"', Endpoint.COMPLETIONS, 1),
        (b'"prompt":["one", "two"],"n":3', Endpoint.COMPLETIONS, 6),
        (b'"prompt":[[1,2],[3]]', Endpoint.COMPLETIONS, 2),
        (b'"prompt":[1,2,3]', Endpoint.COMPLETIONS, 1),
        (b'"prompt":[]', Endpoint.COMPLETIONS, 1),
        (b'"prompt":["one", "two"]', Endpoint.CHAT, 1),
    ],
)
def test_how_many_answers_are_asked_for(member: bytes, endpoint: Endpoint, choices: int) -> None:
    known = facts(b'{"model":"m",' + member + b"}", endpoint=endpoint)
    assert isinstance(known, Facts)
    assert known.choices == choices


@pytest.mark.parametrize(
    ("member", "tier"),
    [
        (b'"service_tier":"priority"', "priority"),
        (b'"service_tier":"Flex"', "flex"),
        (b'"service_tier":"auto"', ""),
        (b'"service_tier":"standard_only"', ""),
        (b'"service_tier":null', ""),
        (b'"service_tier":{"a":1}', ""),
        (b'"service_tier":"x y"', ""),
    ],
)
def test_the_service_tier(member: bytes, tier: str) -> None:
    assert read(b'{"model":"m",' + member + b"}").service_tier == tier


PICTURE = b'{"type":"image_url","image_url":{"url":"data:image/png;base64,%b"}}'


def ask(*parts: bytes) -> bytes:
    return b'{"model":"m","messages":[{"role":"user","content":[' + b",".join(parts) + b"]}]}"


def test_encoded_media_are_left_out_of_the_estimate() -> None:
    small, large = read(ask(PICTURE % (b"A" * 400))), read(ask(PICTURE % (b"A" * 4_000_000)))
    assert small.modalities == large.modalities == {Modality.IMAGE}
    assert small.input_tokens == large.input_tokens
    assert MEDIA_TOKENS[Modality.IMAGE] < large.input_tokens < MEDIA_TOKENS[Modality.IMAGE] + 50


def test_slashes_escaped_as_php_does_it_do_not_count_either() -> None:
    plain, escaped = read(ask(PICTURE % (b"/" * 40_000))), read(ask(PICTURE % (b"\\/" * 40_000)))
    assert escaped.input_tokens == plain.input_tokens


def test_more_of_anything_never_makes_the_estimate_smaller() -> None:
    words = [b'{"type":"text","text":"%b"}' % (b"word " * count) for count in (0, 10, 1000, 5000)]
    pictures = [PICTURE % (b"A" * size) for size in (0, 100, 5_000, 50_000)]
    bodies = [ask()]
    for part in [*words, *pictures, *words, *pictures]:
        bodies.append(bodies[-1].replace(b"]}]}", (b"," if len(bodies) > 1 else b"") + part + b"]}]}"))
    estimates = [read(body).input_tokens for body in bodies]
    assert estimates == sorted(estimates)
    assert estimates[-1] > estimates[0]


@pytest.mark.parametrize("reads_content", [True, False])
def test_large_media_are_found_even_if_no_rule_asks(reads_content: bool) -> None:
    known = read(ask(PICTURE % (b"A" * 10_000)), reads_content=reads_content)
    assert known.modalities == {Modality.IMAGE}
    assert known.input_tokens < 2 * MEDIA_TOKENS[Modality.IMAGE]


def test_a_text_is_not_looked_into_if_no_rule_asks() -> None:
    body = ask(b'{"type":"text","text":"%b"}' % (b"a few words " * 5_000), b'{"type":"image_url"}')
    assert read(body, reads_content=False).modalities == set()
    assert read(body, reads_content=True).modalities == {Modality.IMAGE}


def test_only_prompts_that_may_be_cached_are_hashed() -> None:
    body = ask(b'{"type":"text","text":"%b"}' % (b"a few words " * 1_000))
    assert len(read(body, cached_models=frozenset({"m"})).prefix) == len(body) // 2048
    assert read(body, cached_models=frozenset({"another"})).prefix == ()
    assert read(body).prefix == ()
    with_picture = ask(b'{"type":"text","text":"%b"}' % (b"a few words " * 1_000), PICTURE % (b"A" * 10_000))
    assert read(with_picture, cached_models=frozenset({"m"})).prefix == ()


@pytest.mark.parametrize(
    ("member", "fields", "session"),
    [
        (b'"prompt_cache_key":"user-7/chat-3"', {}, "user-7/chat-3"),
        (b'"prompt_cache_key":"body"', {b"x-spillway-session": b"header"}, "header"),
        (b'"n":1', {b"x-spillway-session": b"header"}, "header"),
        (b'"n":1', {}, None),
        (b'"prompt_cache_key":""', {}, None),
        (b'"prompt_cache_key":null', {}, None),
        (b'"prompt_cache_key":7', {}, None),
        (b'"prompt_cache_key":"%b"' % (b"x" * 129), {}, None),
    ],
)
def test_the_session_is_a_hint_in_a_header_or_the_body(
    member: bytes, fields: dict[bytes, bytes], session: str | None
) -> None:
    assert read(b'{"model":"m",' + member + b"}", fields).session == session


def test_a_prompt_that_cannot_be_read_is_refused() -> None:
    refusal = facts(b'{"model":"m","messages":[' + b"9" * 5000 + b"]}")
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.param) == (400, "messages")


def test_a_place_in_the_body_is_refused() -> None:
    refusal = facts(b'{"model":"m","vertex_location":"us-central1"}')
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.param) == ("geo_parameter_not_allowed", "vertex_location")


def test_headers_go_up_by_a_list_of_the_allowed() -> None:
    fields = {
        b"authorization": b"Bearer k",
        b"cookie": b"c",
        b"x-forwarded-for": b"1",
        b"x-custom-labels": b"bomb",
        b"traceparent": b"t",
        b"anthropic-beta": b"b",
        b"user-agent": b"u",
        b"openai-organization": b"org-us",
        b"openai-project": b"proj_us",
        b"anthropic-workspace-id": b"w",
        b"x-litellm-api-base": b"http://elsewhere",
        b"x-portkey-config": b"c",
        b"helicone-target-url": b"http://elsewhere",
        b"x-spillway-tags": b"eval",
    }
    made = call(b'{"model":"m"}', fields)
    assert isinstance(made, Call)
    assert dict(made.headers) == {
        b"anthropic-beta": b"b",
        b"user-agent": b"u",
        b"x-request-id": b"r1",
    }


def test_anthropics_version_is_there_in_any_case() -> None:
    made = call(b'{"model":"m"}', {}, Endpoint.MESSAGES)
    assert isinstance(made, Call)
    assert dict(made.headers)[b"anthropic-version"] == b"2023-06-01"
    own = call(b'{"model":"m"}', {b"anthropic-version": b"2099-01-01"}, Endpoint.MESSAGES)
    assert isinstance(own, Call)
    assert [value for name, value in own.headers if name == b"anthropic-version"] == [b"2099-01-01"]


@pytest.mark.parametrize("given", [b"a b", b"a\nb", b"", b"x" * 129, b"\xff", b'"', b"<script>"])
def test_a_request_id_that_could_do_harm_is_replaced(given: bytes) -> None:
    assert request_id({b"x-request-id": given}).startswith("req_")


def test_a_harmless_request_id_is_kept_and_others_never_repeat() -> None:
    assert request_id({b"x-request-id": b"app:7/a.b_c-d"}) == "app:7/a.b_c-d"
    assert len({request_id({}) for _ in range(1000)}) == 1000
