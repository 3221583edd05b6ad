"""A policy with other replicas is the same policy otherwise."""

from __future__ import annotations

from proxy.advisor.fleet import dedicated_only, with_replicas
from tests.advisor.policies import pool


def names(snapshot, model="llama"):  # type: ignore[no-untyped-def]
    return [one.target.name for one in snapshot.models[model]]


def test_a_dedicated_target_has_as_many_replicas_as_are_told() -> None:
    fleet = with_replicas(pool(), {"gpu": 3})
    assert fleet.targets["gpu"].replicas == 3
    assert len(set(fleet.targets["gpu"].urls)) == 3
    assert fleet.models["llama"][0].target is fleet.targets["gpu"]


def test_a_target_without_replicas_is_not_there_at_all() -> None:
    fleet = with_replicas(pool(), {"gpu": 0})
    assert list(fleet.targets) == ["api"] == names(fleet)


def test_shared_targets_and_those_that_are_not_named_stay_as_they_are() -> None:
    before = pool()
    after = with_replicas(before, {"api": 5})
    assert after.targets == before.targets


def test_a_policy_may_be_left_with_its_gpus_alone() -> None:
    fleet = dedicated_only(pool())
    assert list(fleet.targets) == ["gpu"] == names(fleet)
