"""The pods of a Service, counted by an API server that speaks TLS and looks at the token."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from proxy.cluster.access import Access
from proxy.meters.kubernetes import Cluster, CountUnknown, ScaleRefused, count_endpoints
from proxy.policy.gpus import KubernetesReplicas
from proxy.policy.wake import KubernetesWake, Workload
from tests.redis.certificates import Authority, make_authority

VLLM = KubernetesReplicas(service="vllm", namespace="inference")
PATH = "/apis/discovery.k8s.io/v1/namespaces/inference/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dvllm"
SCALE = "/apis/apps/v1/namespaces/inference/statefulsets/vllm/scale"
WAKE = KubernetesWake(workload=Workload.STATEFULSET, name="vllm", namespace="inference", replicas=2)
TOKEN = "token-of-a-test"


def pod(uid: str, address: str, *, ready: bool = True) -> dict[str, Any]:
    return {
        "addresses": [address],
        "conditions": {"ready": ready, "serving": ready, "terminating": False},
        "targetRef": {"kind": "Pod", "namespace": "inference", "name": f"vllm-{uid}", "uid": uid},
    }


def slices(*endpoints: list[dict[str, Any]] | None) -> bytes:
    items = [{"addressType": "IPv4", "endpoints": one, "ports": []} for one in endpoints]
    return json.dumps({"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1", "items": items}).encode()


THREE = slices([pod("a", "10.0.0.1"), pod("b", "10.0.0.2"), pod("c", "10.0.0.3", ready=False)])


class ApiServer(ThreadingHTTPServer):
    """Answers `answer` to whoever has the token and asks for the right path."""

    daemon_threads = True
    answer: tuple[int, bytes] = (200, THREE)
    patch_status = 200

    def __init__(self, authority: Authority) -> None:
        self.patched: list[tuple[str, Any]] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        certificate = authority.sign("api", "IP:127.0.0.1")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.cert, certificate.key)
        self.socket = context.wrap_socket(self.socket, server_side=True)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that does not trust us hangs up; that is its business."""


class _Handler(BaseHTTPRequestHandler):
    def do_PATCH(self) -> None:
        length = int(self.headers["Content-Length"])
        asked = (self.headers["Content-Type"], json.loads(self.rfile.read(length)))
        self.server.patched.append(asked)  # type: ignore[attr-defined]
        self._send(self.server.patch_status if self.path == SCALE else 404, b"{}")  # type: ignore[attr-defined]

    def do_GET(self) -> None:
        status, body = self.server.answer  # type: ignore[attr-defined]
        self._send(status if self.path in (PATH, SCALE) else 404, body)

    def _send(self, status: int, body: bytes) -> None:
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            status, body = 401, b"{}"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def account(tmp_path: Path) -> Path:
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    (folder / "token").write_text(f"{TOKEN}\n")
    return folder


@pytest.fixture
def server(tmp_path: Path, account: Path) -> Iterator[ApiServer]:
    authority = make_authority(tmp_path)
    (account / "ca.crt").write_bytes(authority.ca.cert.read_bytes())
    serving = ApiServer(authority)
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield serving
    serving.shutdown()
    thread.join()
    serving.server_close()


@pytest.fixture
def cluster(server: ApiServer, account: Path) -> Cluster:
    return Cluster(Access(host="127.0.0.1", port=server.server_port, account=account))


def test_pods_are_counted_those_that_load_their_model_too(cluster: Cluster) -> None:
    assert cluster.replicas(VLLM) == 3


def test_the_token_is_read_anew_every_time(cluster: Cluster, account: Path) -> None:
    (account / "token").write_text("an old one")
    with pytest.raises(CountUnknown, match="does not accept the token"):
        cluster.replicas(VLLM)
    (account / "token").write_text(TOKEN)
    assert cluster.replicas(VLLM) == 3


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((403, b"{}"), "may not list `endpointslices`"),
        ((500, b"oops"), "answers 500"),
        ((301, b""), "answers 301"),
        ((200, b"not json"), "cannot be read"),
        ((200, b'{"items": {}}'), "cannot be read"),
        ((200, slices()), "knows no endpoints of that Service"),
    ],
)
def test_any_other_answer_is_none(cluster: Cluster, server: ApiServer, answer: tuple[int, bytes], reason: str) -> None:
    server.answer = answer
    with pytest.raises(CountUnknown, match=reason) as unknown:
        cluster.replicas(VLLM)
    assert TOKEN not in str(unknown.value)


