"""What each way of failing means for the request and for the target."""

from __future__ import annotations

import pytest
from proxy.routing.outcome import Failure


def test_every_failure_has_a_label_of_its_own() -> None:
    assert len({failure.label for failure in Failure}) == len(Failure)


@pytest.mark.parametrize("failure", [Failure.CLIENT_LEFT, Failure.STALLED_CLIENT, Failure.REJECTED])
def test_what_the_client_did_is_neither_retried_nor_held_against_the_target(failure: Failure) -> None:
    assert not failure.retryable
    assert not failure.unhealthy


def test_a_full_engine_is_spilled_from_and_is_not_broken() -> None:
    assert Failure.FULL.retryable
    assert not Failure.FULL.unhealthy
