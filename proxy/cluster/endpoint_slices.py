"""What EndpointSlices say of the pods behind a Service (`discovery.k8s.io/v1`): the members that are read here.

Pods are told apart by their uid: one with addresses of two families is in two slices, and while the control plane moves
one from slice to slice it may be in both.
"""

from __future__ import annotations

import msgspec


class Conditions(msgspec.Struct, frozen=True, gc=False):
    """Of an endpoint; None is unknown, which for `ready` is to be read as true."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Reference(msgspec.Struct, frozen=True, gc=False):
    """The object behind an endpoint: a pod, as a rule."""

    name: str = ""
    uid: str = ""


class Endpoint(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """One address of a pod. Of `addresses` only the first has a meaning."""

    addresses: tuple[str, ...]
    conditions: Conditions | None = None
    target_ref: Reference | None = None

    @property
    def pod(self) -> str:
        """What tells its pod from others."""
        reference = self.target_ref or Reference()
        return reference.uid or reference.name or self.addresses[0]


class Port(msgspec.Struct, frozen=True, gc=False):
    """One on which all endpoints of a slice listen; without a number it is any."""

    name: str | None = None
    port: int | None = None
    protocol: str | None = None


class Metadata(msgspec.Struct, frozen=True, gc=False, rename={"resource_version": "resourceVersion"}):
    """Of one object."""

    name: str = ""
    resource_version: str = ""


class EndpointSlice(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """Some of a Service's endpoints, of one address family and with the same ports."""

    metadata: Metadata = Metadata()
    address_type: str = ""
    endpoints: tuple[Endpoint, ...] | None = None
    ports: tuple[Port, ...] | None = None


class ListMetadata(msgspec.Struct, frozen=True, gc=False):
    """Of a list: the version to watch from, and how to ask for the rest of it, if there is more."""

    resource_version: str = msgspec.field(name="resourceVersion", default="")
    rest: str = msgspec.field(name="continue", default="")


class EndpointSliceList(msgspec.Struct, frozen=True, gc=False):
    """What a list, or a page of one, is answered with."""

    items: tuple[EndpointSlice, ...] | None
    metadata: ListMetadata = ListMetadata()
