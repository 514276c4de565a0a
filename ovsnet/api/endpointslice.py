"""EndpointSlices (discovery.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from sys import intern
from typing import Final

import msgspec

from ovsnet import model
from ovsnet.api.destination import destination
from ovsnet.api.members import PROTOCOLS, one_of
from ovsnet.api.objects import Converted, Kind, Metadata, missing
from ovsnet.api.service import foreign
from ovsnet.model import Fault, PodRef, SliceEndpoint, SlicePort, SliceRef

_SERVICE: Final = "kubernetes.io/service-name"
_TYPES: Final[dict[str, type[IPv4Address | IPv6Address]]] = {
    "IPv4": IPv4Address,
    "IPv6": IPv6Address,
}
_FQDN: Final = "FQDN"


class WireConditions(msgspec.Struct, frozen=True, gc=False):
    """An endpoint's conditions; what is null or absent is not known."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class WireHint(msgspec.Struct, frozen=True, gc=False):
    """A zone or a node whose traffic is meant for an endpoint (ForZone, ForNode)."""

    name: str


class WireHints(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """Whose traffic is meant for an endpoint."""

    for_zones: list[WireHint] | None = None
    for_nodes: list[WireHint] | None = None


class WireReference(msgspec.Struct, frozen=True, gc=False):
    """The part of ObjectReference that is needed."""

    kind: str = ""
    namespace: str = ""
    name: str = ""


class WireEndpoint(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """The part of Endpoint that is needed."""

    addresses: list[str] | None = None
    conditions: WireConditions = WireConditions()
    node_name: str | None = None
    target_ref: WireReference | None = None
    hints: WireHints | None = None


class WireSlicePort(msgspec.Struct, frozen=True, gc=False):
    """The part of EndpointPort that is needed."""

    name: str | None = None
    protocol: str | None = None
    port: int | None = None


class WireEndpointSlice(msgspec.Struct, frozen=True, rename="camel"):
    """An EndpointSlice as the API has it."""

    metadata: Metadata
    address_type: str = ""
    endpoints: list[WireEndpoint] | None = None
    ports: list[WireSlicePort] | None = None


def endpointslice(wire: WireEndpointSlice) -> Converted[model.EndpointSlice]:
    """The model's value of an EndpointSlice.

    There is none of one that is no service's, of one that is for another program or for DNS alone,
    and of one with names in place of addresses. The order of endpoints and ports is kept.
    """
    metadata = wire.metadata
    problem = missing(namespace=metadata.namespace, name=metadata.name)
    if problem is not None:
        return Converted(None, (problem,))
    owner = metadata.labels.get(_SERVICE) if metadata.labels else None
    if not owner or foreign(metadata) or wire.address_type == _FQDN:
        return Converted(None)
    faults: list[Fault] = []
    value = model.EndpointSlice(
        namespace=metadata.namespace,
        name=metadata.name,
        uid=metadata.uid,
        service=owner,
        ports=_ports(wire.ports or (), faults),
        endpoints=_endpoints(wire, faults),
        faults=tuple(faults),
    )
    return Converted(value)


def _endpoints(wire: WireEndpointSlice, faults: list[Fault]) -> tuple[SliceEndpoint, ...]:
    """The endpoints, each at the first of its addresses: the others are the same by definition.

    Ten thousand slices bring a million of them, so this loop calls little; node names, which are
    few, are kept once each.
    """
    family = one_of(wire.address_type, _TYPES, "addressType", faults, "no endpoint is used")
    if family is None:
        return ()
    found: list[SliceEndpoint] = []
    for i, endpoint in enumerate(wire.endpoints or ()):
        if not endpoint.addresses:
            reason = "expected at least one address; the endpoint is left out"
            faults.append(Fault(f"endpoints[{i}].addresses", reason))
            continue
        address = destination(endpoint.addresses[0])
        if not isinstance(address, family):
            reason = address if isinstance(address, str) else _misfit(address, wire.address_type)
            faults.append(Fault(f"endpoints[{i}].addresses[0]", reason))
            continue
        conditions = endpoint.conditions
        ready = conditions.ready is not False
        hints = endpoint.hints
        found.append(
            SliceEndpoint(
                address,
                ready,
                conditions.serving is not False,
                conditions.terminating is True,
                intern(endpoint.node_name) if endpoint.node_name else "",
                _names(hints.for_zones) if hints is not None else (),
                _names(hints.for_nodes) if hints is not None else (),
                _pod(endpoint.target_ref, wire.metadata),
            )
        )
    return tuple(found)


def _misfit(address: model.IPAddress, address_type: str) -> str:
    return f"{address}: expected an {address_type} address, as addressType says"


def _names(hints: list[WireHint] | None) -> tuple[str, ...]:
    return tuple([intern(hint.name) for hint in hints]) if hints else ()


def _pod(target: WireReference | None, metadata: Metadata) -> PodRef | None:
    if target is None or target.kind != "Pod" or not target.name:
        return None
    return PodRef(target.namespace or metadata.namespace, target.name)


def _ports(wires: Iterable[WireSlicePort], faults: list[Fault]) -> tuple[SlicePort, ...]:
    found: list[SlicePort] = []
    for i, wire in enumerate(wires):
        path = f"ports[{i}]"
        text = wire.protocol or "TCP"
        protocol = one_of(text, PROTOCOLS, f"{path}.protocol", faults, "the port is left out")
        if wire.port is None or not 0 < wire.port < 65536:
            shown = "null" if wire.port is None else wire.port
            reason = f"{shown}: expected a port from 1 to 65535; it is left out"
            faults.append(Fault(f"{path}.port", reason))
        elif protocol is not None:
            found.append(SlicePort(wire.name or "", protocol, wire.port))
    return tuple(found)


def _key(metadata: Metadata) -> SliceRef:
    return SliceRef(metadata.namespace, metadata.name)


ENDPOINT_SLICE = Kind(
    "EndpointSlice",
    "/apis/discovery.k8s.io/v1/endpointslices",
    WireEndpointSlice,
    endpointslice,
    _key,
)
