"""Sessions lead back to where they were, for a while, and only within their own tenant and model."""

from __future__ import annotations

import msgspec
from proxy.policy.model import Endpoint, Tenant
from proxy.routing.facts import Facts
from proxy.signals.sessions import MOST_SESSIONS, Sessions, Visit

T0 = 5000.0
TTL_S = 60.0
ASKED = Facts(
    request_id="r", tenant=Tenant(name="acme"), model="m", endpoint=Endpoint.CHAT, session="s", input_tokens=300
)


def visited() -> Sessions:
    sessions = Sessions(TTL_S)
    sessions.note(ASKED, "llama-eu", "http://b", T0)
    return sessions


def test_the_last_visit_is_known_for_a_while() -> None:
    sessions = visited()
    assert sessions.last(ASKED, T0 + 59) == Visit("llama-eu", "http://b", 300, T0)
    assert sessions.last(ASKED, T0 + TTL_S) is None
    sessions.note(ASKED, "llama-eu", "http://a", T0 + 90)
    assert sessions.last(ASKED, T0 + 91) == Visit("llama-eu", "http://a", 300, T0 + 90)


def test_names_are_a_tenants_own_and_of_one_model() -> None:
    sessions = visited()
    for other in ({"tenant": Tenant(name="other")}, {"model": "n"}, {"session": "t"}, {"session": None}):
        assert sessions.last(msgspec.structs.replace(ASKED, **other), T0) is None


def test_a_request_of_no_session_leaves_nothing() -> None:
    sessions = Sessions(TTL_S)
    sessions.note(msgspec.structs.replace(ASKED, session=None), "llama-eu", "http://a", T0)
    assert len(sessions) == 0


def test_blocks_say_more_than_a_session() -> None:
    sessions = visited()
    sessions.note(msgspec.structs.replace(ASKED, prefix=(1,)), "llama-eu", "http://b", T0)
    assert sessions.last(ASKED, T0) is None


def test_sessions_heard_of_longest_ago_are_forgotten() -> None:
    sessions = visited()
    for number in range(MOST_SESSIONS - 1):
        sessions.note(msgspec.structs.replace(ASKED, session=str(number)), "llama-eu", "http://a", T0)
    sessions.note(ASKED, "llama-eu", "http://b", T0)
    sessions.note(msgspec.structs.replace(ASKED, session="one more"), "llama-eu", "http://a", T0)
    assert len(sessions) == MOST_SESSIONS
    assert sessions.last(ASKED, T0) is not None
    assert sessions.last(msgspec.structs.replace(ASKED, session="0"), T0) is None
