"""What is noted of an attempt that begins is enough to charge it by."""

from __future__ import annotations

from dataclasses import replace

from proxy.meters.begun import Begun, begun
from proxy.meters.journal_format import MAX_ATTEMPT_VALUES
from proxy.routing.plan import Attempt, Cause
from tests.meters.examples import LLAMA, TOGETHER


def attempt(target: object, ordinal: int = 0) -> Attempt:
    return Attempt(target=target, replica=0, model="up", ordinal=ordinal, cause=Cause.PREFERRED, reason="test")  # type: ignore[arg-type]


def test_a_shared_attempt_is_noted_with_its_prices() -> None:
    assert begun(attempt(TOGETHER), 100) == Begun(100, 1, 0, 880_000_000, 880_000_000)


def test_a_dedicated_one_costs_its_time() -> None:
    assert begun(attempt(LLAMA), 100) == Begun(100, 1, 1, 0, 0)


def test_only_the_first_attempt_is_the_request() -> None:
    assert begun(attempt(TOGETHER, ordinal=1), 100).request == 0


def test_a_target_without_a_price_is_noted_all_the_same() -> None:
    assert begun(attempt(replace(TOGETHER, price=None)), 7) == Begun(7, 1, 0, 0, 0)


def test_a_journal_has_room_for_the_note() -> None:
    assert len(Begun._fields) <= MAX_ATTEMPT_VALUES
