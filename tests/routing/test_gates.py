"""Each gate on its own: what passes, what does not, and what unknown means."""

from __future__ import annotations

import pytest
from proxy.policy.model import Endpoint, Lane, Require, Target, Tenant
from proxy.routing import gates
from proxy.routing.gates import Asked, Gate
from proxy.routing.plan import Exclusion
from tests.routing.policies import dedicated, shared


def asked(**given: object) -> Asked:
    return Asked(**({"require": Require(), "endpoint": Endpoint.CHAT} | given))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gate", "target", "wanted", "passes"),
    [
        (gates.endpoint, dedicated(), asked(), True),
        (gates.endpoint, dedicated(native=frozenset(), translated=frozenset({Endpoint.CHAT})), asked(), True),
        (gates.endpoint, dedicated(native=frozenset()), asked(), False),
        (gates.endpoint, dedicated(native=frozenset({Endpoint.CHAT})), asked(endpoint=Endpoint.MESSAGES), False),
        (gates.lane, shared(), asked(), True),
        (gates.lane, dedicated(), asked(require=Require(lane=Lane.DEDICATED)), True),
        (gates.lane, shared(), asked(require=Require(lane=Lane.DEDICATED)), False),
        (gates.tags, shared(), asked(), True),
        (gates.tags, shared(tags=frozenset("ab")), asked(require=Require(tags=frozenset("a"))), True),
        (gates.tags, shared(tags=frozenset("a")), asked(require=Require(tags=frozenset("ab"))), False),
        (gates.tags, shared(), asked(require=Require(tags=frozenset("a"))), False),
        (gates.region, shared(region="unknown"), asked(), True),
        (gates.region, shared(region="eu-west-1"), asked(require=Require(regions=("eu-*",))), True),
        (gates.region, shared(region="us"), asked(require=Require(regions=("eu-*", "us"))), True),
        (gates.region, shared(region="us"), asked(require=Require(regions=("eu-*",))), False),
        (gates.region, shared(region="EU-west-1"), asked(require=Require(regions=("eu-*",))), False),
        (gates.region, shared(region="eu-west-1"), asked(require=Require(regions=("EU-*",))), False),
        (gates.region, shared(region="unknown"), asked(require=Require(regions=("*",))), False),
        (gates.region, shared(region=""), asked(require=Require(regions=("*",))), False),
        (gates.retention, shared(retention="unknown"), asked(), True),
        (gates.retention, shared(retention="zero"), asked(require=Require(retention=("zero",))), True),
        (gates.retention, shared(retention="30d"), asked(require=Require(retention=("zero", "*d"))), True),
        (gates.retention, shared(retention="30d"), asked(require=Require(retention=("zero",))), False),
        (gates.retention, shared(retention="unknown"), asked(require=Require(retention=("*",))), False),
        (gates.lane_override, shared(), asked(), True),
        (gates.lane_override, shared(), asked(lane_override=Lane.SHARED), True),
        (gates.lane_override, shared(), asked(lane_override=Lane.DEDICATED), False),
    ],
)
def test_a_gate_passes_only_what_it_should(gate: Gate, target: Target, wanted: Asked, passes: bool) -> None:
    exclusion = gate(target, wanted)
    assert (exclusion is None) is passes
    if exclusion is not None:
        assert exclusion.hard
        assert exclusion.target == target.name
        assert exclusion.rule in gates.RULES
    assert (gates.barrier(target, wanted) is None) is passes


@pytest.mark.parametrize(
    ("models", "allowed"),
    [(None, True), (frozenset({"llama"}), True), (frozenset({"gpt"}), False), (frozenset(), False)],
)
def test_a_tenant_is_held_to_its_models(models: frozenset[str] | None, allowed: bool) -> None:
    assert gates.tenant_may_use(Tenant(name="t", models=models), "llama") is allowed


def test_the_names_of_the_rules_are_in_the_order_of_the_gates() -> None:
    """Each target fails exactly one gate; the rule it is excluded by must stand where that gate stands."""
    strict = Require(lane=Lane.SHARED, tags=frozenset({"a"}), regions=("eu-*",), retention=("zero",))
    good = {"tags": frozenset({"a"}), "region": "eu-1", "retention": "zero"}
    failing = [
        shared(**good | {"native": frozenset()}),
        dedicated(**good),
        shared(**good | {"tags": frozenset()}),
        shared(**good | {"region": "us"}),
        shared(**good | {"retention": "30d"}),
    ]
    found = [gates.barrier(target, asked(require=strict)) for target in failing]
    overridden = gates.barrier(shared(**good), asked(require=strict, lane_override=Lane.DEDICATED))
    assert [exclusion and exclusion.rule for exclusion in [*found, overridden]] == list(gates.RULES)
    for gate, target in zip(gates.GATES, failing, strict=False):
        assert gate(target, asked(require=strict)) is not None


def test_an_exclusion_says_what_was_seen_and_what_was_required() -> None:
    found = gates.region(shared(), asked(require=Require(regions=("eu-*", "ch"))))
    assert str(found) == "together: require.region us against eu-*, ch"
    assert str(gates.endpoint(dedicated(native=frozenset()), asked())) == "llama-eu: endpoint chat against none"
    assert str(gates.tags(shared(), asked(require=Require(tags=frozenset("ba"))))) == (
        "together: require.tags none against a, b"
    )


def test_the_gate_to_name_is_the_one_that_stopped_the_target_that_came_furthest() -> None:
    barred = tuple(Exclusion("t", rule, "", "", True) for rule in ("require.region", "endpoint", "require.lane"))
    assert gates.furthest(barred) == "require.region"
