"""The presets: nothing is found in them, their cases pass and see everything, their figures are those of the table."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from proxy.cases.case import files_of, judge, read_cases, read_file
from proxy.cases.coverage import coverage
from proxy.cli.policy_assumed import Assumed
from proxy.meters.prices import PriceList
from proxy.policy.compile import Compiled, check_policy, check_source
from proxy.policy.lint.lint import lint
from proxy.policy.model import Enforce, Match, Route, Rules, Traffic
from proxy.policy.source import Source, SourceFile
from proxy.policy.starter.answers import Answers, Pattern, UsageAnswer
from proxy.policy.starter.kinds import Kind
from proxy.policy.starter.profiles import PROFILES
from proxy.policy.starter.text import starting_policy
from proxy.routing.decide import Router
from tests.policy.answers import models_of

FOLDER = Path(__file__).resolve().parents[2] / "policies" / "presets"
PRODUCTS = ("consumer-online", "consumer-offline", "b2b-online", "b2b-offline")
BUDGETED = ("monthly-cap", "per-tenant-budgets")
NAMES = (*Kind, *PRODUCTS, *BUDGETED)
FIRST_LINE = "# yaml-language-server: $schema=../schema.json"


@cache
def prices() -> PriceList:
    return PriceList.load()


@cache
def preset(name: str) -> Compiled:
    return check_policy(FOLDER / f"{name}.yaml", env=Assumed(), price_of=prices().price_of)


@cache
def from_table(kind: Kind) -> dict[str, Route]:
    """The routes that `init` writes for the kind, by name."""
    answers = Answers(interface=kind, models=models_of(kind), usage=UsageAnswer(traffic=Pattern.BOTH))
    text = starting_policy(answers)
    source = Source("policy.yaml", (SourceFile("policy.yaml", text),), "0" * 64)
    routes = check_source(source, env=Assumed(), price_of=prices().price_of).snapshot.routes
    return {route.name: route for route in routes}


def objectives(rules: Rules) -> Rules:
    """The part that says how fast, how sure and how dear, without the places and promises, which a preset may add."""
    anywhere = Rules()
    return replace(
        rules,
        regions=anywhere.regions,
        retention=anywhere.retention,
        lane=anywhere.lane,
        tags=anywhere.tags,
        no_training=anywhere.no_training,
        quantization=anywhere.quantization,
    )


def suiting(route: Route) -> tuple[object, ...]:
    """What makes a route suit its work."""
    blocks = (route.require, route.want, route.shadow_require, route.shadow_want)
    return (
        replace(route.match, models=None),
        *map(objectives, blocks),
        route.prefer,
        route.max_failovers,
    )


def test_there_is_one_for_each_kind_and_product_and_some_for_money() -> None:
    files = {path.name for path in FOLDER.iterdir()}
    assert files == {f"{name}{suffix}" for name in NAMES for suffix in (".yaml", ".test.yaml")}


@pytest.mark.parametrize("name", NAMES)
def test_editors_know_the_schema_of_a_preset(name: str) -> None:
    assert (FOLDER / f"{name}.yaml").read_text("utf-8").splitlines()[0] == FIRST_LINE


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_found_in_a_preset(name: str) -> None:
    assert [str(finding) for finding in lint(preset(name))] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_cases_of_a_preset_pass_and_see_all_of_it(name: str) -> None:
    snapshot = preset(name).snapshot
    (file,) = files_of(FOLDER / f"{name}.yaml")
    router = Router(snapshot)
    results = [judge(case, router) for case in read_cases(read_file(file), snapshot)]
    assert [(result.case.name, result.differences) for result in results if not result.passed] == []
    seen = coverage(snapshot, [(result.case.given, result.decision) for result in results])
    assert [str(side) for side in seen.missing] == []


@pytest.mark.parametrize("kind", Kind)
def test_the_objectives_of_a_kind_are_those_of_the_table(kind: Kind) -> None:
    table = from_table(kind)
    routes = {route.name: route for route in preset(kind).snapshot.routes}
    assert routes.keys() - {"offline"} == {work.name for work in PROFILES[kind].works}
    assert {name: suiting(route) for name, route in routes.items()} == {
        name: suiting(route) for name, route in table.items() if name in routes
    }


@pytest.mark.parametrize("name", ["consumer-online", "b2b-online"])
def test_products_that_people_wait_for_want_what_a_chat_wants(name: str) -> None:
    wanted = from_table(Kind.CHAT)["chat"].want
    routes = [route for route in preset(name).snapshot.routes if not route.target_override]
    assert routes
    assert {objectives(route.want) for route in routes} == {wanted}


@pytest.mark.parametrize("name", ["consumer-offline", "b2b-offline"])
def test_products_that_nobody_waits_for_want_no_speed(name: str) -> None:
    routes = preset(name).snapshot.routes
    blocks = [block for one in routes for block in (one.require, one.want, one.shadow_require, one.shadow_want)]
    assert not any(block.objectives for block in blocks)
    caps = [(one.require.nano_usd_per_mtok, one.require.max_nano_usd_per_request) for one in routes]
    assert (None, None) not in caps


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_have_tenants_with_limits(name: str) -> None:
    tenants = preset(name).snapshot.tenants
    assert len(tenants) > 1
    assert all(tenant.limits for tenant in tenants.values())


@pytest.mark.parametrize("name", BUDGETED)
def test_what_is_hard_can_be_counted(name: str) -> None:
    snapshot = preset(name).snapshot
    assert any(one.enforce is Enforce.HARD for one in snapshot.budgets)
    assert all(target.price or target.gpus for target in snapshot.targets.values())


@pytest.mark.parametrize("name", ["b2b-online", "b2b-offline"])
def test_some_customers_are_bound_to_a_region(name: str) -> None:
    assert any(route.require.regions for route in preset(name).snapshot.routes)


@pytest.mark.parametrize("kind", Kind)
def test_offline_work_is_capped_and_told_apart(kind: Kind) -> None:
    offline = from_table(kind)["offline"]
    assert offline.match == Match(traffic=Traffic.OFFLINE)
    assert offline.require.nano_usd_per_mtok
    assert offline.require.limits.concurrency
    assert not offline.want.objectives
