"""Tenants: whose key is whose."""

from __future__ import annotations

import hashlib
from pathlib import Path

from proxy.policy.model import ANONYMOUS
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
    assert [snapshot.tenant_of(key) for key in (b"sk-one", b"sk-two", b"sk-three")] == [bank, bank, shop]
    assert snapshot.tenant_of(b"sk-four") is None
    assert snapshot.tenant_of(None) is None
    assert (bank.tags, bank.models, shop.models) == (frozenset({"gdpr"}), frozenset({"m"}), None)


def test_without_tenants_everybody_is_anonymous(tmp_path: Path) -> None:
    snapshot = compiled(tmp_path, two_lanes("")).snapshot
    assert snapshot.keys == {}
    assert snapshot.tenant_of(None) is ANONYMOUS


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
