"""Which of a Service's pods are replicas, by what its EndpointSlices say of them.

Theory of operation
-------------------
A pod is used when it is ready and not terminating. When no pod is, those that terminate and still serve are: a request
that they may cut short is better than one that nobody takes. That is how kube-proxy does it (KEP-1669). What is not
said of a condition is read as the API's reference has it: `ready` is true, and `serving` is what `ready` is.

All that is listed of one pod is put together: it has an address of each family, and while the control plane moves it
from slice to slice it may be in both. It is ready if any of them says so, and terminating likewise, since that is never
taken back. IPv4 is preferred.

An address at which no replica can be is left out and said, and its pod counts as unready.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from proxy.cluster.endpoint_slices import Conditions, Endpoint, EndpointSlice, Port
from proxy.discovery.no_replica import no_replica
from proxy.policy.discovery import DnsService, KubernetesService, replica_url

FAMILIES = {"IPv4": 0, "IPv6": 1}
"""Address types that can be reached, those to be preferred first."""
NO_SLICES = "the API server knows no endpoints of that Service (hint: are service and namespace right?)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a source says of one target: the base URLs of replicas that can be used; how many pods terminate, and how
    many are neither used nor terminate; and what is wrong, in words.
    """

    urls: frozenset[str] = frozenset()
    terminating: int = 0
    unready: int = 0
    trouble: str = ""


class _Entry(NamedTuple):
    """What one slice says of a pod; no `url` where it has not the port."""

    family: int
    url: str
    ready: bool
    serving: bool
    terminating: bool


def of_addresses(addresses: Collection[str], service: DnsService) -> Listing:
    """What the addresses of a headless Service come to."""
    loopback = service.host == "localhost" or service.host.endswith(".localhost")
    left_out = sorted(one for one in addresses if no_replica(one, loopback=loopback))
    return Listing(
        urls=frozenset(replica_url(one, service.port, service.path) for one in addresses if one not in left_out),
        unready=len(left_out),
        trouble=_left_out(left_out),
    )


def of_slices(slices: Iterable[EndpointSlice], service: KubernetesService, *, loopback: bool = False) -> Listing:
    """What the EndpointSlices of a Service come to; `loopback` says that its pods may be on this host."""
    pods: dict[str, list[_Entry]] = {}
    left_out: set[str] = set()
    trouble = NO_SLICES
    for one in slices:
        trouble = "" if trouble is NO_SLICES else trouble
        if one.address_type in FAMILIES and one.endpoints:
            port = port_of(one.ports or (), service.port)
            trouble = trouble or (f"its endpoints have {port}" if isinstance(port, str) else "")
            for endpoint in one.endpoints:
                if endpoint.addresses:
                    barred = no_replica(endpoint.addresses[0], loopback=loopback)
                    left_out.update(endpoint.addresses[:1] if barred else ())
                    entry = _entry(endpoint, FAMILIES[one.address_type], "" if barred else port, service.path)
                    pods.setdefault(endpoint.pod, []).append(entry)
    return _listing(pods.values(), _left_out(sorted(left_out)) or trouble)


def port_of(ports: Iterable[Port], wanted: int | str | None) -> int | str:
    """The number of the port that is meant, or in words why none is.

    An EndpointSlice has the ports of the pods, not those of the Service. One without any, or with one that has no
    number, limits nothing: a number is then taken at its word.
    """
    tcp = [port for port in ports if port.protocol in (None, "TCP")]
    if isinstance(wanted, int):
        if not tcp or any(port.port in (wanted, None) for port in tcp):
            return wanted
        return (
            f"no port {wanted} but {_spelled(tcp)} (hint: `port` is that of the pods, which may not be the Service's)"
        )
    numbers = {port.port for port in tcp if port.port is not None and wanted in (None, port.name)}
    if len(numbers) == 1:
        return numbers.pop()
    if wanted is None:
        return f"{_spelled(tcp)} (hint: say which one with `port`)"
    return f"no port `{wanted}` but {_spelled(tcp)}"


def _spelled(ports: list[Port]) -> str:
    names = sorted(f"`{port.name or port.port}`" for port in ports if port.port is not None)
    return f"the ports {', '.join(names)}" if names else "no port at all"


def _entry(endpoint: Endpoint, family: int, port: int | str, path: str) -> _Entry:
    said = endpoint.conditions or Conditions()
    ready = said.ready is not False
    url = replica_url(endpoint.addresses[0], port, path) if isinstance(port, int) else ""
    serving = ready if said.serving is None else said.serving
    return _Entry(family=family, url=url, ready=ready, serving=serving, terminating=said.terminating is True)


def _listing(pods: Iterable[list[_Entry]], trouble: str) -> Listing:
    ready: set[str] = set()
    leaving: set[str] = set()
    terminating = unready = 0
    for entries in pods:
        if any(entry.terminating for entry in entries):
            terminating += 1
            leaving.update(_best(entry for entry in entries if entry.serving and entry.url))
        elif best := _best(entry for entry in entries if entry.ready and entry.url):
            ready.update(best)
        else:
            unready += 1
    return Listing(urls=frozenset(ready or leaving), terminating=terminating, unready=unready, trouble=trouble)


def _left_out(addresses: list[str]) -> str:
    """Why addresses are not used, in words; nothing if there are none."""
    if not addresses:
        return ""
    more = f" and {len(addresses) - 1} more" if len(addresses) > 1 else ""
    return f"`{addresses[0][:64]}`{more} cannot be a replica (hint: who writes there?)"


def _best(entries: Iterable[_Entry]) -> list[str]:
    """The URL of the first by family, if there is one."""
    return [entry.url for entry in sorted(entries)[:1]]
