"""What the advice hangs on: turning points turn there and not before, and faster engines do more."""

from __future__ import annotations

import pytest
from proxy.advisor.sensitivity import Question, faster, flips, usual_cases
from proxy.advisor.value import mean_request, value_of
from tests.advisor.weeks import DEAR, OFFER, PROFILE, demand


@pytest.fixture(scope="module")
def question() -> Question:
    of = demand(0.5, (1.0, 0.8, 1.2))
    v = mean_request(of, value_of(of, [[DEAR]]), PROFILE).usd_per_work_s
    return Question(demand=of, offer=OFFER, usd_per_work_s=v, most=6)


NAMES = {"shared price": "price", "GPU price": "gpu", "demand": "volume", "engine speed": "speed"}


def test_every_turning_point_is_one(question: Question) -> None:
    best = question.size().best
    found = flips(question, best)
    assert {flip.into for flip in found} == {best - 1, best + 1}
    for flip in found:
        assert flip.factor is not None
        beyond = 1.01 if flip.factor > 1 else 1 / 1.01
        name = NAMES[flip.what]
        assert question.size(**{name: flip.factor / beyond}).best == best
        assert question.size(**{name: flip.factor * beyond}).best == flip.into


def test_what_never_turns_has_no_factor(question: Question) -> None:
    free = Question(demand=question.demand, offer=OFFER, usd_per_work_s=0.0, most=3)
    assert [flip.factor for flip in flips(free, 0)] == [None] * 4


def test_a_faster_engine_needs_less_time_for_the_same_dollars(question: Question) -> None:
    base, fast = question.size(), question.size(speed=2.0)
    assert fast.usd_per_hour[0] == pytest.approx(base.usd_per_hour[0])
    assert fast.spilled[0].sum() == pytest.approx(base.spilled[0].sum() / 2)
    assert fast.usd_per_hour[1] < base.usd_per_hour[1]
    assert faster(PROFILE, 2.0).step_s == PROFILE.step_s


def test_the_usual_cases_move_the_way_they_must(question: Question) -> None:
    cases = {(case.quantity, case.change): case for case in usual_cases(question, 1)}
    assert cases["shared price", "-50%"].saving < cases["shared price", "-30%"].saving
    assert cases["shared price", "+30%"].saving < cases["shared price", "+50%"].saving
    assert cases["GPU price", "+30%"].saving < cases["GPU price", "-30%"].saving
    assert cases["engine speed", "-30%"].saving < cases["engine speed", "+30%"].saving
    assert cases["shared price", "+30%"].base_usd_per_hour == pytest.approx(1.3 * question.size().usd_per_hour[0])
