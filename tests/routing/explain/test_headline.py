"""The sentence that an explanation begins with."""

from __future__ import annotations

from typing import Any

import pytest
from proxy.policy.model import Route, Rules, Snapshot, Tenant
from proxy.routing.decide import Router
from proxy.routing.explain.explain import explain
from proxy.routing.explain.explained import Explanation
from tests.routing.policies import NOW, dedicated, facts, reading, readings, shared, snapshot, ttft_p99

FULL = reading("llama-eu", in_flight=64)


def explained(policy: Snapshot, seen: Any = None) -> Explanation:
    return explain(Router(policy), facts(), seen or {}, NOW, 0.0)


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        ((), "it comes first on route `default`, which fills GPUs that are paid for first, then takes the cheapest"),
        ((FULL,), "`llama-eu` (dedicated) would come first, but it is full, with 64 of 64 in flight"),
    ],
)
def test_the_headline_says_why_there(seen: Any, why: str) -> None:
    found = explained(snapshot([dedicated(), shared()]), readings(*seen))
    assert found.summary.partition(": ")[2] == f"{why}."


def test_the_headline_says_when_there_was_no_choice() -> None:
    lone = Route(name="eu", require=Rules(regions=("eu-*",)))
    assert "the only target that route `eu` allows" in explained(snapshot([dedicated(), shared()], [lone])).summary
    assert "the only target of model `llama-70b`" in explained(snapshot([dedicated()])).summary


def test_the_headline_says_what_is_relaxed() -> None:
    route = Route(name="quick", want=Rules(objectives=ttft_p99(0.5)))
    found = explained(snapshot([dedicated()], [route]), readings(reading("llama-eu", ttft_p99_s=0.9)))
    assert found.relaxed
    assert found.summary.endswith(", although its ttft_p99 is 900 ms, and the route wants 500 ms.")


def test_the_headline_of_a_refusal_names_the_rule_or_says_how_many() -> None:
    route = Route(name="gdpr", require=Rules(regions=("ap-*",)))
    one = explained(snapshot([shared()], [route])).summary
    assert one.endswith(
        "model `llama-70b` has no target but `together`, and its region is us, and the route requires ap-*."
    )
    both = explained(snapshot([dedicated(), shared()], [route])).summary
    assert both.endswith("none of the 2 targets of model `llama-70b` may take it on route `gdpr`.")


def test_a_tenant_that_may_not_ask_for_the_model_is_told_apart_from_a_model_that_is_not_there() -> None:
    shop = Tenant(name="shop", models=frozenset({"other"}))
    asked = explain(Router(snapshot([dedicated()])), facts(tenant=shop), {}, NOW, 0.0)
    assert asked.summary.endswith("tenant `shop` may not ask for model `llama-70b`; its models: `other`.")
    missing = explain(Router(snapshot([dedicated()])), facts(model="nope"), {}, NOW, 0.0)
    assert missing.summary.endswith("the model `nope` does not exist or you do not have access to it.")


def test_the_headline_of_a_wish_that_spills_names_it() -> None:
    route = Route(name="quick", want=Rules(objectives=ttft_p99(0.5)))
    slow = readings(reading("llama-eu", ttft_p99_s=0.9))
    said = explained(snapshot([dedicated(), shared()], [route]), slow).summary
    assert said == (
        "Goes to `together` (shared): `llama-eu` (dedicated) would come first, but its ttft_p99 is 900 ms, "
        "and the route wants 500 ms."
    )
