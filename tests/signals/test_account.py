"""An attempt in its target's books, from its sending to its end."""

from __future__ import annotations

from dataclasses import replace

from proxy.policy.model import UNLIMITED, Limits, Target
from proxy.routing.outcome import Failure, Usage
from proxy.signals.account import PATIENCE, Account, needs_account
from proxy.signals.rates import RateBook
from tests.routing.policies import dedicated, facts, shared
from tests.signals.attempts import attempt, outcome

T0 = 5000.0
WALL = 1_795_352_058.0
ASK = facts(input_tokens=10, max_output_tokens=90)
LIMITED = shared(limits=Limits(rpm=2, tpm=1000))
NEARLY_EMPTY = [
    (b"x-ratelimit-limit-requests", b"100"),
    (b"x-ratelimit-remaining-requests", b"2"),
    (b"x-ratelimit-reset-requests", b"30.5s"),
]


def account(target: Target) -> tuple[Account, RateBook]:
    book = RateBook()
    return Account(target, book), book


def test_engines_of_ones_own_have_no_account_unless_they_are_limited() -> None:
    assert not needs_account(dedicated())
    assert needs_account(dedicated(limits=Limits(concurrency=3)))
    assert needs_account(shared())
    assert not account(dedicated(limits=Limits(rpm=1)))[0].listens()


def test_use_is_counted_for_the_policys_limits_and_settled() -> None:
    one, book = account(LIMITED)
    entry = one.begin(ASK, T0)
    rate = book.rate("target:together", T0)
    assert (rate.requests, rate.tokens, rate.in_flight) == (1, 100, 1)
    one.end(entry, outcome(attempt(LIMITED), usage=Usage(input_tokens=12, output_tokens=20)), T0)
    rate = book.rate("target:together", T0)
    assert (rate.requests, rate.tokens, rate.in_flight) == (1, 32, 0)
    one.begin(ASK, T0)
    assert one.read(T0)[0] > T0


def test_without_limits_nothing_is_counted() -> None:
    one, book = account(shared())
    one.end(one.begin(ASK, T0), outcome(attempt(shared())), T0)
    assert len(book) == 0
    assert one.read(T0) == (0.0, None)


def test_the_head_of_a_reply_tells_of_the_quota() -> None:
    one, _ = account(shared())
    entry = one.begin(ASK, T0)
    assert not one.hear(entry, 200, [(b"content-type", b"text/event-stream")], T0, WALL)
    assert one.hear(entry, 200, NEARLY_EMPTY, T0, WALL)
    quota = one.read(T0)[1]
    assert quota is not None
    assert (quota.unit, quota.limit, quota.remaining, quota.reset_at) == ("requests", 100, 2, T0 + 30.5)


def test_a_provider_that_tells_nothing_is_listened_to_now_and_then() -> None:
    one, _ = account(shared())
    for _ in range(PATIENCE):
        assert one.listens()
        one.hear(one.begin(ASK, T0), 200, [], T0, WALL)
    assert sum(one.listens() for _ in range(10 * PATIENCE)) == 10
    one.hear(one.begin(ASK, T0), 200, NEARLY_EMPTY, T0, WALL)
    assert all(one.listens() for _ in range(10 * PATIENCE))


def test_a_refusal_is_noticed_though_nobody_listened_and_then_everything_matters() -> None:
    one, _ = account(shared())
    for _ in range(PATIENCE):
        one.hear(one.begin(ASK, T0), 200, [], T0, WALL)
    one.end(one.begin(ASK, T0), outcome(attempt(shared()), Failure.FULL, status=429), T0)
    assert one.read(T0)[0] > T0
    assert all(one.listens() for _ in range(10 * PATIENCE))


def test_a_refusal_holds_back_whoever_comes_next() -> None:
    one, _ = account(shared())
    assert one.hear(one.begin(ASK, T0), 429, [], T0, WALL)
    assert one.read(T0)[0] > T0
    one, _ = account(shared())
    assert not one.hear(one.begin(ASK, T0), 503, [], T0, WALL)
    assert one.read(T0) == (0.0, None)


def test_new_limits_hold_at_once_and_what_was_learned_stays() -> None:
    one, _ = account(LIMITED)
    for _ in range(2):
        one.hear(one.begin(ASK, T0), 200, NEARLY_EMPTY, T0, WALL)
    assert one.read(T0)[0] > T0
    one.follow(replace(LIMITED, limits=UNLIMITED))
    quota = one.read(T0)[1]
    assert quota is not None
    assert quota.limit == 100
