"""What is noted of an attempt that begins is enough to charge it by."""

from __future__ import annotations

from dataclasses import replace

from proxy.meters.begun import Begun, begun
from proxy.meters.journal_format import MAX_ATTEMPT_VALUES
from proxy.policy.engine_profile import ASSUMED, EngineProfile
from proxy.routing.outcome import Usage
from proxy.routing.plan import Attempt, Cause
from proxy.routing.work import work_us
from tests.meters.examples import LLAMA, TOGETHER


def attempt(target: object, ordinal: int = 0) -> Attempt:
    return Attempt(target=target, replica=0, model="up", ordinal=ordinal, cause=Cause.PREFERRED, reason="test")  # type: ignore[arg-type]


def test_a_shared_attempt_is_noted_with_its_prices() -> None:
    assert begun(attempt(TOGETHER), 100) == Begun(100, 1, 0, 880_000_000, 880_000_000)


def test_a_dedicated_one_costs_its_time() -> None:
    assert begun(attempt(LLAMA), 100) == Begun(100, 1, 1, 0, 0)


def test_the_time_is_that_of_its_engine() -> None:
    profile = EngineProfile(
        name="8b",
        step_s=6.5e-3,
        sequence_s=25e-6,
        context_token_s=15e-9,
        prefill_token_s=13.5e-6,
        attention_s=0.44e-9,
    )
    noted = begun(attempt(replace(LLAMA, profile=profile)), 100)
    assert noted == Begun(100, 1, 1, 0, 0, 25 * 10**9, 15 * 10**6, 13_500_000_000, 440_000)
    usage = Usage(input_tokens=1155, output_tokens=211)
    assert work_us(usage, noted.profile) == work_us(usage, profile) < work_us(usage)


def test_a_note_without_a_profile_is_of_the_assumed_one() -> None:
    """Such as those that older releases left."""
    assert Begun(100, 1, 1, 0, 0).profile is ASSUMED


def test_only_the_first_attempt_is_the_request() -> None:
    assert begun(attempt(TOGETHER, ordinal=1), 100).request == 0


def test_a_target_without_a_price_is_noted_all_the_same() -> None:
    assert begun(attempt(replace(TOGETHER, price=None)), 7) == Begun(7, 1, 0, 0, 0)


def test_a_journal_has_room_for_the_note() -> None:
    assert len(Begun._fields) <= MAX_ATTEMPT_VALUES
