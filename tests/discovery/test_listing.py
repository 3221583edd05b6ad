"""Which pods are replicas, by what slices say of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.cluster.endpoint_slices import EndpointSlice, Port
from proxy.discovery.listing import NO_SLICES, Listing, of_addresses, of_slices, port_of
from proxy.policy.discovery import DnsService, KubernetesService
from tests.apiserver import endpoint, endpoint_slice
from tests.thorough import examples

NO_PORT = KubernetesService(service="vllm", namespace="inference", port="nope")
VLLM = KubernetesService(service="vllm", namespace="inference", port=8000)


def listing(*slices: Any, of: KubernetesService = VLLM) -> Listing:
    return of_slices(msgspec.convert(slices, tuple[EndpointSlice, ...]), of)


def url(address: str, port: int = 8000, path: str = "/v1") -> str:
    return f"http://{address}:{port}{path}"


def test_ready_pods_are_used_and_the_others_counted() -> None:
    found = listing(
        endpoint_slice("a", endpoint("1", "10.0.0.1"), endpoint("2", "10.0.0.2", ready=False)),
        endpoint_slice("b", endpoint("3", "10.0.0.3", ready=False, serving=True, terminating=True)),
    )
    assert found == Listing(urls=frozenset({url("10.0.0.1")}), terminating=1, unready=1)


@pytest.mark.parametrize(
    ("conditions", "used", "terminating"),
    [
        ({"ready": None}, True, 0),
        ({"ready": None, "serving": None, "terminating": None}, True, 0),
        ({"ready": True, "serving": True, "terminating": False}, True, 0),
        ({"ready": False, "serving": True, "terminating": False}, False, 0),
        ({"ready": False, "serving": False, "terminating": True}, False, 1),
        ({"ready": False, "serving": None, "terminating": True}, False, 1),
    ],
)
def test_what_conditions_mean(conditions: dict[str, bool | None], used: bool, terminating: int) -> None:
    found = listing(endpoint_slice("a", endpoint("1", "10.0.0.1", **conditions)))  # type: ignore[arg-type]
    assert (bool(found.urls), found.terminating, found.unready) == (
        used,
        terminating,
        int(not used and not terminating),
    )


def test_conditions_may_be_missing_altogether() -> None:
    assert listing(endpoint_slice("a", {"addresses": ["10.0.0.1"]})).urls == {url("10.0.0.1")}
    assert listing(endpoint_slice("a", {"addresses": []})) == Listing()


def test_pods_that_terminate_serve_while_no_other_does() -> None:
    leaving = endpoint("1", "10.0.0.1", ready=False, serving=True, terminating=True)
    gone = endpoint("2", "10.0.0.2", ready=False, serving=False, terminating=True)
    ready = endpoint("3", "10.0.0.3")
    assert listing(endpoint_slice("a", leaving, gone)).urls == {url("10.0.0.1")}
    assert listing(endpoint_slice("a", leaving, gone, ready)).urls == {url("10.0.0.3")}


def test_where_unready_pods_are_published_too_one_that_terminates_is_not_ready() -> None:
    published = endpoint("1", "10.0.0.1", ready=True, serving=True, terminating=True)
    found = listing(endpoint_slice("a", published, endpoint("2", "10.0.0.2")))
    assert (found.urls, found.terminating) == ({url("10.0.0.2")}, 1)


def test_a_pod_of_two_families_is_one_replica() -> None:
    four = endpoint_slice("four", endpoint("1", "10.0.0.1"))
    six = endpoint_slice("six", endpoint("1", "fd00::1"), family="IPv6")
    assert listing(six, four).urls == listing(four, six).urls == {url("10.0.0.1")}
    assert listing(six).urls == {"http://[fd00::1]:8000/v1"}


def test_a_pod_that_is_moved_from_slice_to_slice_is_one_replica() -> None:
    before = endpoint_slice("a", endpoint("1", "10.0.0.1", ready=False))
    after = endpoint_slice("b", endpoint("1", "10.0.0.1"))
    assert listing(before, after) == listing(after, before) == Listing(urls=frozenset({url("10.0.0.1")}))


def test_names_of_hosts_are_no_addresses() -> None:
    assert listing(endpoint_slice("a", endpoint("1", "vllm.example.com"), family="FQDN")) == Listing()


def test_a_service_that_nobody_knows_is_trouble() -> None:
    assert listing() == Listing(trouble=NO_SLICES)
    assert listing(endpoint_slice("a")) == Listing()


@pytest.mark.parametrize(
    ("ports", "wanted", "number"),
    [
        ([("http", 8000)], None, 8000),
        ([("http", 8000)], "http", 8000),
        ([("http", 8000), ("metrics", 9000)], "metrics", 9000),
        ([("http", 8000), ("metrics", 9000)], 9000, 9000),
        ([("", 8000)], None, 8000),
        ([], 8000, 8000),
        ([(None, None)], 8000, 8000),
        ([("a", 8000), ("b", 8000)], None, 8000),
    ],
)
def test_which_port_is_meant(ports: Iterable[tuple[str | None, int | None]], wanted: Any, number: int) -> None:
    assert port_of([Port(name=name, port=port, protocol="TCP") for name, port in ports], wanted) == number


@pytest.mark.parametrize(
    ("ports", "wanted", "words"),
    [
        (
            [("http", 8000), ("metrics", 9000)],
            None,
            "its endpoints have the ports `http`, `metrics` (hint: say which one with `port`)",
        ),
        ([("http", 8000)], "grpc", "its endpoints have no port `grpc` but the ports `http`"),
        ([("http", 8000)], 80, "its endpoints have no port 80 but the ports `http` (hint: `port` is that of the pods"),
        ([], None, "its endpoints have no port at all (hint: say which one with `port`)"),
    ],
)
def test_what_is_said_where_no_port_is_meant(ports: Any, wanted: Any, words: str) -> None:
    service = KubernetesService(service="vllm", namespace="inference", port=wanted)
    found = listing(endpoint_slice("a", endpoint("1", "10.0.0.1"), ports=ports), of=service)
    assert found.trouble.startswith(words)
    assert (found.urls, found.unready) == (frozenset(), 1)


def test_udp_is_no_way_to_reach_an_engine() -> None:
    ports = [Port(name="dns", port=53, protocol="UDP"), Port(name="http", port=8000)]
    assert port_of(ports, None) == 8000


def test_slices_may_have_other_numbers_for_one_name() -> None:
    old = endpoint_slice("old", endpoint("1", "10.0.0.1"), ports=(("http", 8000),))
    new = endpoint_slice("new", endpoint("2", "10.0.0.2"), ports=(("http", 8080),))
    service = KubernetesService(service="vllm", namespace="inference", port="http", path="/api")
    assert listing(old, new, of=service).urls == {url("10.0.0.1", 8000, "/api"), url("10.0.0.2", 8080, "/api")}


def test_the_addresses_of_a_name_have_one_port_and_path() -> None:
    service = DnsService(host="vllm", port=8000)
    assert of_addresses({"10.0.0.1", "fd00::1"}, service).urls == {url("10.0.0.1"), "http://[fd00::1]:8000/v1"}


pods = st.builds(
    endpoint,
    st.sampled_from("abcdef"),
    st.sampled_from([f"10.0.0.{number}" for number in range(6)]),
    ready=st.sampled_from([True, False, None]),
    serving=st.sampled_from([True, False, None]),
    terminating=st.sampled_from([True, False, None]),
)


@settings(max_examples=examples(200))
@given(st.lists(st.lists(pods, max_size=4), max_size=4), st.randoms())
def test_the_order_of_slices_and_endpoints_means_nothing(endpoints: list[list[Any]], shuffled: Any) -> None:
    one = [endpoint_slice(str(number), *listed) for number, listed in enumerate(endpoints)]
    other = [
        dict(each, endpoints=shuffled.sample(each["endpoints"] or [], len(each["endpoints"] or []))) for each in one
    ]
    shuffled.shuffle(other)
    assert listing(*one) == listing(*other)


@settings(max_examples=examples(200))
@given(st.lists(st.lists(pods, max_size=4), min_size=1, max_size=4))
def test_each_pod_counts_once(endpoints: list[list[Any]]) -> None:
    found = listing(*(endpoint_slice(str(number), *listed) for number, listed in enumerate(endpoints)))
    uids = {one["targetRef"]["uid"] for listed in endpoints for one in listed}
    assert found.terminating + found.unready <= len(uids)
    assert len(found.urls) <= len(uids)


AWAY = ["169.254.169.254", "169.254.170.2", "0.0.0.0", "224.0.0.1", "100.100.100.200", "168.63.129.16", "127.0.0.1"]
AWAY_TOO = ["fe80::1", "fe80::1%eth0", "::", "ff02::1", "::1", "fd00:ec2::254", "::ffff:169.254.169.254"]
NO_ADDRESSES = ["", "example.com", "10.0.0.1@evil.example", "10.0.0.1/x?", "010.0.0.1", "[fd00::1]"]


@pytest.mark.parametrize("address", [*AWAY, *AWAY_TOO, *NO_ADDRESSES])
def test_what_cannot_be_a_replica_is_left_out_and_said(address: str) -> None:
    slices = endpoint_slice("a", endpoint("1", address), endpoint("2", "10.0.0.2"))
    found = listing({**slices, "addressType": "IPv6" if ":" in address else "IPv4"})
    assert (found.urls, found.unready) == ({url("10.0.0.2")}, 1)
    assert found.trouble.startswith(f"`{address}` cannot be a replica")
    leaving = endpoint("1", address, ready=False, serving=True, terminating=True)
    assert listing(endpoint_slice("a", leaving)).urls == frozenset()
    resolved = of_addresses({address, "10.0.0.2"}, DnsService(host="vllm.inference.svc", port=8000))
    assert (resolved.urls, resolved.trouble) == (found.urls, found.trouble)


def test_all_that_is_left_out_is_one_trouble() -> None:
    found = listing(endpoint_slice("a", *(endpoint(str(n), f"169.254.169.{n}") for n in (254, 253))), of=NO_PORT)
    assert found.trouble == "`169.254.169.253` and 1 more cannot be a replica (hint: who writes there?)"


def test_this_host_is_a_place_for_replicas_where_the_lister_is_here() -> None:
    slices = msgspec.convert([endpoint_slice("a", endpoint("1", "127.0.0.2"))], tuple[EndpointSlice, ...])
    assert of_slices(slices, VLLM, loopback=True).urls == {url("127.0.0.2")}
    assert of_slices(slices, VLLM).urls == frozenset()
    for host in ("localhost", "engine.localhost"):
        assert of_addresses({"127.0.0.1"}, DnsService(host=host, port=8000)).urls == {url("127.0.0.1")}
        assert of_addresses({"169.254.169.254"}, DnsService(host=host, port=8000)).urls == frozenset()
