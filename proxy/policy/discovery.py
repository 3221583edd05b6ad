"""Where the replicas of a dedicated target are listed, when the policy does not; and what replicas are called."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2s

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


def replica_key(target: str, url: str) -> str:
    """What proxies call a replica among themselves: its place in a list may differ, and where it is is nobody's."""
    return f"{target}/{blake2s(url.encode(), digest_size=4).hexdigest()}"


def replica_url(address: str, port: int, path: str) -> str:
    """The base URL of the replica at an IP address of either family."""
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}:{port}{path}"
