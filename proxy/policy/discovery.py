"""Where the replicas of a dedicated target are listed, when the policy does not list them itself."""

from __future__ import annotations

from dataclasses import dataclass

API_ROOT = "/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsService:
    """One replica at each address of `host`, a headless Service; all listen on `port` and have their API at `path`."""

    host: str
    port: int
    path: str = API_ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesService:
    """One replica for each ready endpoint of a Service. `port` is its number or name there; None is its only one."""

    service: str
    namespace: str
    port: int | str | None = None
    path: str = API_ROOT


Discovery = DnsService | KubernetesService


def replica_url(address: str, port: int, path: str) -> str:
    """The base URL of the replica at an IP address of either family."""
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}:{port}{path}"
