"""Reads and compiles `dns` and `kubernetes`: the Service behind which a target's replicas are found.

Theory of operation
-------------------
Pods come and go, so a policy names the Service and the proxy finds out who is behind it (`proxy/discovery`). Wherever
nobody has found out yet - in a check, a test, an explanation, in the first moments of a process - the Service itself
stands for its replicas, as one: its name resolves to one of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from proxy.policy import hosts
from proxy.policy.checks import Check
from proxy.policy.discovery import API_ROOT, Discovery, DnsService, KubernetesService, replica_url
from proxy.policy.document import Loc
from proxy.policy.findings import Findings
from proxy.policy.gpus import DnsReplicas, KubernetesReplicas, ReplicaSource
from proxy.policy.problem import Mistake
from proxy.policy.shape import key, one
from proxy.policy.variables import shown
from proxy.policy.words import text

PLACES = ("url", "urls", "dns", "kubernetes")
"""The keys of a target that say where it is; one of them does."""

HTTP_PORT = 80
"""Of a Service whose port has a name, until somebody has found out its number."""

PATH = r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*"
PORT_NAME = r"(?=[a-z0-9-]*[a-z])[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?"
DNS = rf"(?P<host>{hosts.NAME}):(?P<port>[0-9]{{1,5}})(?P<path>{PATH})/?"
_DNS = re.compile(DNS)
_PATH = re.compile(rf"({PATH})/?")
_PORT_NAME = re.compile(PORT_NAME)


def dns_service(value: object) -> DnsService:
    """`vllm.inference.svc:8000`, and the path of the API behind it where that is not `/v1`."""
    written = text(value)
    match = _DNS.fullmatch(written)
    if match is None or not 0 < int(match["port"]) < 2**16:
        hint = "write the headless Service's: `vllm.inference.svc:8000`"
        raise Mistake(f"not a name and a port: {shown(value)}", hint)
    return DnsService(host=match["host"], port=int(match["port"]), path=match["path"] or API_ROOT)


def port(value: object) -> int | str:
    """The number of a port, or the name that a Service gives it."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**16:
        return value
    written = text(value) if isinstance(value, str) else ""
    if written.isdecimal() and 0 < int(written) < 2**16:
        return int(written)
    if not _PORT_NAME.fullmatch(written):
        raise Mistake(f"not a port: {shown(value)}", "write its number, or its name in the Service: `http`")
    return written


def api_path(value: object) -> str:
    """The path of an API on its host, without a slash at its end."""
    match = _PATH.fullmatch(text(value))
    if match is None:
        raise Mistake(f"not the path of an api: {shown(value)}", "write `path: /v1`")
    return match[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec:
    """A Service of Kubernetes, whose ready endpoints are replicas."""

    service: str = key(one(hosts.kubernetes_name), hint="write `service:` and the name of the Service")
    namespace: str = key(one(hosts.kubernetes_name), hint="write `namespace:` and the namespace that it is in")
    port: int | str | None = key(one(port), default=None)
    path: str = key(one(api_path), default=API_ROOT)


def compile_discovery(dns: DnsService | None, kubernetes: ServiceSpec | None) -> Discovery | None:
    """Where replicas are found; None where the policy lists them."""
    if kubernetes is None:
        return dns
    return KubernetesService(
        service=kubernetes.service, namespace=kubernetes.namespace, port=kubernetes.port, path=kubernetes.path
    )


def check_places(loc: Loc, given: Iterable[str], findings: Findings) -> None:
    """Note that more than one of `PLACES` says where the target at `loc` is."""
    first, *others = given
    for other in others:
        message = f"both `{first}` and `{other}`"
        findings.problem((*loc, other), message, "keep one of them", key=True, check=Check.CONTRADICTION)


def service_url(discovery: Discovery) -> str:
    """The base URL of the Service itself."""
    if isinstance(discovery, DnsService):
        return replica_url(discovery.host, discovery.port, discovery.path)
    port = discovery.port if isinstance(discovery.port, int) else HTTP_PORT
    return replica_url(f"{discovery.service}.{discovery.namespace}.svc", port, discovery.path)


def counted_by(discovery: Discovery | None) -> ReplicaSource | None:
    """Who counts the replicas that are paid for: those that are not ready cost as much."""
    if isinstance(discovery, DnsService):
        return DnsReplicas(host=discovery.host)
    if isinstance(discovery, KubernetesService):
        return KubernetesReplicas(service=discovery.service, namespace=discovery.namespace)
    return None
