"""The compiled values: what they answer, and that secrets do not print."""

from __future__ import annotations

import pytest
from proxy.policy.model import Endpoint, Gpus, Lane, Match, Secret, Snapshot, Target, Traffic, matches_any


def test_a_secret_prints_as_stars_and_is_compared_by_value() -> None:
    secret = Secret("sk-canary")
    assert "sk-canary" not in f"{secret} {secret!r} {[secret]}"
    assert secret.reveal() == "sk-canary"
    assert {secret} == {Secret("sk-canary")}
    assert secret != Secret("other")
    assert secret != "sk-canary"


def test_a_target_does_not_print_its_key() -> None:
    target = Target(name="t", lane=Lane.SHARED, model="m", region="us", api_key=Secret("sk-canary"))
    assert "sk-canary" not in repr(target)


def test_a_target_serves_what_is_native_or_translated() -> None:
    target = Target(
        name="t",
        lane=Lane.SHARED,
        model="m",
        region="us",
        native=frozenset({Endpoint.CHAT}),
        translated=frozenset({Endpoint.MESSAGES}),
    )
    served = {endpoint for endpoint in Endpoint if target.serves(endpoint)}
    assert served == {Endpoint.CHAT, Endpoint.MESSAGES}
    assert target.replicas == 1


def test_a_replica_costs_all_its_gpus() -> None:
    assert Gpus(type="H100", count=4, nano_usd_per_hour=2_990_000_000).replica_nano_usd_per_hour == 11_960_000_000


def test_only_an_empty_match_catches_all() -> None:
    assert Match().catches_all
    assert not Match(traffic=Traffic.OFFLINE).catches_all


def test_the_revision_is_the_head_of_the_digest() -> None:
    snapshot = Snapshot(digest="0123456789abcdef", source="p", targets={}, models={}, routes=())
    assert snapshot.revision == "0123456789ab"


@pytest.mark.parametrize(
    ("value", "globs", "matches"),
    [("eu-west-1", ("eu-*",), True), ("us", ("eu-*", "u?"), True), ("us", ("eu-*",), False), ("us", (), True)],
)
def test_globs(value: str, globs: tuple[str, ...], matches: bool) -> None:
    assert matches_any(value, globs) is matches
