"""How a dedicated deployment that sleeps is woken: the request that tells whoever scales it that there is work."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class WakeMethod(StrEnum):
    """The methods of HTTP that may wake somebody."""

    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    GET = "GET"


class Workload(StrEnum):
    """What Kubernetes scales, by the key that names one."""

    DEPLOYMENT = "deployment"
    STATEFULSET = "statefulset"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpWake:
    """One HTTP request with an empty body; any answer of 2xx says that it was heard."""

    url: str
    method: WakeMethod = WakeMethod.POST


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesWake:
    """The workload `name` is scaled up to `replicas`, and never down."""

    workload: Workload
    name: str
    namespace: str
    replicas: int = 1


Wake = HttpWake | KubernetesWake
