"""Names that are looked up in the DNS or in a cluster: what is read, and what is refused."""

from __future__ import annotations

import pytest
from proxy.policy.hosts import dns_name, kubernetes_name
from proxy.policy.problem import Mistake


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("vllm", "vllm"),
        ("vllm.inference.svc.cluster.local", "vllm.inference.svc.cluster.local"),
        ("vllm.inference.svc:8000", "vllm.inference.svc"),
        ("vllm.example.com.", "vllm.example.com."),
    ],
)
def test_a_name_in_the_dns_loses_its_port(written: str, name: str) -> None:
    assert dns_name(written) == name


@pytest.mark.parametrize(
    "written", ["http://vllm", "vllm/x", "-vllm", "VLLM", "a..b", "vllm:", "a" * 64, "vllm:123456"]
)
def test_what_is_no_such_name_is_refused(written: str) -> None:
    with pytest.raises(Mistake, match="not a name in the DNS"):
        dns_name(written)


@pytest.mark.parametrize("written", ["a/../b", "a.b", "a_b", "A", "a-", "a" * 64, "a?b"])
def test_nothing_that_would_change_a_path_is_a_name_in_kubernetes(written: str) -> None:
    assert kubernetes_name("vllm-0") == "vllm-0"
    with pytest.raises(Mistake, match="not a name in Kubernetes"):
        kubernetes_name(written)
