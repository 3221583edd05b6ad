"""Every scenario of `helm/ci` lints, renders as it did, and is what Kubernetes and the operators take.

What is rendered is kept in `rendered/`, to be read in reviews. Renew it with: python -m tests.helm.renew
"""

from __future__ import annotations

import functools
import json
import re
import shutil
from pathlib import Path

import jsonschema
import kubernetes_validate
import kubernetes_validate.utils
import pytest
from tests.helm import chart
from tests.helm.chart import SCENARIOS, Manifest

HERE = Path(__file__).parent
VERSIONS = ("1.32", "1.35", "1.37")
CRDS = {
    (schema["properties"]["apiVersion"]["const"], schema["properties"]["kind"]["const"]): schema
    for schema in (json.loads(path.read_text()) for path in sorted((HERE / "crds").glob("*.json")))
}


# Each validation would read the megabyte of its version's definitions anew.
kubernetes_validate.utils.schema_contents = functools.cache(kubernetes_validate.utils.schema_contents)


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


def test_a_cluster_without_the_sleep_of_prestop_is_refused() -> None:
    with pytest.raises(chart.NotRendered, match=r"requires kubeVersion: >=1\.30\.0-0"):
        chart.template("--kube-version", "1.29.9")
    # Versions of clouds have something after them.
    assert chart.template("--kube-version", "1.31.2-eks-7f9249a") == chart.template("--kube-version", "v1.34.1-gke.100")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_is_told_after_an_installation(scenario: str, tmp_path: Path) -> None:
    """Helm itself shows it only where there is a cluster, so here it is rendered as a ConfigMap of a copy."""
    copy = tmp_path / "chart"
    shutil.copytree(chart.CHART, copy)
    notes = (copy / "templates" / "NOTES.txt").read_text()
    (copy / "templates" / "_notes.tpl").write_text('{{- define "notes" -}}\n' + notes + "{{- end -}}\n")
    (copy / "templates" / "notes.yaml").write_text('notes: {{ include "notes" . | toJson }}\n')
    options = ("--namespace", chart.NAMESPACE, "-f", str(chart.values_file(scenario)), "-s", "templates/notes.yaml")
    told = chart.parsed(chart.helm("template", chart.RELEASE, str(copy), *options))[0]["notes"]
    found = chart.manifests(scenario)
    service = chart.one_of(found, "Service", "proxy")
    name, port = service["metadata"]["name"], service["spec"]["ports"][0]["port"]
    assert f"OPENAI_BASE_URL=http://{name}.{chart.NAMESPACE}.svc:{port}/v1" in told
    assert f"svc/{name}-admin 9090:9090" in told
    tenant = {"policy-files": "bank", "existing-configmap": "TENANT"}.get(scenario, "apps")
    assert f"spillway keys create {tenant}/first" in told
    walled = bool(chart.of_kind(found, "NetworkPolicy", "proxy"))
    assert ("WARNING: one wall only stands around your data" in told) == (not walled)
    assert "secretKeyRef" not in told
    assert ("simulated" in told) == bool(chart.of_kind(found, "Deployment", "simulator"))
    assert ("`adminToken.existingSecret`" in told) == ("SPILLWAY_ADMIN_TOKEN" not in chart.text(scenario))
    for kind in ("Ingress", "HTTPRoute"):
        assert ("https://llm.example.com/v1" in told) >= bool(chart.of_kind(found, kind))


def test_no_manifest_stands_twice() -> None:
    for scenario in SCENARIOS:
        named = [
            (one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"])
            for one in chart.manifests(scenario)
        ]
        assert len(named) == len(set(named)), scenario


def test_the_readmes_examples_are_values(tmp_path: Path) -> None:
    """Those of the chart's own README."""
    examples = re.findall(r"```yaml\n(.*?)```", (chart.CHART / "README.md").read_text(), re.DOTALL)
    values = [chart.parsed(one)[0] for one in examples if not one.startswith("externalRules")]
    assert len(values) == len(examples) - 1 == 1
    found = chart.given(values[0], tmp_path)
    (scaled,) = chart.of_kind(found, "ScaledObject")
    assert (scaled["metadata"]["namespace"], problems(scaled)) == ("inference", [])
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["metadata"]["query"] == values[0]["dedicatedAutoscaling"][0]["query"]
    usual = [
        one["spec"]["triggers"][0]["metadata"]["query"]
        for one in chart.of_kind(chart.manifests("keda"), "ScaledObject")
    ]
    assert 'max(spillway_replicas_needed{target="llama-eu"})' in usual


def test_one_manifest_a_file() -> None:
    templates = chart.CHART / "templates"
    for path in sorted(templates.rglob("*.yaml")):
        kinds = [line for line in path.read_text().splitlines() if line.startswith("kind: ")]
        assert len(kinds) == (0 if path.name == "extraobjects.yaml" else 1), path.name
