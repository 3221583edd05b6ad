"""What an attempt may spend: a first step, a step more in time, and an end when there is no more."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from proxy.meters.escrow import Escrow
from proxy.meters.hold import LEAST_REPLY_TOKENS, TEMPLATE_TOKENS, WHOLE_REPLY_TOKENS, Hold, Holds, InputBound, Spent
from proxy.meters.part import Heard, Moment
from proxy.policy.model import Budget, Cap, Endpoint, Enforce, Lane, Per, Price, Target
from proxy.routing.budgets import STEP_TOKENS
from proxy.routing.facts import Facts
from proxy.routing.outcome import Outcome, Usage
from proxy.routing.plan import Attempt, Cause
from tests.meters.examples import LLAMA, TOGETHER, facts

NOW = 10.0
UNIT = replace(TOGETHER, price=Price(input_nano_usd_per_mtok=1_000_000, output_nano_usd_per_mtok=1_000_000))
"""A token costs a nano-dollar."""
PLENTY = 1_000_000
INPUT_TOKENS = 100
BOUND_TOKENS = 4 * INPUT_TOKENS + TEMPLATE_TOKENS
"""As long as nothing is known of the target."""


class OneEach:
    """Events of one token."""

    def tokens(self, target: str, events: int) -> int:
        return events


def budget(name: str = "cap", enforce: Enforce = Enforce.HARD, limit: int = PLENTY, **more: object) -> Budget:
    return Budget(name=name, caps=(Cap(limit, Per.TOTAL),), enforce=enforce, **more)  # type: ignore[arg-type]


CAP = budget()


def escrow_of(*granted: tuple[Budget, int]) -> Escrow:
    """Budgets of which so much has been granted to this process."""
    escrow = Escrow(lambda alert: None)
    escrow.adopt([one for one, _ in granted])
    for one, amount in granted:
        for term in escrow.terms_of([one]):
            term.told(amount, 0, amount, False, 0, NOW)
    escrow.told([], Heard(1, 1, learning=False), Moment("me", NOW, None))
    return escrow


def attempt(target: Target = UNIT) -> Attempt:
    return Attempt(target=target, replica=0, model="up", ordinal=0, cause=Cause.PREFERRED, reason="test")


def ask(**given: object) -> Facts:
    return structs.replace(facts(), **{"input_tokens": INPUT_TOKENS, "stream": True, **given})  # type: ignore[arg-type]


def opened(escrow: Escrow, *budgets: Budget, target: Target = UNIT, **asked: object) -> Hold:
    hold = Holds(escrow, OneEach()).open(budgets, attempt(target), ask(**asked), NOW)
    assert isinstance(hold, Hold)
    return hold


def held(escrow: Escrow, *budgets: Budget) -> list[int]:
    return [term.held for term in escrow.terms_of(budgets)]


def test_a_stream_begins_with_its_whole_input_and_one_step() -> None:
    escrow = escrow_of((CAP, PLENTY))
    opened(escrow, CAP)
    assert held(escrow, CAP) == [BOUND_TOKENS + STEP_TOKENS]


def test_a_short_answer_needs_less_than_a_step() -> None:
    escrow = escrow_of((CAP, PLENTY))
    opened(escrow, CAP, max_output_tokens=5)
    assert held(escrow, CAP) == [BOUND_TOKENS + 5]


def test_every_choice_needs_a_step() -> None:
    escrow = escrow_of((CAP, PLENTY))
    opened(escrow, CAP, choices=3)
    assert held(escrow, CAP) == [BOUND_TOKENS + 3 * STEP_TOKENS]


def test_what_generates_nothing_costs_its_input() -> None:
    escrow = escrow_of((CAP, PLENTY))
    opened(escrow, CAP, endpoint=Endpoint.EMBEDDINGS, stream=False)
    assert held(escrow, CAP) == [BOUND_TOKENS]


def test_a_stream_is_topped_up_before_it_has_used_up_its_step() -> None:
    escrow = escrow_of((CAP, PLENTY))
    hold = opened(escrow, CAP)
    at = 1
    for events in range(1, 1000):
        if events >= at:
            at = hold.top_up(events, NOW)
            assert at > events
        assert held(escrow, CAP)[0] >= BOUND_TOKENS + events


@given(granted=st.integers(BOUND_TOKENS + STEP_TOKENS, BOUND_TOKENS + 5 * STEP_TOKENS))
def test_a_stream_goes_on_to_the_last_token_that_was_granted_and_not_beyond(granted: int) -> None:
    escrow = escrow_of((CAP, granted))
    hold = opened(escrow, CAP)
    events, at = 0, 1
    while at:
        events += 1
        if events >= at:
            at = hold.top_up(events, NOW)
        assert events < granted
    assert events == granted - BOUND_TOKENS
    assert held(escrow, CAP) == [granted]


def test_a_cut_comes_late_only_by_what_one_read_brought() -> None:
    escrow = escrow_of((CAP, BOUND_TOKENS + STEP_TOKENS))
    hold = opened(escrow, CAP)
    assert hold.top_up(10 * STEP_TOKENS, NOW) == 0


def test_a_grant_in_time_keeps_the_stream_alive() -> None:
    escrow = escrow_of((CAP, BOUND_TOKENS + STEP_TOKENS))
    hold = opened(escrow, CAP)
    at = hold.top_up(STEP_TOKENS - 1, NOW)
    assert at == STEP_TOKENS
    (term,) = escrow.terms_of([CAP])
    assert term.need > 0
    term.told(PLENTY, 0, PLENTY, False, 0, NOW)
    assert hold.top_up(STEP_TOKENS, NOW) > STEP_TOKENS


def test_events_of_several_tokens_are_covered_as_such() -> None:
    class FourEach:
        def tokens(self, target: str, events: int) -> int:
            return 4 * events

    escrow = escrow_of((CAP, PLENTY))
    hold = Holds(escrow, FourEach()).open((CAP,), attempt(), ask(), NOW)
    assert isinstance(hold, Hold)
    hold.top_up(100, NOW)
    assert held(escrow, CAP)[0] >= BOUND_TOKENS + 400


@pytest.mark.parametrize(
    ("granted", "asked", "bound"),
    [
        (PLENTY, None, WHOLE_REPLY_TOKENS),
        (PLENTY, 500, None),
        (PLENTY, 20_000, None),
        (BOUND_TOKENS + 5000, None, WHOLE_REPLY_TOKENS // 2),
        (BOUND_TOKENS + 5000, 8000, 4000),
        (BOUND_TOKENS + LEAST_REPLY_TOKENS, None, LEAST_REPLY_TOKENS),
    ],
)
def test_a_reply_in_one_piece_is_bounded_by_what_it_may_cost(
    granted: int, asked: int | None, bound: int | None
) -> None:
    escrow = escrow_of((CAP, granted))
    hold = opened(escrow, CAP, stream=False, max_output_tokens=asked)
    assert hold.bound == bound
    assert held(escrow, CAP) == [BOUND_TOKENS + (bound or asked or 0)]


def test_a_reply_that_would_be_too_short_to_be_worth_it_is_not_begun() -> None:
    escrow = escrow_of((CAP, BOUND_TOKENS + LEAST_REPLY_TOKENS - 1))
    assert Holds(escrow, OneEach()).open((CAP,), attempt(), ask(stream=False), NOW) == Spent("cap")
    assert held(escrow, CAP) == [0]


def test_every_choice_of_a_reply_in_one_piece_is_bounded_alike() -> None:
    escrow = escrow_of((CAP, BOUND_TOKENS + 3 * 4096))
    hold = opened(escrow, CAP, stream=False, choices=3)
    assert hold.bound == 4096
    assert held(escrow, CAP) == [BOUND_TOKENS + 3 * 4096]


def test_a_reply_that_had_to_be_bounded_asks_for_room_for_the_next() -> None:
    escrow = escrow_of((CAP, BOUND_TOKENS + 1000))
    opened(escrow, CAP, stream=False)
    (term,) = escrow.terms_of([CAP])
    assert term.wanted(NOW)[1] > 2 * WHOLE_REPLY_TOKENS - 1000


def test_a_soft_budget_bounds_nothing_and_cuts_nothing() -> None:
    soft = budget(enforce=Enforce.SOFT, limit=10_000)
    escrow = escrow_of((soft, 0))
    assert opened(escrow, soft, stream=False).bound is None
    stream = opened(escrow, soft)
    assert stream.top_up(50_000, NOW) > 50_000
    assert Holds(escrow, OneEach()).open((soft,), attempt(), ask(), NOW) == Spent("cap")


def test_a_budget_in_shadow_refuses_nothing() -> None:
    shadow = budget(enforce=Enforce.SHADOW, limit=10)
    escrow = escrow_of((shadow, 0))
    assert opened(escrow, shadow).top_up(50_000, NOW) > 50_000


def test_under_several_budgets_all_set_aside_or_none() -> None:
    rich, poor = budget("rich"), budget("poor")
    escrow = escrow_of((rich, PLENTY), (poor, 10))
    assert Holds(escrow, OneEach()).open((rich, poor), attempt(), ask(), NOW) == Spent("poor")
    assert held(escrow, rich, poor) == [0, 0]


def test_a_top_up_too_is_set_aside_in_all_or_in_none() -> None:
    rich, poor = budget("rich"), budget("poor")
    escrow = escrow_of((rich, PLENTY), (poor, BOUND_TOKENS + STEP_TOKENS))
    hold = opened(escrow, rich, poor)
    hold.top_up(STEP_TOKENS, NOW)
    assert held(escrow, rich, poor) == [BOUND_TOKENS + STEP_TOKENS] * 2


def test_all_windows_of_a_budget_are_charged() -> None:
    both = replace(CAP, caps=(Cap(PLENTY, Per.DAY), Cap(PLENTY, Per.MONTH)))
    escrow = escrow_of((both, PLENTY))
    opened(escrow, both).settle(321)
    assert [(term.used, term.held) for term in escrow.terms_of([both])] == [(321, 0)] * 2


def test_to_settle_twice_counts_once() -> None:
    escrow = escrow_of((CAP, PLENTY))
    hold = opened(escrow, CAP)
    hold.settle(7)
    hold.settle(7)
    (term,) = escrow.terms_of([CAP])
    assert (term.used, term.held) == (7, 0)


def test_a_price_that_nobody_knows_cannot_be_paid_under_a_hard_budget() -> None:
    unknown = replace(UNIT, price=None)
    escrow = escrow_of((CAP, PLENTY))
    assert Holds(escrow, OneEach()).open((CAP,), attempt(unknown), ask(), NOW) == Spent("cap")
    soft = budget(enforce=Enforce.SOFT)
    escrow = escrow_of((soft, 0))
    opened(escrow, soft, target=unknown)
    assert held(escrow, soft) == [0]


def test_a_budget_of_another_target_or_lane_is_not_asked() -> None:
    elsewhere, hours = budget(targets=frozenset({"other"})), budget("hours", lane=Lane.DEDICATED)
    holds = Holds(escrow_of((elsewhere, 0), (hours, 0)), OneEach())
    assert holds.open((elsewhere, hours), attempt(), ask(), NOW) is None


def test_a_budget_for_gpu_time_sets_aside_what_the_work_would_cost() -> None:
    hours = budget("hours", lane=Lane.DEDICATED)
    escrow = escrow_of((hours, 10**12))
    opened(escrow, hours, target=LLAMA)
    assert held(escrow, hours)[0] > 0


def test_the_bound_of_the_input_is_strict_until_enough_replies_have_told() -> None:
    bound = InputBound()
    strict = bound.tokens("api", 100)
    for _ in range(InputBound.SEEN - 1):
        bound.observe("api", 100, 100)
    assert bound.tokens("api", 100) == strict == BOUND_TOKENS
    bound.observe("api", 100, 100)
    assert TEMPLATE_TOKENS <= bound.tokens("api", 100) < strict
    assert bound.tokens("other", 100) == strict


def test_the_bound_of_the_input_follows_the_worst_of_the_last_replies() -> None:
    bound = InputBound()
    bound.observe("api", 100, 264)
    for _ in range(InputBound.SEEN - 1):
        bound.observe("api", 100, 100)
    assert bound.tokens("api", 1000) == pytest.approx(1000 * 2 * InputBound.MARGIN + TEMPLATE_TOKENS, abs=1)
    bound.observe("api", 100, 100)
    assert bound.tokens("api", 1000) < 1000


def test_the_bound_of_the_input_is_never_looser_than_a_token_for_every_byte() -> None:
    bound = InputBound()
    for _ in range(InputBound.SEEN):
        bound.observe("api", 1, 100_000)
    assert bound.tokens("api", 100) == BOUND_TOKENS


@pytest.mark.parametrize("usage", [Usage(), Usage(input_tokens=900, estimated=True)], ids=["none", "estimated"])
def test_only_what_an_upstream_counted_teaches(usage: Usage) -> None:
    holds = Holds(escrow := escrow_of((CAP, PLENTY)), OneEach())
    for _ in range(InputBound.SEEN):
        ended = Outcome(attempt=attempt(), status=200, failure=None, committed=True, total_s=0.1, usage=usage)
        holds.observe(ask(), ended)
    holds.open((CAP,), attempt(), ask(), NOW)
    assert held(escrow, CAP) == [BOUND_TOKENS + STEP_TOKENS]
