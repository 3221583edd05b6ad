"""How a pod reaches the API server of its cluster, and in which words it is turned away.

Kubernetes, "Accessing the Kubernetes API from a Pod": the address is in the environment, the token and the certificate
authority are mounted for the service account. Tokens are rotated, and authorities now and then, so the files are read
when they are needed and never kept.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
API_SERVER = "kubernetes.default.svc"
API_PORT = 443
MAX_BODY_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where the API server is, and the folder with what it wants to see."""

    host: str = API_SERVER
    port: int = API_PORT
    account: Path = SERVICE_ACCOUNT

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Access:
        """As the kubelet tells it to each container; the name in the DNS where it does not."""
        host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT", "")
        return cls(host=host, port=int(port) if port.isdecimal() else API_PORT) if host else cls()

    @property
    def url(self) -> str:
        """The root of the API."""
        return f"https://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def headers(self) -> dict[str, str]:
        """What each request carries. Raises OSError where there is no token."""
        path = self.account / "token"
        token = path.read_text("latin-1").strip()
        if not token or not token.isascii() or not token.isprintable():
            raise OSError(f"`{path}` holds no token")
        return {"Authorization": f"Bearer {token}", "Accept": "application/json", "User-Agent": "spillway"}

    def tls(self) -> ssl.SSLContext:
        """Trusts the cluster's authority, and nobody else. Raises OSError where there is none."""
        path = self.account / "ca.crt"
        path.stat()  # the error of OpenSSL does not say which file it is that is missing
        return ssl.create_default_context(cafile=str(path))


def from_here() -> Access:
    """The access of this process."""
    return Access.of(os.environ)


def endpoint_slices(namespace: str, service: str, **query: str | int) -> str:
    """The path and query for the EndpointSlices of a Service; `query` are further parameters."""
    selected = urlencode({"labelSelector": f"kubernetes.io/service-name={service}", **query}, quote_via=quote, safe="")
    return f"/apis/discovery.k8s.io/v1/namespaces/{quote(namespace, safe='')}/endpointslices?{selected}"


def refusal(status: int, denied: str) -> str:
    """Why the API server did not do it; `denied` is what the service account may not."""
    return {
        401: "the API server does not accept the token of the service account",
        403: f"the service account may not {denied}",
    }.get(status, f"the API server answers {status}")


def words(error: Exception) -> str:
    """What went wrong, without what was sent."""
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"there is no `{error.filename}` (hint: it is mounted where `automountServiceAccountToken` is on)"
    return str(error) or type(error).__name__
