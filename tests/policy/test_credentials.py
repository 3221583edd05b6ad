"""Keys: named by variables, known by digests, repeated by nobody."""

from __future__ import annotations

import hashlib

import pytest
from proxy.policy.credentials import api_key, key_digest
from proxy.policy.problem import Mistake
from proxy.policy.variables import Interpolated

SECRET = "sk-canary"


def test_an_api_key_is_what_one_variable_holds() -> None:
    assert api_key(Interpolated(SECRET, "${KEY}")).reveal() == SECRET


@pytest.mark.parametrize(
    "value",
    [
        SECRET,
        Interpolated(f"Bearer {SECRET}", "Bearer ${KEY}"),
        Interpolated(f"{SECRET}\n", "${KEY}"),
        Interpolated(f"{SECRET}\x00", "${KEY}"),
        Interpolated(f"{SECRET}é", "${KEY}"),
    ],
)
def test_any_other_api_key_is_refused_and_not_repeated(value: object) -> None:
    with pytest.raises(Mistake) as refused:
        api_key(value)
    assert SECRET not in refused.value.message + refused.value.hint


def test_a_tenants_key_is_its_digest_in_either_case() -> None:
    digest = hashlib.sha256(SECRET.encode()).hexdigest()
    assert key_digest(f"sha256:{digest.upper()}") == digest
    assert key_digest(Interpolated(f"sha256:{digest}", "sha256:${DIGEST}")) == digest


@pytest.mark.parametrize("value", [SECRET, "sha256:" + "a1" * 31, "a1" * 32, "sha512:" + "a1" * 32, 5, None, [SECRET]])
def test_anything_else_may_be_a_key_in_clear_and_is_not_repeated(value: object) -> None:
    with pytest.raises(Mistake) as refused:
        key_digest(value)
    assert SECRET not in refused.value.message + refused.value.hint


@pytest.mark.parametrize("key", ["", "changeme", "sk-1234", "secret"])
def test_placeholder_keys_are_refused(key: str) -> None:
    with pytest.raises(Mistake, match="well-known"):
        key_digest("sha256:" + hashlib.sha256(key.encode()).hexdigest())


def test_a_made_up_digest_is_refused() -> None:
    with pytest.raises(Mistake, match="well-known"):
        key_digest("sha256:" + "0" * 64)
