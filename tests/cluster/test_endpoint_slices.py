"""What is read of an EndpointSlice, and what tells pods apart."""

from __future__ import annotations

import msgspec
import pytest
from proxy.cluster.endpoint_slices import Endpoint, EndpointSliceList, Reference

# As an API server writes it, less the managed fields (kubernetes.io/docs/concepts/services-networking/endpoint-slices).
PAGE = b"""{"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1",
"metadata": {"resourceVersion": "5107", "continue": "eyJ2", "remainingItemCount": 1},
"items": [{"metadata": {"name": "vllm-x8k2p", "generateName": "vllm-", "namespace": "inference", "generation": 3,
   "resourceVersion": "5001", "labels": {"kubernetes.io/service-name": "vllm"}},
 "addressType": "IPv4",
 "endpoints": [{"addresses": ["10.1.2.3"], "conditions": {"ready": true, "serving": true, "terminating": false},
   "nodeName": "node-1", "zone": "a", "hostname": "vllm-0", "deprecatedTopology": {"x": "y"},
   "targetRef": {"kind": "Pod", "namespace": "inference", "name": "vllm-0", "uid": "0e1f"}}],
 "ports": [{"name": "http", "port": 8000, "protocol": "TCP", "appProtocol": null}]}]}"""


def test_a_page_as_an_api_server_writes_it() -> None:
    page = msgspec.json.decode(PAGE, type=EndpointSliceList)
    assert (page.metadata.resource_version, page.metadata.rest) == ("5107", "eyJ2")
    assert page.items is not None
    (one,) = page.items
    assert (one.metadata.name, one.metadata.resource_version, one.address_type) == ("vllm-x8k2p", "5001", "IPv4")
    assert one.endpoints is not None and one.ports is not None
    (endpoint,), (port,) = one.endpoints, one.ports
    assert (endpoint.pod, endpoint.addresses, (port.name, port.port)) == ("0e1f", ("10.1.2.3",), ("http", 8000))
    assert endpoint.conditions is not None and endpoint.conditions.ready and not endpoint.conditions.terminating


@pytest.mark.parametrize(
    ("reference", "pod"),
    [(Reference(name="vllm-0", uid="0e1f"), "0e1f"), (Reference(name="vllm-0"), "vllm-0"), (None, "10.1.2.3")],
)
def test_a_pod_is_told_from_others_by_the_best_that_is_said_of_it(reference: Reference | None, pod: str) -> None:
    assert Endpoint(addresses=("10.1.2.3",), target_ref=reference).pod == pod
