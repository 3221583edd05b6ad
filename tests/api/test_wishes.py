"""What callers may ask for in headers: read strictly, and refused rather than ignored."""

from __future__ import annotations

import pytest
from proxy.api.wishes import MAX_TAGS, NO_WISHES, Wishes, makes_wishes, read_wishes
from proxy.policy.model import ANONYMOUS, Lane, Priority, Route, Tenant, Traffic
from proxy.routing.plan import Refusal
from tests.harness import dedicated, proxy, request_bytes, snapshot_of
from tests.scripted import CHAT_REPLY, reply, scripted

BANK = Tenant(name="bank", request_tags=frozenset({"eval", "canary"}))
CHAT = "/v1/chat/completions"
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def test_most_requests_wish_for_nothing() -> None:
    assert not makes_wishes({b"host": b"h", b"x-spillway": b"1"})
    assert read_wishes(BANK, {b"host": b"h"}) == NO_WISHES


def test_all_that_can_be_wished_for() -> None:
    fields = {
        b"x-spillway-lane": b"Shared",
        b"x-spillway-target": b"eu/llama:70b",
        b"x-spillway-traffic": b"OFFLINE",
        b"x-spillway-priority": b"Low",
        b"x-spillway-session": b"Chat/7f3a==",
        b"x-spillway-tags": b"eval ,\tcanary,eval",
    }
    assert all(makes_wishes({name: value}) for name, value in fields.items())
    assert read_wishes(BANK, fields) == Wishes(
        lane=Lane.SHARED,
        target="eu/llama:70b",
        traffic=Traffic.OFFLINE,
        priority=Priority.LOW,
        session="Chat/7f3a==",
        tags=frozenset({"eval", "canary"}),
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"x-spillway-lane", b"fast"),
        (b"x-spillway-lane", b""),
        (b"x-spillway-traffic", b"batch"),
        (b"x-spillway-priority", b"2"),
        (b"x-spillway-priority", b""),
        (b"x-spillway-session", b""),
        (b"x-spillway-session", b"two words"),
        (b"x-spillway-session", b"\xff"),
        (b"x-spillway-session", b"x" * 129),
        (b"x-spillway-target", b""),
        (b"x-spillway-target", b"two words"),
        (b"x-spillway-target", b"\xff"),
        (b"x-spillway-target", b"x" * 129),
        (b"x-spillway-tags", b""),
        (b"x-spillway-tags", b"eval,"),
        (b"x-spillway-tags", b"eval,,canary"),
        (b"x-spillway-tags", b"two words"),
        (b"x-spillway-tags", b"\xff"),
        (b"x-spillway-tags", b"eval;canary"),
        (b"x-spillway-tags", b",".join(b"t%d" % index for index in range(MAX_TAGS + 1))),
    ],
)
def test_what_cannot_be_read_is_refused_by_the_headers_name(name: bytes, value: bytes) -> None:
    refusal = read_wishes(ANONYMOUS, {name: value})
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code, refusal.param) == (400, "invalid_request", name.decode())


def test_a_tag_that_is_not_the_callers_to_add_is_refused_by_name() -> None:
    refusal = read_wishes(BANK, {b"x-spillway-tags": b"eval, hipaa"})
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code, refusal.param) == (403, "tag_not_allowed", "x-spillway-tags")
    assert "`hipaa`" in refusal.message
    assert "`bank`" in refusal.message


def test_a_priority_may_be_lowered_and_never_raised() -> None:
    asked = {priority: {b"x-spillway-priority": priority.name.encode()} for priority in Priority}
    for own in Priority:
        tenant = Tenant(name="shop", priority=own)
        for priority, fields in asked.items():
            found = read_wishes(tenant, fields)
            if priority <= own:
                assert isinstance(found, Wishes)
                assert found.priority is priority
            else:
                assert isinstance(found, Refusal)
                assert (found.status, found.code, found.param) == (403, "priority_not_allowed", "x-spillway-priority")
                assert "`shop`" in found.message


def test_a_tenant_without_request_tags_may_add_none() -> None:
    assert isinstance(read_wishes(Tenant(name="shop"), {b"x-spillway-tags": b"eval"}), Refusal)


def test_without_tenants_any_tag_may_be_added() -> None:
    many = b", ".join(b"t%d" % index for index in range(MAX_TAGS))
    wishes = read_wishes(ANONYMOUS, {b"x-spillway-tags": many})
    assert isinstance(wishes, Wishes)
    assert len(wishes.tags) == MAX_TAGS


@pytest.mark.parametrize("direct", [True, False])
async def test_over_the_wire(direct: bool) -> None:
    bank = {"authorization": "Bearer sk-bank"}
    routes = (Route(name="default", target_override=True),)
    async with scripted([reply(CHAT_REPLY)]) as up:
        policy = snapshot_of(dedicated("gpu", up.url), dedicated("other", up.url), routes=routes, bank=BANK)
        async with proxy(policy, direct=direct) as spillway:
            pinned = await spillway.post(CHAT, ASK, {**bank, "x-spillway-target": "other", "x-spillway-tags": "eval"})
            refused = await spillway.post(CHAT, ASK, {**bank, "x-spillway-tags": "hipaa"})
    assert (pinned.status, pinned.headers["x-spillway-target"]) == (200, "other")
    assert (refused.status, refused.json["error"]["code"]) == (403, "tag_not_allowed")
    assert len(up.requests) == 1


async def test_a_header_given_twice_is_refused_since_the_second_would_hide_the_first() -> None:
    async with scripted([reply(CHAT_REPLY)]) as up:
        async with proxy(snapshot_of(dedicated("gpu", up.url))) as spillway:
            for name in (
                "x-spillway-tags",
                "x-spillway-lane",
                "x-spillway-target",
                "x-spillway-traffic",
                "x-spillway-priority",
                "x-spillway-session",
            ):
                reader, writer = await spillway.connect()
                head = request_bytes("POST", CHAT, b'{"model":"m"}', {name: "a"})
                writer.write(head.replace(b"\r\n\r\n", f"\r\n{name}: b\r\n\r\n".encode(), 1))
                assert b" 400 " in await reader.readline()
                assert b"repeated_header" in await reader.readuntil(b"}}")
                writer.close()
    assert up.requests == []
