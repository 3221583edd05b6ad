"""From YAML to a snapshot: the shipped policies, several files, and that nothing but `PolicyError` ever comes out."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from proxy.policy.compile import check_policy, compile_policy
from proxy.policy.model import Lane, Price, Snapshot
from proxy.policy.problem import PolicyError
from tests.policy.policies import DIGEST, KEY, compiled, no_price, problems, two_lanes

POLICIES = Path(__file__).parents[2] / "policies"
SHIPPED = sorted(path for path in POLICIES.glob("*.yaml") if not path.name.endswith(".test.yaml"))
HEX = DIGEST.removeprefix("sha256:")
ENV = {
    "OPENAI_API_KEY": KEY,
    "OPENAI_EU_API_KEY": KEY,
    "MISTRAL_API_KEY": KEY,
    "TOGETHER_API_KEY": KEY,
    "BANK_KEY_SHA256": HEX,
    "INSURER_KEY_SHA256": HEX[::-1],
    "GAMES_KEY_SHA256": HEX[1:] + "0",
}


def a_price(provider: str, model: str) -> Price | None:
    return Price(input_nano_usd_per_mtok=400_000_000, output_nano_usd_per_mtok=1_600_000_000, source="list")


def test_the_default_policy_fills_the_own_gpus_first_and_spills_to_openai() -> None:
    result = check_policy(POLICIES / "default.yaml", env={"OPENAI_API_KEY": KEY}, price_of=a_price)
    snapshot = result.snapshot
    assert result.warnings == ()
    assert [target.lane for target in snapshot.targets.values()] == [Lane.DEDICATED, Lane.SHARED]
    assert snapshot.targets["local"].urls == ("http://localhost:8000/v1",)
    assert snapshot.targets["openai"].urls == ("https://api.openai.com/v1",)
    for candidates in snapshot.models.values():
        assert [candidate.target.name for candidate in candidates] == ["local", "openai"]
    assert {snapshot.targets["local"].model, snapshot.targets["openai"].model} == set(snapshot.models)
    assert [route.name for route in snapshot.routes] == ["default"]
    assert (snapshot.keys, snapshot.open_to_all) == ({}, False)


def test_the_default_policy_is_short() -> None:
    lines = (POLICIES / "default.yaml").read_text("utf-8").splitlines()
    assert len([line for line in lines if not line.startswith("#")]) <= 20


def test_the_residency_policy_compiles() -> None:
    result = check_policy(POLICIES / "eu-residency.yaml", env=ENV, price_of=a_price)
    assert result.warnings == ()
    eu = result.snapshot.routes[0]
    assert (eu.require.regions, eu.require.retention, eu.lane_override) == (("eu-*",), ("zero",), False)
    assert result.snapshot.models["support"][0].model == "support-lora"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_policy_compiles(path: Path) -> None:
    snapshot = compile_policy(path, env=ENV, price_of=no_price)
    assert snapshot.source == str(path)
    assert len(snapshot.digest) == 64


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_no_secret_is_in_what_a_snapshot_prints(path: Path) -> None:
    assert KEY not in repr(compile_policy(path, env=ENV, price_of=no_price))


def test_a_folder_is_one_policy(tmp_path: Path) -> None:
    (tmp_path / "10-targets.yaml").write_text(two_lanes(""))
    (tmp_path / "20-bank.yaml").write_text(
        f'tenants: {{bank: {{keys: ["{DIGEST}"]}}}}\nroutes: [{{name: bank, match: {{tenant: bank}}}}]\n'
    )
    (tmp_path / "30-rest.yaml").write_text("routes: [{name: rest}]\n")
    snapshot = compile_policy(tmp_path, env={}, price_of=no_price)
    assert [route.name for route in snapshot.routes] == ["bank", "rest"]
    assert set(snapshot.tenants) == {"bank"}


def test_a_mistake_in_a_folder_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "10-targets.yaml").write_text(two_lanes(""))
    (tmp_path / "20-routes.yaml").write_text("routes:\n  - name: rest\n    perfer: cost\n")
    with pytest.raises(PolicyError) as refused:
        compile_policy(tmp_path, env={}, price_of=no_price)
    (problem,) = refused.value.problems
    assert problem.where == f"{tmp_path / '20-routes.yaml'}:3:5"


def test_a_candidate_may_have_another_name_upstream_and_the_price_of_that_name(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        "version: 1\ntargets:\n  api: {lane: shared, provider: bedrock, model: small}\n"
        "models: {s: [api], l: [{target: api, model: large}]}\n"
    )
    prices = {name: Price(input_nano_usd_per_mtok=cost, output_nano_usd_per_mtok=cost) for name, cost in PRICED.items()}
    models = compile_policy(path, env={}, price_of=lambda provider, model: prices[model]).models
    assert [(one.model, one.target.price) for name in ("s", "l") for one in models[name]] == [
        ("small", prices["small"]),
        ("large", prices["large"]),
    ]


PRICED = {"small": 1, "large": 10}


def test_an_unset_variable_is_named_and_nothing_else_is_said_of_it(tmp_path: Path) -> None:
    text = two_lanes("").replace("model: up, region: eu-west-1", 'model: "${MODEL}", region: "${REGION}"')
    assert [problem.message for problem in problems(tmp_path, text)] == [
        "environment variable `MODEL` is not set",
        "environment variable `REGION` is not set",
    ]


def test_a_variable_may_hold_any_value(tmp_path: Path) -> None:
    text = two_lanes("").replace("http://own:8000/v1", "http://${HOST}:8000/v1").replace("region: us", 'region: "${R}"')
    targets = compiled(tmp_path, text, {"HOST": "gpu-1", "R": "us-east-1"}).snapshot.targets
    assert (targets["own"].urls, targets["api"].region) == (("http://gpu-1:8000/v1",), "us-east-1")


def test_compiling_imports_no_framework() -> None:
    """`serve` has a second to its first response; the policy may take a tenth of it."""
    program = "import sys, proxy.policy.compile; print(sorted({'litellm', 'pydantic', 'typer'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


VALID: dict[str, Any] = yaml.safe_load((POLICIES / "eu-residency.yaml").read_text("utf-8"))
ODD = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        1.5,
        10**30,
        "",
        " ",
        "x",
        "*",
        "${OPENAI_API_KEY}",
        "${}",
        "zero",
        "2s",
        "99%",
        [],
        {},
        ["x"],
        {"x": "y"},
    ]
)


def _places(value: object, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside: list[tuple[Any, ...]] = [at]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        inside += _places(inner, (*at, key))
    return inside


def _replace(root: dict[str, Any], at: tuple[Any, ...], change: Callable[[Any, Any], None]) -> None:
    here: Any = root
    for part in at[:-1]:
        here = here[part]
    change(here, at[-1])


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """The residency policy with one to three values replaced, removed, renamed or repeated."""
    root = copy.deepcopy(VALID)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.sampled_from(_places(root)[1:] or [("version",)]))
        odd, how = copy.deepcopy(draw(ODD)), draw(st.sampled_from(["replace", "remove", "rename", "add"]))

        def change(here: Any, key: Any, odd: Any = odd, how: str = how) -> None:
            if how == "remove":
                here.pop(key, None) if isinstance(here, dict) else here.pop(key)
            elif how == "rename" and isinstance(here, dict):
                here[f"{key}x"] = here.pop(key, odd)
            elif how == "add" and isinstance(here, list):
                here.append(copy.deepcopy(here[key]))
            else:
                here[key] = odd

        if at and (root or at == ("version",)):
            _replace(root, at, change)
    return yaml.safe_dump(root, sort_keys=False)


def _lawful(snapshot: Snapshot) -> bool:
    return (
        bool(snapshot.models)
        and all(snapshot.models.values())
        and snapshot.routes[-1].match.catches_all
        and all(target.urls or target.lane is Lane.SHARED for target in snapshot.targets.values())
        and bool(snapshot.keys) == bool(snapshot.tenants)
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(text=mutated())
def test_a_mutated_policy_compiles_or_is_refused_with_places(text: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text, "utf-8")
    try:
        snapshot = compile_policy(path, env=ENV, price_of=no_price)
    except PolicyError as error:
        lines = text.split("\n")
        assert error.problems
        for problem in error.problems:
            assert 1 <= problem.line <= len(lines)
            assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1
            assert problem.hint
            assert KEY not in str(problem)
    else:
        assert _lawful(snapshot)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(at=st.integers(0, 3000), junk=st.text(max_size=3), cut=st.integers(0, 20))
def test_a_damaged_text_compiles_or_is_refused(at: int, junk: str, cut: int, tmp_path: Path) -> None:
    """A truncated write, a slip of the hand, a stray byte."""
    text = (POLICIES / "eu-residency.yaml").read_text("utf-8")
    path = tmp_path / "policy.yaml"
    path.write_bytes((text[:at] + junk + text[at + cut :]).encode("utf-8", "surrogatepass"))
    try:
        snapshot = compile_policy(path, env=ENV, price_of=no_price)
    except PolicyError as error:
        assert error.problems
    else:
        assert _lawful(snapshot)
