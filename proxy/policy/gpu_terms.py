"""Compiles `gpus`: on what terms a target's GPUs are had, and how their number is known."""

from __future__ import annotations

from proxy.policy import times
from proxy.policy.checks import Check
from proxy.policy.discovery import Discovery
from proxy.policy.discovery_terms import counted_by
from proxy.policy.document import Loc
from proxy.policy.findings import Findings
from proxy.policy.gpus import DnsReplicas, Gpus, KubernetesReplicas, ReplicaSource, TimedPrice, Tranche
from proxy.policy.schedule import Schedule
from proxy.policy.schema import GpusSpec, ReplicasSpec, TimedPriceSpec, TrancheSpec

_SOURCES = ("count", "dns", "kubernetes")
_HINT = "write `replicas: 3`, `{dns: vllm.inference.svc}` or `{kubernetes: {service: vllm, namespace: inference}}`"


def compile_gpus(
    loc: Loc, spec: GpusSpec, urls: tuple[str, ...], discovery: Discovery | None, findings: Findings
) -> Gpus:
    """The GPUs that stand at `loc`, of a target with these `urls`, or whose replicas are found."""
    listed = len(urls) if discovery is None else 0
    replicas: int | ReplicaSource | None = counted_by(discovery)
    if spec.replicas is not None:
        replicas = _replicas((*loc, "replicas"), spec.replicas, listed, findings)
    reserved = _tranche(spec.reserved)
    known = listed if replicas is None else replicas
    if reserved is not None and isinstance(known, int) and reserved.replicas > known > 0:
        message = f"of {reserved.replicas} reserved replicas the target has {known}: the others are paid for nothing"
        hint = "give the target all that is paid for, or reserve fewer"
        findings.warning(Check.UNUSED_GPUS, (*loc, "reserved", "replicas"), message, hint)
    return Gpus(
        type=spec.type,
        count=spec.count,
        nano_usd_per_hour=spec.usd_per_hour,
        reserved=reserved,
        spot=_tranche(spec.spot),
        schedule=tuple(
            _timed((*loc, "schedule", index), item, findings) for index, item in enumerate(spec.schedule or ())
        ),
        replicas=replicas,
    )


def _tranche(spec: TrancheSpec | None) -> Tranche | None:
    return None if spec is None else Tranche(replicas=spec.replicas, nano_usd_per_hour=spec.usd_per_hour)


def _timed(loc: Loc, spec: TimedPriceSpec, findings: Findings) -> TimedPrice:
    schedule = times.schedule(spec.days, spec.hours, spec.zone)
    if schedule == Schedule(zone=spec.zone):
        hint = "give it `days` or `hours`, or make it the `usd_per_hour` of all the GPUs"
        findings.problem(loc, "a scheduled price that always holds", hint, check=Check.CONTRADICTION)
    return TimedPrice(schedule=schedule, nano_usd_per_hour=spec.usd_per_hour)


def _replicas(loc: Loc, spec: ReplicasSpec, urls: int, findings: Findings) -> int | ReplicaSource | None:
    given = [name for name in _SOURCES if getattr(spec, name) is not None]
    if not given:
        findings.problem(loc, "nothing says how many replicas there are", _HINT, check=Check.MISSING_KEY)
    for name in given[1:]:
        message = f"both `{given[0]}` and `{name}`"
        findings.problem((*loc, name), message, "keep one of them", key=True, check=Check.CONTRADICTION)
    if spec.count is not None and spec.count < urls:
        message = f"fewer replicas than the target has urls, {urls}"
        hint = "leave `replicas` out where each url is one replica"
        findings.problem(loc, message, hint, check=Check.CONTRADICTION)
    if spec.dns is not None:
        return DnsReplicas(host=spec.dns)
    if spec.kubernetes is not None:
        return KubernetesReplicas(service=spec.kubernetes.service, namespace=spec.kubernetes.namespace)
    return spec.count
