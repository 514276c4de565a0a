"""The cluster at one moment, as the controller knows it: values that any thread may read."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ovsnet.controller.network import Network
from ovsnet.controller.services.objections import Objection
from ovsnet.controller.views import NodeView
from ovsnet.flows.flow import Flow
from ovsnet.model import (
    EndpointSlice,
    IPAddress,
    Namespace,
    NetworkPolicy,
    Pod,
    PodRef,
    PolicyRef,
    Service,
    ServiceRef,
    SliceRef,
)
from ovsnet.names import NODE_PORTS, PortRange
from ovsnet.policy.world import World


class Snapshot(msgspec.Struct, frozen=True):
    """All objects with what is believed of them. `addresses` are those that a pod is believed to
    have on the network, whatever its status says; `objections` say what of services is not served.
    """

    nodes: Mapping[str, NodeView]
    namespaces: Mapping[str, Namespace]
    pods: Mapping[PodRef, Pod]
    addresses: Mapping[PodRef, tuple[IPAddress, ...]]
    policies: Mapping[PolicyRef, NetworkPolicy]
    services: Mapping[ServiceRef, Service] = {}
    slices: Mapping[SliceRef, EndpointSlice] = {}
    objections: tuple[Objection, ...] = ()
    node_ports: PortRange = NODE_PORTS


def snapshot(network: Network) -> Snapshot:
    """The network as it is now. To be called in the thread that changes it."""
    return Snapshot(
        nodes=dict(network.nodes),
        namespaces=dict(network.namespaces),
        pods=dict(network.pods),
        addresses={ref: network.addresses_of(ref) for ref in network.pods},
        policies=dict(network.policies),
        services=dict(network.board.services),
        slices=dict(network.board.slices),
        objections=tuple(network.board.objections),
        node_ports=network.board.node_ports,
    )


def world(seen: Snapshot) -> World:
    """What the evaluator of policies decides by. Pods have the addresses that are believed."""
    return World(
        namespaces=seen.namespaces,
        pods={
            ref: pod
            if pod.host_network or pod.addresses == (believed := seen.addresses[ref])
            else msgspec.structs.replace(pod, addresses=believed)
            for ref, pod in seen.pods.items()
        },
        nodes={name: view.node for name, view in seen.nodes.items()},
        policies=seen.policies,
    )


def copied(seen: Snapshot) -> Network:
    """Another network of the same nodes, pods, ports and policies, to try changes of policies on.
    It has the same flows, but for those of services, which no policy changes.

    Its digests say nothing: they are not needed, and cost more than everything else.
    """
    network = Network(_no_fingerprint)
    network.set_nodes(view.node for view in seen.nodes.values())
    network.set_namespaces(seen.namespaces.values())
    network.set_pods(seen.pods.values())
    for name, view in seen.nodes.items():
        if view.seen:
            network.set_ports(name, view.ports)
    network.set_policies(seen.policies.values())
    return network


def _no_fingerprint(_: Flow) -> int:
    return 0