def test_an_answer_without_end_is_not_read_to_it(
    cluster: Cluster, server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.meters.kubernetes.MAX_BODY_BYTES", 100)
    server.answer = (200, THREE)
    with pytest.raises(CountUnknown, match="too long"):
        cluster.replicas(VLLM)


def test_a_server_of_another_authority_is_not_trusted(cluster: Cluster, account: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (account / "ca.crt").write_bytes(make_authority(other).ca.cert.read_bytes())
    with pytest.raises(CountUnknown, match="no answer from the API server"):
        cluster.replicas(VLLM)


def test_outside_a_cluster_there_is_no_account(tmp_path: Path) -> None:
    with pytest.raises(CountUnknown, match="automountServiceAccountToken"):
        Cluster(Access(host="127.0.0.1", port=1, account=tmp_path / "none")).replicas(VLLM)


def test_nobody_at_the_address_is_no_answer(server: ApiServer, account: Path) -> None:
    with pytest.raises(CountUnknown, match="no answer"):
        Cluster(Access(host="127.0.0.1", port=1, account=account)).replicas(VLLM)


@pytest.mark.parametrize(
    ("body", "pods"),
    [
        (slices([]), 0),
        (slices(None), 0),
        (slices([pod("a", "10.0.0.1")], [pod("b", "10.0.0.2")]), 2),
        (slices([pod("a", "10.0.0.1")], [pod("a", "fd00::1")]), 1),
        (slices([{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}, {"addresses": []}]), 2),
    ],
)
def test_a_pod_is_one_in_however_many_slices(body: bytes, pods: int) -> None:
    assert count_endpoints(body) == pods


# Scaling up


def scale(replicas: int | None) -> bytes:
    spec = {} if replicas is None else {"replicas": replicas}
    return json.dumps({"kind": "Scale", "metadata": {"name": "vllm", "resourceVersion": "77"}, "spec": spec}).encode()


@pytest.mark.parametrize("replicas", [None, 0, 1])
def test_a_workload_is_scaled_up_by_what_was_read_of_it(server: ApiServer, account: Path, replicas: int | None) -> None:
    server.answer = (200, scale(replicas))
    assert Cluster(Access(host="127.0.0.1", port=server.server_address[1], account=account)).scale_up(WAKE)
    wanted = {"metadata": {"resourceVersion": "77"}, "spec": {"replicas": 2}}
    assert server.patched == [("application/merge-patch+json", wanted)]


def test_a_workload_is_never_scaled_down(server: ApiServer, account: Path) -> None:
    server.answer = (200, scale(3))
    assert not Cluster(Access(host="127.0.0.1", port=server.server_address[1], account=account)).scale_up(WAKE)
    assert server.patched == []


@pytest.mark.parametrize(
    ("answer", "patch_status", "words"),
    [
        ((403, b"{}"), 200, "`get` and `patch` on `statefulsets/scale`"),
        ((404, b"{}"), 200, "no such one among the statefulsets"),
        ((200, b"{}"), 200, "cannot be read"),
        ((200, scale(0)), 409, "somebody else has just scaled it"),
        ((200, scale(0)), 500, "answers 500"),
    ],
)
def test_why_a_workload_was_not_scaled(
    server: ApiServer, account: Path, answer: tuple[int, bytes], patch_status: int, words: str
) -> None:
    server.answer, server.patch_status = answer, patch_status
    with pytest.raises(ScaleRefused, match=words):
        Cluster(Access(host="127.0.0.1", port=server.server_address[1], account=account)).scale_up(WAKE)


def test_nobody_to_scale_it(account: Path) -> None:
    with pytest.raises(ScaleRefused, match="no answer from the API server"):
        Cluster(Access(host="127.0.0.1", port=1, account=account)).scale_up(WAKE)
