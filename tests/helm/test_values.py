"""values.yaml, its schema and its table belong together, and a wrong value is named where it stands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml
from tests.helm import chart, readme_table
from tests.helm.chart import CHART, NotRendered

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
STORE = {"valkey": {"enabled": False}}

WRONG = [
    ({"replicas": 3}, "Additional property replicas is not allowed"),
    ({"replicaCount": "three"}, "replicaCount: Invalid type"),
    ({"commonLabels": {"app.kubernetes.io/name": "x"}}, "commonLabels: Property name of"),
    ({"podLabels": {"app.kubernetes.io/instance": "x"}}, "podLabels: Property name of"),
    ({"valkey": {"podLabels": {"app.kubernetes.io/component": "x"}}}, "valkey.podLabels: Property name of"),
    ({"otel": {"endpoint": "collector:4317"}}, "otel.endpoint: Does not match pattern"),
    ({"otel": {"endpoint": "https://user:pass@collector:4318"}}, "otel.endpoint: Does not match pattern"),
    ({"otel": {"resourceAttributes": {"team": "a,b=c"}}}, "otel.resourceAttributes.team: Does not match pattern"),
    ({"metrics": {"prometheusRule": {"runbookUrl": "README.md"}}}, "metrics.prometheusRule.runbookUrl: Does not match"),
    ({"image": {"tga": "1"}}, "image: Additional property tga"),
    ({"image": {"tag": "a b"}}, "image.tag: Does not match pattern"),
    ({"image": {"digest": "sha256:12"}}, "image.digest: Does not match pattern"),
    ({"policy": {"text": "version: 1", "existingConfigMap": "mine"}}, "policy.existingConfigMap: String length"),
    ({"policy": {"files": {"a.yaml": "x"}, "text": "version: 1"}}, "policy.files: Must have at most 0"),
    ({"policy": {"files": {"notes.txt": "x"}}}, 'Property name of "notes.txt" does not match'),
    ({"policy": {"keySecrets": ["Bank_CI"]}}, "policy.keySecrets.0: Does not match pattern"),
    ({"policy": {"reach": {"urls": ["vllm:8000"]}}}, "policy.reach.urls.0: Does not match pattern"),
    ({"policy": {"reach": {"scales": [{"namespace": "a"}]}}}, "policy.reach.scales.0: Must validate one"),
    ({"providerKeys": {"OPENAI_API_KEY": "sk-1"}}, "providerKeys: Additional property OPENAI_API_KEY"),
    ({"adminToken": {"token": "hush"}}, "adminToken: Additional property token"),
    ({"redis": {"external": {"url": "redis://host:6379"}}}, "redis.external.url: String length"),
    (STORE, "redis.external.url: String length must be greater"),
    ({**STORE, "redis": {"external": {"url": "redis://u:pw@host"}}}, "redis.external.url: Does not match pattern"),
    ({**STORE, "redis": {"external": {"url": "http://host"}}}, "redis.external.url: Does not match pattern"),
    (
        {**STORE, "redis": {"external": {"url": "redis://a", "existingSecret": "b"}}},
        "redis.external.url: String length",
    ),
    ({"autoscaling": {"type": "both"}}, "autoscaling.type: autoscaling.type must be one of"),
    ({"autoscaling": {"type": "hpa", "targetCPUUtilizationPercentage": 0}}, "autoscaling.targetInFlight: Must be"),
    ({"autoscaling": {"minReplicas": 0}}, "autoscaling.minReplicas: Must be greater"),
    ({"dedicatedAutoscaling": [{"target": "a", "min": 0, "max": 1}]}, "dedicatedAutoscaling.0: Must validate one"),
    ({"rollout": {"terminationGracePeriodSeconds": "10m"}}, "rollout.terminationGracePeriodSeconds: Invalid type"),
    ({"resources": {"limits": None}}, "resources: limits is required"),
    ({"service": {"port": 99999}}, "service.port: Must be less"),
    ({"service": {"type": "clusterip"}}, "service.type: service.type must be one of"),
    ({"metrics": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}}, "metrics.podMonitor.enabled"),
    ({"networkPolicy": {"providerCidrs": ["10.0.0.1"]}}, "networkPolicy.providerCidrs.0: Does not match pattern"),
    ({"networkPolicy": {"apiServerCidrs": []}}, "networkPolicy.apiServerCidrs: Array must have at least 1"),
    ({"networkPolicy": {"apiServerPorts": []}}, "networkPolicy.apiServerPorts: Array must have at least 1"),
    ({"networkPolicy": {"privateCidrs": []}}, "networkPolicy.privateCidrs: Array must have at least 1"),
    ({"networkPolicy": {"dns": []}}, "networkPolicy.dns: Array must have at least 1"),
    ({"ingress": {"enabled": True}}, "ingress.hosts: Array must have at least 1"),
    ({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs: Array must have at least 1"),
    ({"extraEnv": [{"value": "x"}]}, "extraEnv.0: name is required"),
    ({"extraEnv": {"A": "b"}}, "extraEnv: Invalid type"),
]
"""Values, and what is said of them."""

UNFIT = [
    ({"rollout": {"terminationGracePeriodSeconds": 30, "preStopSleepSeconds": 20}}, "rollout.terminationGracePeriod"),
    ({"policy": {"text": "targets: {a: [}"}}, "policy file `policy.yaml` is not YAML"),
    ({"policy": {"text": "version: 1"}}, "policy: it has no `tenants`, so pods would refuse to listen"),
    ({"policy": {"text": "auth: none\ntargets: {a: }"}}, "policy: target `a` is no mapping"),
    (
        {
            "networkPolicy": {"enabled": True, "privateCidrs": ["169.254.0.0/16", "fe80::/10"]},
            "policy": {"text": "auth: none\ntargets: {a: {url: 'http://gpu.corp.internal:8000/v1'}}"},
        },
        "`privateCidrs` or `apiServerCidrs`, and that list",
    ),
    (
        {
            "serviceAccount": {"create": False},
            "policy": {"text": "auth: none\ntargets: {a: {kubernetes: {service: s, namespace: n}}}"},
        },
        "serviceAccount.name: the policy asks the API server, and `default` is every pod's",
    ),
    (
        {"policy": {"text": "auth: none\ntargets: {a: {kubernetes: {service: s, namespace: '${NS}'}}}"}},
        "policy: which one does target `a` mean by `${NS}`?",
    ),
    (
        {"policy": {"text": "auth: none\ntargets: {a: {wake: {kubernetes: {deployment: '${D}', namespace: n}}}}"}},
        "policy: which one does target `a` mean by `${D}`?",
    ),
    (
        {"networkPolicy": {"enabled": True}, "policy": {"text": "auth: none\ntargets: {a: {url: '${URL}'}}"}},
        "networkPolicy: where does target `a`: `${URL}` lead?",
    ),
    ({"networkPolicy": {"enabled": True}, "policy": {"existingConfigMap": "a"}}, "policy.reach.urls: the chart cannot"),
    (
        {**STORE, "networkPolicy": {"enabled": True}, "redis": {"external": {"existingSecret": "a"}}},
        "redis.external.hosts: the network policy",
    ),
    (
        {
            "networkPolicy": {"enabled": True, "cilium": {"enabled": True}},
            "policy": {"text": "auth: none\ntargets: {a: {lane: shared, provider: bedrock}}"},
        },
        "networkPolicy.cilium.extraFQDNs: the policy has a provider",
    ),
]
"""What no schema can say."""


@pytest.mark.parametrize(("values", "said"), WRONG + UNFIT, ids=[said for _, said in WRONG + UNFIT])
def test_a_wrong_value_is_named(values: dict[str, Any], said: str, tmp_path: Any) -> None:
    with pytest.raises(NotRendered) as refused:
        chart.given(values, tmp_path)
    assert said in str(refused.value)


def test_the_schema_is_one_and_closed() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"
    shapes = [one for one in walked(SCHEMA) if one.get("type") == "object" and "properties" in one]
    assert len(shapes) > 30
    assert [one for one in shapes if one.get("additionalProperties") is not False] == []


def walked(schema: object) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from walked(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from walked(value)


def test_the_schema_and_the_values_have_the_same_keys() -> None:
    """`global` is Helm's own, for charts that have this one among others."""
    assert list(differing(VALUES, {**SCHEMA, "properties": {**SCHEMA["properties"], "global": None}})) == ["global"]


