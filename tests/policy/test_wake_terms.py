"""Whom a policy names to be told that a sleeping deployment has work."""

from __future__ import annotations

from pathlib import Path

import pytest
from proxy.policy.wake import HttpWake, KubernetesWake, Wake, WakeMethod, Workload
from tests.policy.policies import compiled, one_target, problems, target

OWN = 'lane: dedicated, url: "http://own:8000/v1", model: up'


@pytest.mark.parametrize(
    ("written", "wake"),
    [
        ('{url: "https://up.example/own"}', HttpWake(url="https://up.example/own", method=WakeMethod.POST)),
        ('{url: "http://up:80/a/", method: GET}', HttpWake(url="http://up:80/a/", method=WakeMethod.GET)),
        ('{url: "${HOOK}"}', HttpWake(url="https://up.example/models")),
        (
            "{kubernetes: {deployment: vllm, namespace: gpu}}",
            KubernetesWake(workload=Workload.DEPLOYMENT, name="vllm", namespace="gpu", replicas=1),
        ),
        (
            "{kubernetes: {statefulset: vllm, namespace: gpu, replicas: 3}}",
            KubernetesWake(workload=Workload.STATEFULSET, name="vllm", namespace="gpu", replicas=3),
        ),
    ],
)
def test_who_is_told(written: str, wake: Wake, tmp_path: Path) -> None:
    text = one_target(f"{OWN}, wake: {written}")
    assert compiled(tmp_path, text, {"HOOK": "https://up.example/models"}).snapshot.targets["it"].wake == wake


def test_nobody_is_told_where_nothing_is_said(tmp_path: Path) -> None:
    assert target(tmp_path, OWN).wake is None


def test_all_that_does_not_fit_is_told_at_once(tmp_path: Path) -> None:
    both = "url: https://up.example/own, method: PUT, kubernetes: {deployment: a, statefulset: b, namespace: gpu}"
    found = problems(tmp_path, one_target(f"{OWN}, wake: {{{both}}}"))
    assert [one.message for one in found] == [
        "both `kubernetes` and `url`",
        "both `kubernetes` and `method`",
        "both `deployment` and `statefulset`",
    ]
