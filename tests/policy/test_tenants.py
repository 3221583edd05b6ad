"""Tenants: whose key is whose."""

from __future__ import annotations

import hashlib
from pathlib import Path

from proxy.policy.model import NO_KEY, UNLIMITED, Limits, Mode, Priority
from tests.policy.policies import compiled, messages, two_lanes


def digest(key: str) -> str:
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


def test_a_key_finds_its_tenant(tmp_path: Path) -> None:
    tenants = f"""tenants:
  bank: {{keys: ["{digest("sk-one")}", "{digest("sk-two")}"], tags: [gdpr], models: [m]}}
  shop: {{keys: "{digest("sk-three")}"}}
"""
    snapshot = compiled(tmp_path, two_lanes(tenants)).snapshot
    bank, shop = snapshot.tenants["bank"], snapshot.tenants["shop"]
    opened = [snapshot.key_of(key) for key in (b"sk-one", b"sk-two", b"sk-three")]
    assert [key and key.tenant for key in opened] == [bank, bank, shop]
    assert snapshot.key_of(b"sk-four") is None
    assert snapshot.key_of(None) is None
    assert (bank.tags, bank.models, shop.models) == (frozenset({"gdpr"}), frozenset({"m"}), None)


def test_a_tenants_priority_is_normal_where_nothing_is_said(tmp_path: Path) -> None:
    tenants = f"""tenants:
  bank: {{keys: ["{digest("sk-one")}"], priority: high}}
  shop: {{keys: ["{digest("sk-two")}"], priority: low}}
  club: {{keys: ["{digest("sk-three")}"]}}
"""
    found = compiled(tmp_path, two_lanes(tenants)).snapshot.tenants
    priorities = {name: tenant.priority for name, tenant in found.items()}
    assert priorities == {"bank": Priority.HIGH, "shop": Priority.LOW, "club": Priority.NORMAL}
    assert Priority.LOW < Priority.NORMAL < Priority.HIGH


def test_without_tenants_everybody_is_anonymous(tmp_path: Path) -> None:
    snapshot = compiled(tmp_path, two_lanes("")).snapshot
    assert snapshot.keys == {}
    assert snapshot.key_of(None) is NO_KEY
    assert NO_KEY.tenant.request_tags is None


def test_tenants_without_a_key_let_nobody_in(tmp_path: Path) -> None:
    snapshot = compiled(tmp_path, two_lanes("tenants: {a: {keys: []}}")).snapshot
    assert snapshot.keys == {}
    assert (snapshot.key_of(None), snapshot.key_of(b"sk-one")) == (None, None)


def test_a_key_has_a_name_tags_and_limits_beside_its_tenants(tmp_path: Path) -> None:
    tenants = f"""tenants:
  bank:
    keys: ["{digest("sk-one")}", {{name: ci, digest: "{digest("sk-two")}", tags: [eval], rpm: 60, mode: shadow}}]
    tags: [gdpr]
    request_tags: [canary]
    tpm: 2M
    concurrency: 50
"""
    snapshot = compiled(tmp_path, two_lanes(tenants)).snapshot
    plain, ci = snapshot.key_of(b"sk-one"), snapshot.key_of(b"sk-two")
    assert plain is not None
    assert ci is not None
    assert (plain.name, plain.tags, plain.limits) == ("", frozenset({"gdpr"}), UNLIMITED)
    assert (ci.name, ci.tags) == ("bank/ci", frozenset({"gdpr", "eval"}))
    assert ci.limits == Limits(rpm=60, mode=Mode.SHADOW)
    assert ci.tenant.limits == Limits(tpm=2_000_000, concurrency=50)
    assert ci.tenant.request_tags == frozenset({"canary"})


def test_two_keys_of_one_tenant_differ_in_name(tmp_path: Path) -> None:
    keys = ", ".join(f'{{name: ci, digest: "{digest(key)}"}}' for key in ("k1", "k2"))
    assert messages(tmp_path, two_lanes(f"tenants: {{a: {{keys: [{keys}]}}}}")) == ["a second key named `ci`"]


def test_a_key_with_limits_needs_a_name(tmp_path: Path) -> None:
    tenants = f'tenants: {{a: {{keys: [{{digest: "{digest("k1")}", rpm: 5}}]}}}}'
    assert messages(tmp_path, two_lanes(tenants)) == ["a key with limits needs a name"]


def test_one_key_belongs_to_one_tenant(tmp_path: Path) -> None:
    tenants = f'tenants:\n  a: {{keys: ["{digest("k1")}"]}}\n  b: {{keys: ["{digest("k1").replace("a", "A")}"]}}\n'
    tenants = tenants.replace("shA256", "sha256")
    assert messages(tmp_path, two_lanes(tenants)) == ["tenant `a` has the same key"]


def test_one_key_is_listed_once(tmp_path: Path) -> None:
    tenants = f'tenants:\n  a: {{keys: ["{digest("k1")}", "{digest("k1")}"]}}\n'
    assert messages(tmp_path, two_lanes(tenants)) == ["the same key twice"]


def test_a_tenant_may_only_be_given_models_that_exist(tmp_path: Path) -> None:
    tenants = f'tenants:\n  a: {{keys: ["{digest("k1")}"], models: [m, n]}}\n'
    assert messages(tmp_path, two_lanes(tenants)) == ["unknown model `n`"]


def test_a_list_without_models_is_a_mistake_and_not_all_models(tmp_path: Path) -> None:
    tenants = f'tenants:\n  a: {{keys: ["{digest("k1")}"], models: []}}\n'
    assert messages(tmp_path, two_lanes(tenants)) == ["the list is empty"]
