"""How many pods stand behind a Service, as the cluster's own API says; and how a workload is scaled up there.

Theory of operation
-------------------
A Service's EndpointSlices (`discovery.k8s.io/v1`) list its pods. All that are listed count: one that is still loading
its model, or is draining, is not ready, and holds its GPUs all the same. A pod with addresses of two families is in two
slices, so pods are told apart by their uid.

A workload is scaled by its `scale` subresource, and never down: it is read first, and what is written says which
reading it goes by, so that whoever scaled it in between wins.

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
from proxy.policy.wake import KubernetesWake

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


class ScaleRefused(Exception):
    """A workload was not scaled; the text says why. It holds no token."""


class _Reference(msgspec.Struct):
    uid: str = ""


class _Endpoint(msgspec.Struct, rename="camel"):
    addresses: list[str]
    target_ref: _Reference | None = None


class _Slice(msgspec.Struct):
    endpoints: list[_Endpoint] | None = None


class _Slices(msgspec.Struct):
    items: list[_Slice]


class _Version(msgspec.Struct, rename="camel"):
    resource_version: str


class _Replicas(msgspec.Struct):
    replicas: int = 0


class _Scale(msgspec.Struct):
    metadata: _Version
    spec: _Replicas


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

    def scale_up(self, wake: KubernetesWake) -> bool:
        """See to it that the workload has its replicas; whether it had fewer. Blocks for some seconds at most.

        Raises ScaleRefused.
        """
        kind = f"{wake.workload}s"
        path = f"/apis/apps/v1/namespaces/{quote(wake.namespace, safe='')}/{kind}/{quote(wake.name, safe='')}/scale"
        try:
            scale = msgspec.json.decode(self._scale("GET", path, kind), type=_Scale)
            if scale.spec.replicas >= wake.replicas:
                return False
            wanted = {"metadata": {"resourceVersion": scale.metadata.resource_version}}
            body = msgspec.json.encode({**wanted, "spec": {"replicas": wake.replicas}})
            self._scale("PATCH", path, kind, body)
        except (OSError, http.client.HTTPException) as error:
            raise ScaleRefused(f"no answer from the API server: {_words(error)}") from None
        except msgspec.MsgspecError as error:
            raise ScaleRefused(f"the API server's answer cannot be read: {error}") from None
        return True

    def _scale(self, method: str, path: str, kind: str, body: bytes | None = None) -> bytes:
        status, answer = self._ask(method, path, body)
        if status == 200:
            return answer
        reason = {
            401: _REFUSALS[401],
            403: f"the service account may not scale (hint: a Role with `get` and `patch` on `{kind}/scale`)",
            404: f"there is no such one among the {kind} (hint: are name and namespace right?)",
            409: "somebody else has just scaled it",
        }.get(status, f"the API server answers {status}")
        raise ScaleRefused(reason)

    def _get(self, path: str) -> tuple[int, bytes]:
        return self._ask("GET", path, None)

    def _ask(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        token = (self._account / "token").read_text("ascii").strip()
        context = ssl.create_default_context(cafile=str(self._account / "ca.crt"))
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT_S, context=context)
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json"
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            answer = response.read(MAX_BODY_BYTES + 1)
            if len(answer) > MAX_BODY_BYTES:
                raise http.client.HTTPException("it is too long")
            return response.status, answer
        finally:
            connection.close()


def _words(error: Exception) -> str:
    """What went wrong, without what was sent."""
    if isinstance(error, FileNotFoundError):
        return f"there is no `{error.filename}` (hint: it is mounted where `automountServiceAccountToken` is on)"
    return str(error) or type(error).__name__
