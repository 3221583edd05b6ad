"""Where no replica can be, however it is spelled."""

from __future__ import annotations

import pytest
from proxy.discovery.no_replica import no_replica

METADATA = "169.254.169.254"
SAME = ["::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1"]


@pytest.mark.parametrize(
    "address", [METADATA, *SAME, "fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192"]
)
def test_metadata_is_out_of_reach_in_any_spelling(address: str) -> None:
    assert no_replica(address, loopback=False)
    assert no_replica(address, loopback=True)


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "8.8.8.8", "fd00::1", "2001:db8::1", "64:ff9b::a00:1"],
)
def test_pods_are_wherever_a_network_has_them(address: str) -> None:
    assert not no_replica(address, loopback=False)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
def test_this_host_only_where_it_is_said(address: str) -> None:
    assert no_replica(address, loopback=False)
    assert not no_replica(address, loopback=True)
