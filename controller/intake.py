"""What the API server's events mean to the network: which of its methods takes which kind."""

from __future__ import annotations

from typing import TypeVar

from ovsnet.api import (
    ENDPOINT_SLICE,
    NAMESPACE,
    NETWORK_POLICY,
    NODE,
    POD,
    SERVICE,
    Changed,
    Deleted,
    Synced,
)
from ovsnet.controller.network import Deltas, Network
from ovsnet.model import (
    EndpointSlice,
    Namespace,
    NetworkPolicy,
    Node,
    Pod,
    PodRef,
    PolicyRef,
    Service,
    ServiceRef,
    SliceRef,
)

_ObjectT = TypeVar("_ObjectT")


def take_all(network: Network, event: Synced) -> Deltas:
    """All objects of a kind have been listed."""

    def those(kind: type[_ObjectT]) -> list[_ObjectT]:
        return [each for each in event.objects.values() if isinstance(each, kind)]

    take = {
        NODE: lambda: network.set_nodes(those(Node)),
        NAMESPACE: lambda: network.set_namespaces(those(Namespace)),
        POD: lambda: network.set_pods(those(Pod)),
        NETWORK_POLICY: lambda: network.set_policies(those(NetworkPolicy)),
        SERVICE: lambda: network.set_services(those(Service)),
        ENDPOINT_SLICE: lambda: network.set_slices(those(EndpointSlice)),
    }
    return take[event.kind]()


def take(network: Network, event: Changed | Deleted) -> Deltas:
    """An object was written or deleted."""
    return _changed(network, event) if isinstance(event, Changed) else _deleted(network, event)


def _changed(network: Network, event: Changed) -> Deltas:
    match event.object:
        case Node() as node:
            return network.put_node(node)
        case Pod() as pod:
            return network.put_pod(pod)
        case Namespace() as namespace:
            return network.put_namespace(namespace)
        case NetworkPolicy() as policy:
            return network.put_policy(policy)
        case Service() as service:
            return network.put_service(service)
        case EndpointSlice() as part:
            return network.put_slice(part)
        case _:
            return {}


def _deleted(network: Network, event: Deleted) -> Deltas:
    match event:
        case Deleted(kind, key) if kind is NODE:
            return network.drop_node(str(key))
        case Deleted(kind, key) if kind is NAMESPACE:
            return network.drop_namespace(str(key))
        case Deleted(kind, (namespace, name), uid) if kind is POD:
            return network.drop_pod(PodRef(namespace, name), uid)
        case Deleted(kind, (namespace, name), uid) if kind is NETWORK_POLICY:
            return network.drop_policy(PolicyRef(namespace, name), uid)
        case Deleted(kind, (namespace, name), uid) if kind is SERVICE:
            return network.drop_service(ServiceRef(namespace, name), uid)
        case Deleted(kind, (namespace, name), uid) if kind is ENDPOINT_SLICE:
            return network.drop_slice(SliceRef(namespace, name), uid)
        case _:
            return {}
