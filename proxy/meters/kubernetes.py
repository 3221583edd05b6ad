"""How many pods stand behind a Service, as the cluster's own API says; and how a workload is scaled up there.

Theory of operation
-------------------
A Service's EndpointSlices (`discovery.k8s.io/v1`) list its pods. All that are listed count: one that is still loading
its model, or is draining, is not ready, and holds its GPUs all the same. A pod with addresses of two families is in two
slices, so pods are told apart by their uid.

A workload is scaled by its `scale` subresource, and never down: it is read first, and what is written says which
reading it goes by, so that whoever scaled it in between wins.

The API server is asked anew every time (`cluster/access.py`). Asking blocks, so it is done in a thread.
"""

from __future__ import annotations

import http.client
from urllib.parse import quote

import msgspec

from proxy.cluster.access import MAX_BODY_BYTES, Access, endpoint_slices, from_here, refusal, words
from proxy.cluster.endpoint_slices import EndpointSliceList
from proxy.policy.gpus import KubernetesReplicas
from proxy.policy.wake import KubernetesWake

TIMEOUT_S = 5.0
_LISTING = "list `endpointslices` (hint: give it a Role that lets it)"


class CountUnknown(Exception):
    """Nobody said how many there are; the text says why. It holds no token."""


class ScaleRefused(Exception):
    """A workload was not scaled; the text says why. It holds no token."""


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
        slices = msgspec.json.decode(body, type=EndpointSliceList).items
    except msgspec.MsgspecError as error:
        raise CountUnknown(f"the API server's answer cannot be read: {error}") from None
    if not slices:
        raise CountUnknown("the API server knows no endpoints of that Service (hint: are service and namespace right?)")
    return len({endpoint.pod for one in slices for endpoint in one.endpoints or () if endpoint.addresses})


class Cluster:
    """The cluster that this process runs in."""

    def __init__(self, access: Access | None = None) -> None:
        self._access = access or from_here()

    def replicas(self, service: KubernetesReplicas) -> int:
        """How many pods the Service has; blocks for at most a few seconds. Raises CountUnknown."""
        try:
            status, body = self._ask("GET", endpoint_slices(service.namespace, service.service))
        except (OSError, http.client.HTTPException) as error:
            raise CountUnknown(f"no answer from the API server: {words(error)}") from None
        if status != 200:
            raise CountUnknown(refusal(status, _LISTING))
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
            raise ScaleRefused(f"no answer from the API server: {words(error)}") from None
        except msgspec.MsgspecError as error:
            raise ScaleRefused(f"the API server's answer cannot be read: {error}") from None
        return True

    def _scale(self, method: str, path: str, kind: str, body: bytes | None = None) -> bytes:
        status, answer = self._ask(method, path, body)
        if status == 200:
            return answer
        reason = {
            404: f"there is no such one among the {kind} (hint: are name and namespace right?)",
            409: "somebody else has just scaled it",
        }.get(status, refusal(status, f"scale (hint: a Role with `get` and `patch` on `{kind}/scale`)"))
        raise ScaleRefused(reason)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        access = self._access
        headers = access.headers()
        connection = http.client.HTTPSConnection(access.host, access.port, timeout=TIMEOUT_S, context=access.tls())
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
