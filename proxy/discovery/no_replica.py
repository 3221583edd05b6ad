"""Addresses at which no replica can be, whoever lists them.

Theory of operation
-------------------
Who writes EndpointSlices or answers for a name decides where prompts go, and what the proxy is made to ask. The API
server itself takes no loopback and no link-local address for an endpoint (Kubernetes, `ValidateEndpointIP`), so one
that is listed is a forgery or a mistake: it is left out, and said. The metadata services of clouds are at addresses of
that kind, and at a few others, which are named here; so is whatever says the same in other words, such as an IPv4
address within an IPv6 one.

Loopback is this very pod, with all that trusts it. It is a place for replicas where the lister is on this host too: an
API server in a test, or the name `localhost`.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

_METADATA = frozenset(
    map(
        ip_address,
        (
            "100.100.100.200",  # Alibaba Cloud
            "168.63.129.16",  # Azure's WireServer
            "192.0.0.192",  # Oracle Cloud, the older one
            "fd00:ec2::254",  # AWS
            "fd20:ce::254",  # Google Cloud
        ),
    )
)
_NAT64 = range(0x64FF9B << 96, (0x64FF9B << 96) + (1 << 32))
"""64:ff9b::/96, behind which a translator reaches any IPv4 address (RFC 6052)."""


@lru_cache(maxsize=4096)
def no_replica(address: str, *, loopback: bool) -> bool:
    """Whether no replica can be there; `loopback` says that this host is a place for replicas."""
    try:
        found = _plain(ip_address(address))
    except ValueError:
        return True
    if found.is_loopback:
        return not loopback
    return found in _METADATA or found.is_link_local or found.is_multicast or found.is_unspecified


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 one stands for, where it does."""
    if isinstance(address, IPv4Address):
        return address
    if int(address) in _NAT64:
        return IPv4Address(int(address) - _NAT64.start)
    return address.ipv4_mapped or address.sixtofour or address
