"""The headers that explain a reply, and that they are made once where they can be."""

from __future__ import annotations

from proxy.reply_headers import ReplyHeaders
from proxy.routing.plan import Attempt, Cause, Plan

from tests.harness import dedicated, snapshot_of

GPU = dedicated("gpu", "http://a/v1")
SNAPSHOT = snapshot_of(GPU)


def attempt(cause: Cause = Cause.PREFERRED, ordinal: int = 0) -> Attempt:
    return Attempt(target=GPU, replica=0, model="up", ordinal=ordinal, cause=cause, reason=f"{cause}: it is so")


PLAN = Plan(route="default", attempts=(attempt(),))


def test_they_say_what_was_decided() -> None:
    assert dict(ReplyHeaders().of(SNAPSHOT, PLAN, attempt(Cause.FALLBACK, 2))) == {
        b"x-spillway-target": b"gpu",
        b"x-spillway-lane": b"dedicated",
        b"x-spillway-route": b"default",
        b"x-spillway-reason": b"fallback: it is so",
        b"x-spillway-attempts": b"3",
        b"x-spillway-policy": SNAPSHOT.revision.encode(),
    }


def test_those_of_first_attempts_are_made_once_for_each_policy() -> None:
    headers = ReplyHeaders()
    first = headers.of(SNAPSHOT, PLAN, attempt())
    assert headers.of(SNAPSHOT, PLAN, attempt()) is first
    headers.forget()
    again = headers.of(SNAPSHOT, PLAN, attempt())
    assert again == first
    assert again is not first


def test_reasons_of_which_there_may_be_any_number_are_not_kept() -> None:
    headers = ReplyHeaders()
    spilled = attempt(Cause.SPILLOVER)
    assert headers.of(SNAPSHOT, PLAN, spilled) is not headers.of(SNAPSHOT, PLAN, spilled)


def test_what_does_not_work_is_said_as_long_as_it_does_not() -> None:
    headers = ReplyHeaders()
    headers.degraded = b"meters"
    assert headers.of(SNAPSHOT, PLAN, attempt())[-1] == (b"x-spillway-degraded", b"meters")
    headers.degraded = b""
    assert b"x-spillway-degraded" not in dict(headers.of(SNAPSHOT, PLAN, attempt()))
