"""What each way of failing means for the request and for the target."""

from __future__ import annotations

import pytest
from proxy.policy.model import Lane, Target
from proxy.routing.outcome import Failure, Outcome
from proxy.routing.plan import Attempt, Cause

ENGINE = Target(name="gpu", lane=Lane.DEDICATED, model="up", region="eu")


def test_every_failure_has_a_label_of_its_own() -> None:
    assert len({failure.label for failure in Failure}) == len(Failure)


@pytest.mark.parametrize("failure", [Failure.CLIENT_LEFT, Failure.STALLED_CLIENT, Failure.REJECTED, Failure.OUTRUN])
def test_what_the_target_did_not_do_is_neither_retried_nor_held_against_the_target(failure: Failure) -> None:
    assert not failure.retryable
    assert not failure.unhealthy


def test_a_full_engine_is_spilled_from_and_is_not_broken() -> None:
    assert Failure.FULL.retryable
    assert not Failure.FULL.unhealthy


@pytest.mark.parametrize(
    ("failure", "cause", "in_vain"),
    [
        (Failure.FIRST_TOKEN_TIMEOUT, Cause.PREFERRED, True),
        (Failure.FIRST_TOKEN_TIMEOUT, Cause.HEDGE, True),
        (Failure.OUTRUN, Cause.SPILLOVER, True),
        (Failure.OUTRUN, Cause.HEDGE, False),
        (Failure.CLIENT_LEFT, Cause.PREFERRED, False),
        (None, Cause.PREFERRED, False),
    ],
)
def test_a_first_token_is_awaited_in_vain_by_those_who_gave_it_time(
    failure: Failure | None, cause: Cause, in_vain: bool
) -> None:
    tried = Attempt(target=ENGINE, replica=0, model="up", ordinal=0, cause=cause, reason="")
    assert Outcome(attempt=tried, status=None, failure=failure, committed=False, total_s=1.0).awaited_in_vain is in_vain