def differing(values: object, schema: Any, path: str = "") -> Iterator[str]:
    """Paths that only one of them has, as far down as the schema is closed. Fields of probes may be left out."""
    if not isinstance(values, dict) or not isinstance(schema, dict) or "properties" not in schema:
        return
    if path.endswith("Probe"):
        return
    for key in values.keys() ^ schema["properties"].keys():
        yield f"{path}.{key}".lstrip(".")
    for key in values.keys() & schema["properties"].keys():
        yield from differing(values[key], schema["properties"][key], f"{path}.{key}")


def test_the_table_is_up_to_date() -> None:
    assert readme_table.renewed() == readme_table.README.read_text(), "python -m tests.helm.renew"


def test_every_value_has_a_row() -> None:
    rows = {key for key, _, _ in readme_table.rows((CHART / "values.yaml").read_text())}
    assert [path for path in leaves(VALUES) if not any(path == row or path.startswith(f"{row}.") for row in rows)] == []
    assert len(rows) > 100


def leaves(values: dict[str, Any], above: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{above}{key}.")
        else:
            yield above + key


def test_the_chart_reads_every_value() -> None:
    """A value that no template mentions would do nothing."""
    templates = "".join(path.read_text() for path in (CHART / "templates").rglob("*") if path.is_file())
    words = {word for key, _, _ in readme_table.rows((CHART / "values.yaml").read_text()) for word in key.split(".")}
    assert sorted(word for word in words if f".{word}" not in templates) == []
