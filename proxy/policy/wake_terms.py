"""Reads and compiles `wake`: whom to tell that a deployment which sleeps has work, over HTTP or through Kubernetes."""

# ruff: noqa: RUF009 - `key()` is `dataclasses.field()` with a reader in it

from __future__ import annotations

from dataclasses import dataclass

from proxy.policy import hosts, units, urls, words
from proxy.policy.checks import Check
from proxy.policy.document import Loc
from proxy.policy.findings import Findings
from proxy.policy.shape import key, one, shaped
from proxy.policy.wake import HttpWake, KubernetesWake, Wake, WakeMethod, Workload

_HINT = "write `{url: https://...}`, or `{kubernetes: {deployment: vllm, namespace: inference}}`"
_WORKLOADS = (Workload.DEPLOYMENT, Workload.STATEFULSET)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledSpec:
    """A workload of Kubernetes, and the scale that it is brought to."""

    namespace: str = key(one(hosts.kubernetes_name), hint="write `namespace:` and the namespace that it is in")
    deployment: str | None = key(one(hosts.kubernetes_name), default=None)
    statefulset: str | None = key(one(hosts.kubernetes_name), default=None)
    replicas: int = key(one(units.count), default=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeSpec:
    """Who is told that there is work."""

    url: str | None = key(one(urls.hook_url), default=None)
    method: WakeMethod | None = key(one(words.one_of(WakeMethod)), default=None)
    kubernetes: ScaledSpec | None = key(shaped(ScaledSpec), default=None)


def compile_wake(loc: Loc, spec: WakeSpec, findings: Findings) -> Wake | None:
    """What stands at `loc`; None where it does not fit together, which `findings` then says."""
    if spec.kubernetes is not None:
        for name in ("url", "method"):
            if getattr(spec, name) is not None:
                message = f"both `kubernetes` and `{name}`"
                findings.problem((*loc, name), message, "keep one of them", key=True, check=Check.CONTRADICTION)
        return _scaled((*loc, "kubernetes"), spec.kubernetes, findings)
    if spec.url is None:
        findings.problem(loc, "nothing says whom to wake", _HINT, check=Check.MISSING_KEY)
        return None
    return HttpWake(url=spec.url, method=spec.method or WakeMethod.POST)


def _scaled(loc: Loc, spec: ScaledSpec, findings: Findings) -> KubernetesWake | None:
    given = {kind: name for kind in _WORKLOADS if (name := getattr(spec, kind.value)) is not None}
    if not given:
        hint = "write `deployment:` or `statefulset:` and its name"
        findings.problem(loc, "nothing says what to scale", hint, check=Check.MISSING_KEY)
        return None
    workload, *others = given
    for other in others:
        message = f"both `{workload}` and `{other}`"
        findings.problem((*loc, other.value), message, "keep one of them", key=True, check=Check.CONTRADICTION)
    return KubernetesWake(workload=workload, name=given[workload], namespace=spec.namespace, replicas=spec.replicas)
