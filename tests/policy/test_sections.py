"""Sections: one broken item does not hide what is wrong with the others, nor blame them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.policy.policies import DIGEST, compiled, messages, problems, two_lanes


def test_all_mistakes_of_all_sections_are_said_at_once(tmp_path: Path) -> None:
    text = f"""targets:
  own: {{lane: dedicated, url: "ftp://own", model: up}}
  api: {{lane: shared, url: "https://api.example.com/v1", model: up, regoin: us}}
  far: {{lane: shared, model: up}}
models:
  m: [own, api, gone]
tenants:
  bank: {{keys: ["{DIGEST}"], priority: 5}}
routes:
  - {{name: first, prefer: speed}}
  - {{name: last, match: {{model: m, tenant: bank}}}}
"""
    assert messages(tmp_path, text) == [
        "`version` is missing",
        "expected an http or https url, got `ftp://own`",
        "unknown key `regoin` in `targets.api`",
        "a shared target needs a `provider` or a `url`",
        "unknown target `gone`",
        "expected one of `low`, `normal`, `high`, got `5`",
        "expected one of `cost`, `latency`, `dedicated`, `shared`, got `speed`",
        "the last route does not match every request",
    ]


def test_what_depends_on_a_broken_item_is_not_blamed(tmp_path: Path) -> None:
    text = two_lanes(
        "routes:\n  - {name: r, match: {model: m, tenant: bank}, require: {region: eu-*}}\n  - name: all\n"
    )
    text = text.replace("lane: dedicated", "lane: gpu") + "tenants: {bank: {keys: [nonsense]}}\n"
    assert messages(tmp_path, text) == [
        "expected one of `dedicated`, `shared`, got `gpu`",
        "not the digest of a key",
    ]


@pytest.mark.parametrize("section", ["targets", "models", "tenants", "routes"])
@pytest.mark.parametrize("written", ["text", "5", "true", "0", "false"])
def test_a_section_of_the_wrong_kind_is_one_problem(section: str, written: str, tmp_path: Path) -> None:
    sections = {
        "version": "1",
        "targets": '{t: {lane: shared, url: "https://a.example/v1", model: m}}',
        "models": "{m: [t]}",
    }
    text = "\n".join(f"{name}: {value}" for name, value in {**sections, section: written}.items())
    (problem,) = problems(tmp_path, text)
    assert problem.message.startswith(f"`{section}` is a ")
    assert problem.message.endswith(f"not `{written}`")


@pytest.mark.parametrize("written", ["{}", "[]"])
def test_tenants_that_are_no_tenants_do_not_silently_open_the_door(written: str, tmp_path: Path) -> None:
    assert messages(tmp_path, two_lanes(f"tenants: {written}")) == ["`tenants` is empty"]


def test_auth_none_opens_the_door_to_all(tmp_path: Path) -> None:
    assert compiled(tmp_path, two_lanes("auth: none")).snapshot.open_to_all
    assert not compiled(tmp_path, two_lanes("")).snapshot.open_to_all


@pytest.mark.parametrize("version", ["0", "2", "one", "true", "1.5", "[1]"])
def test_other_versions_are_refused(version: str, tmp_path: Path) -> None:
    (message,) = messages(tmp_path, two_lanes("").replace("version: 1", f"version: {version}"))
    assert message.startswith("policy version ")
