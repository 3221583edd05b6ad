"""How many pods stand behind a Service, as the cluster's own API says.

Theory of operation
-------------------
A Service's EndpointSlices (`discovery.k8s.io/v1`) list its pods. All that are listed count: one that is still loading
its model, or is draining, is not ready, and holds its GPUs all the same. A pod with addresses of two families is in two
slices, so pods are told apart by their uid.

The API server is asked as its documentation has it for a pod ("Accessing the Kubernetes API from a Pod"): with the
token and the certificate authority that are mounted for the service account. Tokens are rotated, so the file is read
every time. Asking blocks, so it is done in a thread.
"""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path
from urllib.parse import quote

import msgspec

from proxy.policy.gpus import KubernetesReplicas

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
API_SERVER = "kubernetes.default.svc"
TIMEOUT_S = 5.0
MAX_BODY_BYTES = 16 * 2**20
_REFUSALS = {
    401: "the API server does not accept the token of the service account",
    403: "the service account may not list `endpointslices` (hint: give it a Role that lets it)",
}


class CountUnknown(Exception):
    """Nobody said how many there are; the text says why. It holds no token."""


class _Reference(msgspec.Struct):
    uid: str = ""


class _Endpoint(msgspec.Struct, rename="camel"):
    addresses: list[str]
    target_ref: _Reference | None = None


class _Slice(msgspec.Struct):
    endpoints: list[_Endpoint] | None = None


class _Slices(msgspec.Struct):
    items: list[_Slice]


def count_endpoints(body: bytes) -> int:
    """How many pods an EndpointSliceList has. Raises CountUnknown, also where it has no slice: no such Service."""
    try:
        slices = msgspec.json.decode(body, type=_Slices).items
    except msgspec.MsgspecError as error:
        raise CountUnknown(f"the API server's answer cannot be read: {error}") from None
    if not slices:
        raise CountUnknown("the API server knows no endpoints of that Service (hint: are service and namespace right?)")
    listed = (endpoint for one in slices for endpoint in one.endpoints or ())
    return len({one.target_ref.uid if one.target_ref else one.addresses[0] for one in listed if one.addresses})


class Cluster:
    """The cluster that this process runs in."""

    def __init__(self, host: str = API_SERVER, port: int = 443, account: Path = SERVICE_ACCOUNT) -> None:
        self._host, self._port, self._account = host, port, account

    def replicas(self, service: KubernetesReplicas) -> int:
        """How many pods the Service has; blocks for at most a few seconds. Raises CountUnknown."""
        path = (
            f"/apis/discovery.k8s.io/v1/namespaces/{quote(service.namespace, safe='')}/endpointslices"
            f"?labelSelector={quote(f'kubernetes.io/service-name={service.service}', safe='')}"
        )
        try:
            status, body = self._get(path)
        except (OSError, http.client.HTTPException) as error:
            raise CountUnknown(f"no answer from the API server: {_words(error)}") from None
        if status != 200:
            raise CountUnknown(_REFUSALS.get(status, f"the API server answers {status}"))
        return count_endpoints(body)

    def _get(self, path: str) -> tuple[int, bytes]:
        token = (self._account / "token").read_text("ascii").strip()
        context = ssl.create_default_context(cafile=str(self._account / "ca.crt"))
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT_S, context=context)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}", "Accept": "application/json"})
            response = connection.getresponse()
            body = response.read(MAX_BODY_BYTES + 1)
            if len(body) > MAX_BODY_BYTES:
                raise http.client.HTTPException("it is too long")
            return response.status, body
        finally:
            connection.close()


def _words(error: Exception) -> str:
    """What went wrong, without what was sent."""
    if isinstance(error, FileNotFoundError):
        return f"there is no `{error.filename}` (hint: it is mounted where `automountServiceAccountToken` is on)"
    return str(error) or type(error).__name__
