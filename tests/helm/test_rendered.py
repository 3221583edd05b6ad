"""Every scenario of `helm/ci` lints, renders as it did, and is what Kubernetes and the operators take.

What is rendered is kept in `rendered/`, to be read in reviews. Renew it with: python -m tests.helm.renew
"""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
from tests.helm import chart
from tests.helm.chart import SCENARIOS, Manifest

HERE = Path(__file__).parent
VERSIONS = ("1.32", "1.35", "1.37")
CRDS = {
    (schema["properties"]["apiVersion"]["const"], schema["properties"]["kind"]["const"]): schema
    for schema in (json.loads(path.read_text()) for path in sorted((HERE / "crds").glob("*.json")))
}


def test_there_are_scenarios() -> None:
    assert len(SCENARIOS) >= 12
    assert sorted(path.stem for path in (HERE / "rendered").glob("*.yaml")) == SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_it_lints(scenario: str) -> None:
    said = chart.helm("lint", "--strict", str(chart.CHART), "-f", str(chart.values_file(scenario)))
    assert "1 chart(s) linted, 0 chart(s) failed" in said


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_it_renders_as_it_did(scenario: str) -> None:
    before = (HERE / "rendered" / f"{scenario}.yaml").read_text()
    assert chart.kept(scenario) == before, "as it should be? python -m tests.helm.renew"


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_kubernetes_and_the_operators_take_it(scenario: str) -> None:
    assert [problem for one in chart.manifests(scenario) for problem in problems(one)] == []


def problems(manifest: Manifest) -> list[str]:
    """What three versions of Kubernetes, or the operator that a kind belongs to, would say of it."""
    schema = CRDS.get((manifest["apiVersion"], manifest["kind"]))
    name = f"{manifest['kind']}/{manifest['metadata']['name']}"
    if schema is not None:
        errors = jsonschema.Draft202012Validator(schema).iter_errors(manifest)
        return [f"{name}: {error.json_path}: {error.message}" for error in errors]
    found = []
    for version in VERSIONS:
        try:
            assert kubernetes_validate.validate(manifest, version, strict=True) == version
        except kubernetes_validate.ValidationError as error:
            found.append(f"{name}: Kubernetes {version}: {list(error.path)}: {error.message}")
    return found


def test_what_is_wrong_would_be_found() -> None:
    deployment = json.loads(json.dumps(chart.one_of(chart.manifests("default"), "Deployment")))
    deployment["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    assert len(problems(deployment)) == len(VERSIONS)
    for scenario, kind in (
        ("monitoring", "ServiceMonitor"),
        ("monitoring", "PrometheusRule"),
        ("pod-monitor", "PodMonitor"),
        ("keda", "ScaledObject"),
        ("gateway", "HTTPRoute"),
        ("cilium", "CiliumNetworkPolicy"),
    ):
        manifest = json.loads(json.dumps(chart.of_kind(chart.manifests(scenario), kind)[0]))
        assert problems(manifest) == []
        manifest["spec"]["nope"] = 1
        assert len(problems(manifest)) == 1, kind
        manifest["spec"] = 1
        assert len(problems(manifest)) == 1, kind


def test_no_manifest_stands_twice() -> None:
    for scenario in SCENARIOS:
        named = [
            (one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"])
            for one in chart.manifests(scenario)
        ]
        assert len(named) == len(set(named)), scenario


def test_one_manifest_a_file() -> None:
    templates = chart.CHART / "templates"
    for path in sorted(templates.rglob("*.yaml")):
        kinds = [line for line in path.read_text().splitlines() if line.startswith("kind: ")]
        assert len(kinds) == (0 if path.name == "extraobjects.yaml" else 1), path.name
