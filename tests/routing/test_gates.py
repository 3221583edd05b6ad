"""Each gate on its own: what passes, what does not, and what unknown means."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from proxy.policy.model import Capability, Endpoint, Lane, Modality, Rules, Target, Tenant
from proxy.routing import gates
from proxy.routing.gates import Asked
from proxy.routing.plan import Exclusion
from tests.routing.policies import dedicated, facts, price, shared

Gate = Callable[[Target, Asked], Exclusion | None]


def asked(**given: object) -> Asked:
    return Asked(**({"require": Rules(), "endpoint": Endpoint.CHAT} | given))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gate", "target", "wanted", "passes"),
    [
        (gates.endpoint, dedicated(), asked(), True),
        (gates.endpoint, dedicated(native=frozenset(), translated=frozenset({Endpoint.CHAT})), asked(), True),
        (gates.endpoint, dedicated(native=frozenset()), asked(), False),
        (gates.endpoint, dedicated(native=frozenset({Endpoint.CHAT})), asked(endpoint=Endpoint.MESSAGES), False),
        (gates.required, shared(), asked(), True),
        (gates.required, dedicated(), asked(require=Rules(lane=Lane.DEDICATED)), True),
        (gates.required, shared(), asked(require=Rules(lane=Lane.DEDICATED)), False),
        (gates.required, shared(), asked(), True),
        (gates.required, shared(tags=frozenset("ab")), asked(require=Rules(tags=frozenset("a"))), True),
        (gates.required, shared(tags=frozenset("a")), asked(require=Rules(tags=frozenset("ab"))), False),
        (gates.required, shared(), asked(require=Rules(tags=frozenset("a"))), False),
        (gates.required, shared(region="unknown"), asked(), True),
        (gates.required, shared(region="eu-west-1"), asked(require=Rules(regions=("eu-*",))), True),
        (gates.required, shared(region="us"), asked(require=Rules(regions=("eu-*", "us"))), True),
        (gates.required, shared(region="us"), asked(require=Rules(regions=("eu-*",))), False),
        (gates.required, shared(region="EU-west-1"), asked(require=Rules(regions=("eu-*",))), False),
        (gates.required, shared(region="eu-west-1"), asked(require=Rules(regions=("EU-*",))), False),
        (gates.required, shared(region="unknown"), asked(require=Rules(regions=("*",))), False),
        (gates.required, shared(region=""), asked(require=Rules(regions=("*",))), False),
        (gates.required, shared(retention="unknown"), asked(), True),
        (gates.required, shared(retention="zero"), asked(require=Rules(retention=("zero",))), True),
        (gates.required, shared(retention="30d"), asked(require=Rules(retention=("zero", "*d"))), True),
        (gates.required, shared(retention="30d"), asked(require=Rules(retention=("zero",))), False),
        (gates.required, shared(retention="unknown"), asked(require=Rules(retention=("*",))), False),
        (gates.required, shared(), asked(require=Rules(no_training=True)), False),
        (gates.required, shared(trains=True), asked(require=Rules(no_training=True)), False),
        (gates.required, shared(trains=False), asked(require=Rules(no_training=True)), True),
        (gates.required, shared(), asked(require=Rules(quantization=frozenset({"fp8"}))), False),
        (gates.required, shared(quantization="fp8"), asked(require=Rules(quantization=frozenset({"fp8"}))), True),
        (gates.required, shared(price=price(2)), asked(require=Rules(nano_usd_per_mtok=1_000_000_000)), False),
        (gates.required, shared(price=price(1)), asked(require=Rules(nano_usd_per_mtok=1_000_000_000)), True),
        (gates.required, shared(), asked(require=Rules(nano_usd_per_mtok=1_000_000_000)), False),
        (gates.required, dedicated(), asked(require=Rules(nano_usd_per_mtok=1)), True),
        (gates.target_override, shared(), asked(), True),
        (gates.target_override, shared(), asked(target_override="together"), True),
        (gates.target_override, shared(), asked(target_override="other"), False),
        (gates.lane_override, shared(), asked(), True),
        (gates.lane_override, shared(), asked(lane_override=Lane.SHARED), True),
        (gates.lane_override, shared(), asked(lane_override=Lane.DEDICATED), False),
    ],
)
def test_a_gate_passes_only_what_it_should(
    gate: Callable[[Target, Asked], Exclusion | None], target: Target, wanted: Asked, passes: bool
) -> None:
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


def test_the_rule_to_name_follows_the_order_in_which_the_gates_are_asked() -> None:
    """Each target keeps one rule more than the one before, so it comes further."""
    strict = Rules(lane=Lane.SHARED, tags=frozenset({"a"}), regions=("eu-*",), retention=("zero",), no_training=True)
    steps: list[dict[str, object]] = [
        {"tags": frozenset({"a"})},
        {"region": "eu-1"},
        {"retention": "zero"},
        {"trains": False},
    ]
    targets = [shared(native=frozenset()), dedicated(), shared()]
    for count in range(1, len(steps)):
        targets.append(shared(**{name: value for step in steps[:count] for name, value in step.items()}))
    found = [gates.barrier(target, asked(require=strict)) for target in targets]
    rules = [exclusion.rule for exclusion in found if exclusion]
    assert rules == [rule for rule in gates.RULES if rule in rules]
    assert len(rules) == len(targets) == 6
    for end in range(1, len(rules)):
        barred = tuple(exclusion for exclusion in found[:end] if exclusion)
        assert gates.furthest(barred) == rules[end - 1]


@pytest.mark.parametrize(
    ("target", "content", "rule"),
    [
        (shared(), {"tools": True, "input_tokens": 10**9}, None),
        (shared(supports=frozenset({Capability.TOOLS})), {"tools": True}, None),
        (shared(supports=frozenset()), {}, None),
        (shared(supports=frozenset()), {"tools": True}, "supports"),
        (shared(supports=frozenset({Capability.TOOLS})), {"modalities": frozenset({Modality.AUDIO})}, "supports"),
        (shared(context_window=100), {"input_tokens": 60, "max_output_tokens": 40}, None),
        (shared(context_window=100), {"input_tokens": 60, "max_output_tokens": 41}, "context_window"),
        (shared(context_window=100), {"input_tokens": 101}, "context_window"),
    ],
)
def test_what_a_target_claims_bars_requests_that_need_more(
    target: Target, content: dict[str, object], rule: str | None
) -> None:
    found = gates.unfit(target, Rules(), facts(**content))
    assert (found.rule if found else None) == rule
    assert found is None or gates.depends_on_request(target, Rules())


@pytest.mark.parametrize(("modality", "capability"), [(one, one.value) for one in Modality if one is not Modality.TEXT])
def test_every_modality_needs_a_capability(modality: Modality, capability: str) -> None:
    named = {"image": "vision", "file": "files"}.get(capability, capability)
    assert gates.needs(facts(modalities=frozenset({modality}), tools=True)) == {Capability.TOOLS, Capability(named)}


def test_an_exclusion_says_what_was_seen_and_what_was_required() -> None:
    found = gates.required(shared(), asked(require=Rules(regions=("eu-*", "ch"))))
    assert str(found) == "together: require.region us against eu-*, ch"
    assert str(gates.endpoint(dedicated(native=frozenset()), asked())) == "llama-eu: endpoint chat against none"
    assert str(gates.required(shared(), asked(require=Rules(tags=frozenset("ba"))))) == (
        "together: require.tags none against a, b"
    )


def test_the_gate_to_name_is_the_one_that_stopped_the_target_that_came_furthest() -> None:
    barred = tuple(Exclusion("t", rule, "", "", True) for rule in ("require.region", "endpoint", "require.lane"))
    assert gates.furthest(barred) == "require.region"
