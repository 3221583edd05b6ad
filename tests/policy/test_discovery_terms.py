"""Where a policy says that replicas are to be found."""

from __future__ import annotations

from pathlib import Path

import pytest
from proxy.policy.discovery import Discovery, DnsService, KubernetesService
from proxy.policy.gpus import DnsReplicas, KubernetesReplicas
from tests.policy.policies import one_target, problems, target

OWN = "lane: dedicated, engine: vllm, model: up"
GPUS = "gpus: {type: H100, count: 4, usd_per_hour: 2.99"


@pytest.mark.parametrize(
    ("written", "discovery", "stands_for_them"),
    [
        ('dns: "vllm.gpu.svc:8000"', DnsService(host="vllm.gpu.svc", port=8000), "http://vllm.gpu.svc:8000/v1"),
        (
            'dns: "vllm.gpu.svc:8000/openai/v1/"',
            DnsService(host="vllm.gpu.svc", port=8000, path="/openai/v1"),
            "http://vllm.gpu.svc:8000/openai/v1",
        ),
        (
            "kubernetes: {service: vllm, namespace: gpu, port: 8000}",
            KubernetesService(service="vllm", namespace="gpu", port=8000),
            "http://vllm.gpu.svc:8000/v1",
        ),
        (
            'kubernetes: {service: vllm, namespace: gpu, port: http-api, path: "/"}',
            KubernetesService(service="vllm", namespace="gpu", port="http-api", path=""),
            "http://vllm.gpu.svc:80",
        ),
        (
            "kubernetes: {service: vllm, namespace: gpu}",
            KubernetesService(service="vllm", namespace="gpu"),
            "http://vllm.gpu.svc:80/v1",
        ),
    ],
)
def test_until_replicas_are_found_their_service_stands_for_them(
    written: str, discovery: Discovery, stands_for_them: str, tmp_path: Path
) -> None:
    found = target(tmp_path, f"lane: dedicated, model: up, {written}")
    assert found.discovery == discovery
    assert found.urls == (stands_for_them,)


def test_replicas_that_are_found_are_counted_at_the_same_place(tmp_path: Path) -> None:
    by_name = target(tmp_path, f'{OWN}, dns: "vllm.gpu.svc:8000", {GPUS}}}')
    assert by_name.gpus is not None
    assert by_name.gpus.replicas == DnsReplicas(host="vllm.gpu.svc")
    service = "kubernetes: {service: vllm, namespace: gpu}"
    asked = target(tmp_path, f"{OWN}, {service}, {GPUS}, reserved: {{replicas: 3, usd_per_hour: 1}}}}")
    assert asked.gpus is not None
    assert asked.gpus.replicas == KubernetesReplicas(service="vllm", namespace="gpu")
    stated = target(tmp_path, f"{OWN}, {service}, {GPUS}, replicas: 2}}")
    assert stated.gpus is not None
    assert stated.gpus.replicas == 2


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (f'{OWN}, url: "http://h:1/v1", dns: "h:1"', ["both `url` and `dns`"]),
        (
            f'{OWN}, dns: "h:1", kubernetes: {{service: vllm, namespace: gpu}}, urls: ["http://h:1/v1"]',
            ["both `urls` and `dns`", "both `urls` and `kubernetes`"],
        ),
        (
            'lane: shared, url: "https://api.example.com/v1", model: m, dns: "h:1"',
            ["`dns` does not fit a shared target", "both `url` and `dns`"],
        ),
        (f'{OWN}, dns: "vllm.gpu.svc"', ["not a name and a port: `vllm.gpu.svc`"]),
        (f'{OWN}, dns: "h:0"', ["not a name and a port: `h:0`"]),
        (f'{OWN}, dns: "h:65536"', ["not a name and a port: `h:65536`"]),
        (f'{OWN}, dns: "http://h:1"', ["not a name and a port: `http://h:1`"]),
        (f'{OWN}, dns: "h:1/../admin"', None),
        (f"{OWN}, kubernetes: {{service: vllm, namespace: gpu, port: 0}}", ["not a port: `0`"]),
        (f"{OWN}, kubernetes: {{service: vllm, namespace: gpu, port: true}}", None),
        (f"{OWN}, kubernetes: {{service: vllm, namespace: gpu, port: a--very-long-name}}", None),
        (f'{OWN}, kubernetes: {{service: vllm, namespace: gpu, path: "v1"}}', ["not the path of an api: `v1`"]),
        (f'{OWN}, kubernetes: {{service: vllm, namespace: gpu, path: "/v1?x"}}', ["not the path of an api: `/v1?x`"]),
        (f"{OWN}, kubernetes: {{service: vllm}}", ["`namespace` is missing in `targets.it.kubernetes`"]),
        (f'{OWN}, kubernetes: {{service: "a/b", namespace: gpu}}', ["not a name in Kubernetes: `a/b`"]),
    ],
)
def test_what_is_no_such_place_is_refused(keys: str, said: list[str] | None, tmp_path: Path) -> None:
    found = [problem.message for problem in problems(tmp_path, one_target(keys))]
    assert sorted(found) == sorted(said) if said is not None else len(found) == 1
