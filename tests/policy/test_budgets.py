"""Budgets: all that they say is compiled, `each` makes one of every member, and only of those that can be met."""

from __future__ import annotations

from pathlib import Path

import pytest
from proxy.policy.model import Budget, Cap, Enforce, Exhausted, Lane, Per
from tests.policy.policies import DIGEST, compiled, messages, two_lanes

OTHER = "sha256:" + "fedcba9876543210" * 4
THIRD = "sha256:" + "00112233445566ff" * 4
TENANTS = f"""tenants:
  bank: {{keys: [{{digest: "{DIGEST}", name: ci}}, {{digest: "{OTHER}", name: web}}], tags: [gdpr]}}
  shop: {{keys: ["{THIRD}"], request_tags: [eval], models: [m]}}
"""
ROUTES = "routes: [{name: eu, match: {tags: [gdpr]}}, {name: default}]\n"
A_DAY = (Cap(500 * 10**9, Per.DAY),)


def policy(*written: str) -> str:
    """A policy with tenants and routes, and these budgets, each the inside of a flow mapping."""
    lines = "".join(f"  - {{{one}}}\n" for one in written)
    return two_lanes(f"{TENANTS}{ROUTES}budgets:\n{lines}").replace(
        "tags: [iso]}", "tags: [iso], gpus: {type: H100, count: 1, usd_per_hour: 3}}"
    )


def budgets(tmp_path: Path, *written: str) -> tuple[Budget, ...]:
    return compiled(tmp_path, policy(*written)).snapshot.budgets


def said(tmp_path: Path, *written: str) -> list[str]:
    return messages(tmp_path, policy(*written))


def test_without_budgets_nothing_is_counted(tmp_path: Path) -> None:
    assert compiled(tmp_path, two_lanes("")).snapshot.budgets == ()


def test_a_budget_of_two_words_is_hard_and_for_everybodys_shared_money(tmp_path: Path) -> None:
    assert budgets(tmp_path, "name: all, limit: $500/day") == (
        Budget(
            name="all",
            caps=A_DAY,
            enforce=Enforce.HARD,
            exhausted=Exhausted.DEDICATED_ONLY,
            alerts=(50, 80, 100),
            lane=Lane.SHARED,
        ),
    )


def test_everything_that_a_budget_says_is_compiled(tmp_path: Path) -> None:
    (one,) = budgets(
        tmp_path,
        "name: b, match: {tenant: bank, key: [bank/ci, bank/web], tags: gdpr, route: [eu, default], target: api,"
        " model: m}, lane: shared, limit: [$500/day, 2500/month], enforce: soft, exhausted: {downgrade: own-only},"
        " alerts: [100%, 20%]",
    )
    assert one == Budget(
        name="b",
        caps=(Cap(500 * 10**9, Per.DAY), Cap(2500 * 10**9, Per.MONTH)),
        enforce=Enforce.SOFT,
        exhausted=Exhausted.DOWNGRADE,
        downgrade="own-only",
        alerts=(20, 100),
        lane=Lane.SHARED,
        tenants=frozenset({"bank"}),
        keys=frozenset({"bank/ci", "bank/web"}),
        tags=frozenset({"gdpr"}),
        routes=frozenset({"eu", "default"}),
        targets=frozenset({"api"}),
        models=frozenset({"m"}),
    )


@pytest.mark.parametrize(
    ("written", "enforce"),
    [
        ("mode: shadow", Enforce.SHADOW),
        ("enforce: shadow", Enforce.SHADOW),
        ("mode: shadow, enforce: shadow", Enforce.SHADOW),
        ("mode: enforce, enforce: soft", Enforce.SOFT),
        ("mode: enforce", Enforce.HARD),
    ],
)
def test_mode_is_another_word_for_shadow(written: str, enforce: Enforce, tmp_path: Path) -> None:
    (one,) = budgets(tmp_path, f"name: b, limit: $500/day, {written}")
    assert one.enforce is enforce


def test_no_alerts_is_a_choice(tmp_path: Path) -> None:
    (one,) = budgets(tmp_path, "name: b, limit: $500/day, alerts: []")
    assert one.alerts == ()


