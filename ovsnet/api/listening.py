"""Where the pods behind one service listen, followed through its EndpointSlices
(discovery.k8s.io/v1), whether they are ready or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from ovsnet.api.endpointslice import WireEndpoint, WireEndpointSlice
from ovsnet.api.events import Changed, Deleted, Event, Synced
from ovsnet.api.objects import Converted, Kind, Metadata, parsed
from ovsnet.api.watch import Server, Watch
from ovsnet.model import IPAddress


class Listening(msgspec.Struct, frozen=True):
    """An address, and the ports there by the names that the service gives them."""

    address: IPAddress
    ports: Mapping[str, int]
    pod: str = ""


def _listening(wire: WireEndpointSlice) -> Converted[tuple[Listening, ...]]:
    ports = {port.name or "": port.port for port in wire.ports or () if port.port}
    found = (_at(endpoint, ports) for endpoint in wire.endpoints or ())
    return Converted(tuple(each for each in found if each is not None))


def _at(endpoint: WireEndpoint, ports: Mapping[str, int]) -> Listening | None:
    """The first address counts, as all of an endpoint's are the same by definition."""
    address = parsed(endpoint.addresses[0]) if endpoint.addresses else None
    pod = endpoint.target_ref.name if endpoint.target_ref else ""
    return None if address is None else Listening(address, ports, pod)


def merged(slices: Iterable[tuple[Listening, ...]]) -> tuple[Listening, ...]:
    """All that listen, in the order of their addresses. A pod with one of each family is there
    once, by its IPv4 address.
    """
    found: dict[object, Listening] = {}
    every = (each for listening in slices for each in listening)
    for each in sorted(every, key=lambda each: (each.address.version, each.address)):
        found.setdefault(each.pod or (each.address, *sorted(each.ports.items())), each)
    return tuple(found.values())


def watch_listening(
    server: Server,
    namespace: str,
    service: str,
    emit: Callable[[tuple[Listening, ...]], None],
) -> Watch:
    """Follows the pods behind a service: all of them, whenever that changes.

    The watch is returned not yet started. While the API server cannot be reached nothing is
    emitted. Its account needs the rights to list and watch EndpointSlices of that namespace.
    """
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    kind = Kind("EndpointSlice", path, WireEndpointSlice, _listening, _key)
    slices: dict[Any, tuple[Listening, ...]] = {}

    def listening_of(event: Event) -> None:
        match event:
            case Synced(_, objects):
                slices.clear()
                slices.update((k, v) for k, v in objects.items() if isinstance(v, tuple))
            case Changed(_, key, tuple() as value):
                slices[key] = value
            case Deleted(_, key):
                slices.pop(key, None)
            case _:
                return
        emit(merged(slices.values()))

    selector = f"kubernetes.io/service-name={service}"
    return Watch(server, kind, listening_of, label_selector=selector)


def _key(metadata: Metadata) -> str:
    return metadata.name
