"""What a target's declared facts are worth: the only rules a policy can settle by itself."""

from __future__ import annotations

from proxy.policy.model import Lane, Price, Rules
from proxy.policy.promises import STATIC, blended_nano_usd_per_mtok, missed_by_policy
from tests.routing.policies import dedicated, price, shared

EVERYTHING = Rules(
    regions=("eu-*",),
    retention=("zero",),
    lane=Lane.DEDICATED,
    tags=frozenset({"iso"}),
    no_training=True,
    quantization=frozenset({"bf16"}),
    nano_usd_per_mtok=1_000_000_000,
)


def test_all_the_rules_that_a_target_misses_are_named_in_order() -> None:
    found = missed_by_policy(shared(price=price(2)), EVERYTHING, strict=True)
    assert [miss.rule for miss in found] == [rule.__name__ for rule in STATIC]


def test_a_target_that_promises_everything_misses_nothing() -> None:
    good = dedicated(tags=frozenset({"iso", "x"}), trains=False, quantization="bf16")
    assert missed_by_policy(good, EVERYTHING, strict=True) == ()


def test_an_unknown_price_fails_a_requirement_and_not_a_wish() -> None:
    rules = Rules(nano_usd_per_mtok=1)
    assert [miss.observed for miss in missed_by_policy(shared(), rules, strict=True)] == ["unknown"]
    assert missed_by_policy(shared(), rules, strict=False) == ()


def test_what_nobody_promises_satisfies_no_wish_either() -> None:
    unknown = shared(region="unknown", retention="unknown")
    wishes = Rules(regions=("*",), retention=("*",), no_training=True, quantization=frozenset({"unknown"}))
    assert [miss.rule for miss in missed_by_policy(unknown, wishes, strict=False)] == [
        "region",
        "retention",
        "training",
        "quantization",
    ]


def test_a_two_part_price_is_blended_three_to_one() -> None:
    assert blended_nano_usd_per_mtok(Price(input_nano_usd_per_mtok=100, output_nano_usd_per_mtok=500)) == 200