@pytest.mark.parametrize(
    ("written", "field", "members"),
    [
        ("each: tenant", "tenants", ["bank", "shop"]),
        ("each: tenant, match: {tenant: shop}", "tenants", ["shop"]),
        ("each: tenant, match: {key: bank/ci}", "tenants", ["bank"]),
        ("each: tenant, match: {tags: gdpr}", "tenants", ["bank"]),
        ("each: tenant, match: {tags: eval}", "tenants", ["shop"]),
        ("each: key", "keys", ["bank/ci", "bank/web"]),
        ("each: key, match: {key: bank/web}", "keys", ["bank/web"]),
        ("each: model", "models", ["m"]),
        ("each: model, lane: dedicated, exhausted: reject", "models", ["m", "own-only"]),
        ("each: target", "targets", ["api"]),
        ("each: target, lane: dedicated, exhausted: reject", "targets", ["own"]),
        ("each: route", "routes", ["eu", "default"]),
        ("each: route, match: {route: eu}", "routes", ["eu"]),
    ],
)
def test_each_makes_one_of_every_member_that_can_be_met(
    written: str, field: str, members: list[str], tmp_path: Path
) -> None:
    made = budgets(tmp_path, f"name: cap, limit: $500/day, {written}")
    assert [one.name for one in made] == [f"cap/{member}" for member in members]
    assert [getattr(one, field) for one in made] == [frozenset({member}) for member in members]
    assert {one.group for one in made} == {"cap"}
    assert {one.caps for one in made} == {A_DAY}


def test_the_rest_of_the_match_holds_for_each(tmp_path: Path) -> None:
    made = budgets(tmp_path, "name: cap, limit: $500/day, each: tenant, match: {tags: eval, model: m}")
    assert {(one.tags, one.models) for one in made} == {(frozenset({"eval"}), frozenset({"m"}))}


def test_each_key_takes_a_key_once_though_it_has_two_digests(tmp_path: Path) -> None:
    text = policy("name: cap, limit: $500/day, each: key")
    assert len(compiled(tmp_path, text).snapshot.budgets) == 2


def test_the_implied_route_has_a_name_too(tmp_path: Path) -> None:
    (one,) = compiled(
        tmp_path, two_lanes("budgets: [{name: b, limit: $5/day, match: {route: default}}]")
    ).snapshot.budgets
    assert one.routes == frozenset({"default"})


def test_each_tenant_needs_tenants(tmp_path: Path) -> None:
    text = two_lanes("budgets: [{name: b, limit: $5/day, each: tenant}]")
    assert messages(tmp_path, text) == ["`each: tenant` makes no budget: there is no tenant that `match` allows"]


def test_a_downgrade_to_what_is_not_matched_is_fine(tmp_path: Path) -> None:
    (one,) = budgets(tmp_path, "name: b, limit: $5/day, match: {model: m}, exhausted: 'downgrade: own-only'")
    assert one.downgrade == "own-only"


def test_whoever_may_not_have_the_other_model_is_told_only_where_he_is_meant(tmp_path: Path) -> None:
    budgets(tmp_path, "name: b, limit: $5/day, exhausted: {downgrade: own-only}")
    named = "name: b, limit: $5/day, match: {tenant: shop}, exhausted: {downgrade: own-only}"
    assert said(tmp_path, named) == ["tenant `shop` may not ask for the model `own-only`"]


def test_all_mistakes_of_all_budgets_are_said_at_once(tmp_path: Path) -> None:
    assert said(
        tmp_path,
        "name: a, limit: [$5/day, $6/day], match: {tenant: bnak}",
        "name: b, limit: $0/day, alerts: [5]",
        "name: a, limit: $5/day, exhausted: {downgrade: n}",
        "name: c, lane: dedicated, limit: $5/day",
    ) == [
        "two limits for `/day`",
        "unknown tenant `bnak`",
        "limit out of range: `$0/day`",
        "expected a whole percentage, got `5`",
        "a second budget named `a`",
        "unknown model `n`",
        "`dedicated_only` is no way out of a budget for dedicated GPUs",
    ]


def test_what_depends_on_a_broken_item_is_not_blamed(tmp_path: Path) -> None:
    text = policy("name: b, limit: $5/day, each: target, match: {target: api, tenant: shop, route: eu}")
    broken = (
        text.replace("lane: shared", "lane: spot").replace(THIRD, "nonsense").replace("name: eu,", "name: eu, x: 1,")
    )
    assert messages(tmp_path, broken) == [
        "expected one of `dedicated`, `shared`, got `spot`",
        "not the digest of a key",
        "unknown key `x` in `routes`",
    ]


def test_a_tag_that_nobody_has_is_a_warning(tmp_path: Path) -> None:
    result = compiled(tmp_path, policy("name: b, limit: $5/day, match: {tags: [evil]}"))
    (warning,) = [one for one in result.warnings if "tag" in one.message]
    assert (warning.message, warning.hint) == ("no tenant has the tag `evil`", "did you mean `eval`?")


def test_the_prompt_is_read_where_its_price_is_set_aside(tmp_path: Path) -> None:
    def reads(written: str) -> bool:
        return compiled(tmp_path, policy(written)).snapshot.reads_content

    assert reads("name: b, limit: $5/day")
    assert not reads("name: b, limit: $5/day, enforce: soft")
    assert not reads("name: b, limit: $5/day, lane: dedicated, exhausted: reject")
