"""One node's flows with services of every sort, and packets that meet them, for comparing the
simulator with ofproto/trace.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

from ovsnet.controller.belief import Port
from ovsnet.controller.network import Network
from ovsnet.flows.fields import Field
from ovsnet.flows.flow import Flow
from ovsnet.flows.serving import legs
from ovsnet.flows.simulator import Packet, icmp, tcp, udp
from ovsnet.flows.simulator.packet import ACK, RST, SYN
from ovsnet.model import (
    EndpointSlice,
    Node,
    Pod,
    Protocol,
    Service,
    ServicePort,
    SliceEndpoint,
    SlicePort,
)
from ovsnet.names import GATEWAY_OFPORT, HEALTHY_PORT, ROUTER_MAC, host_mac, pod_mac, port_name

F = Field
HERE = Node(
    "here",
    pod_cidrs=(ip_network("10.244.1.0/24"), ip_network("fd00:244:1::/64")),
    # Higher than the other node's, which therefore knows better who began a connection.
    addresses=(ip_address("192.168.7.9"),),
)
THERE = Node(
    "there",
    pod_cidrs=(ip_network("10.244.2.0/24"), ip_network("fd00:244:2::/64")),
    addresses=(ip_address("192.168.7.2"),),
)
PODS = tuple(
    Pod(
        "shop",
        f"web-{number}",
        f"uid-{number}",
        HERE.name,
        addresses=(HERE.pod_cidrs[0][number], HERE.pod_cidrs[1][number]),
    )
    for number in (3, 4)
)
LEGS = legs(HERE)
TCP, UDP = Protocol.TCP, Protocol.UDP
CLIENT = "203.0.113.5"


def _service(name: str, host: int, *ports: ServicePort, **more: object) -> Service:
    addresses = (ip_address(f"10.96.0.{host}"), ip_address(f"fd00:96::{host}"))
    return Service("shop", name, addresses=addresses, ports=ports, families=(4, 6), **more)  # type: ignore[arg-type]


SERVICES = (
    _service("one", 1, ServicePort("http", TCP, 80, 30080)),
    _service("few", 2, ServicePort("http", TCP, 80, 30081), ServicePort("dns", UDP, 53)),
    _service("affine", 3, ServicePort("http", TCP, 80), affinity=60),
    _service("nobody", 4, ServicePort("http", TCP, 80, 30084)),
    _service(
        *("local", 5, ServicePort("http", TCP, 80, 30085)),
        external_local=True,
        internal_local=True,
        health_check=31005,
        load_balancer=(ip_address("198.51.100.5"),),
        sources=(ip_network("10.244.1.0/28"),),
    ),
    _service(
        *("elsewhere", 6, ServicePort("http", TCP, 80, 30086)),
        external_local=True,
        health_check=31006,
    ),
)
_ENDPOINTS = {
    "one": ("1.3",),
    "few": ("1.3", "1.4", "2.3"),
    "affine": ("1.3", "2.3"),
    "local": ("1.4", "2.3"),
    "elsewhere": ("2.3",),
}


def _slices() -> Iterator[EndpointSlice]:
    for (name, hosts), version in itertools.product(_ENDPOINTS.items(), (4, 6)):
        endpoints = []
        for host in hosts:
            node, number = host.split(".")
            text = f"10.244.{host}" if version == 4 else f"fd00:244:{node}::{number}"
            where = HERE.name if node == "1" else THERE.name
            endpoints.append(SliceEndpoint(ip_address(text), node=where))
        yield EndpointSlice(
            "shop",
            f"{name}-{version}",
            service=name,
            ports=(SlicePort("http", TCP, 8080), SlicePort("dns", UDP, 53)),
            endpoints=tuple(endpoints),
        )


def served_flows() -> list[Flow]:
    """What a node with two pods, one other node and the services compiles to."""
    network = Network(hash)
    network.set_services(SERVICES)
    network.set_slices(_slices())
    network.set_pods(PODS)
    network.set_nodes((HERE, THERE))
    names = [port_name(pod.namespace, pod.name, pod.uid) for pod in PODS]
    macs = [host_mac(int(pod.addresses[0])) for pod in PODS]
    network.set_ports(HERE.name, map(Port, (3, 4), names, macs))
    return list(network.ledger(HERE.name).flows.values())


def served_packets() -> Iterator[Packet]:
    """Packets to and from services, from everywhere, in the connections' every state."""
    yield from _calls()
    yield from _answers()
    yield from _errors()
    yield from _checks()


def _from(source: str, body: Packet) -> Packet:
    """A packet as it comes from a pod, or through the node's gateway port."""
    for number, pod in enumerate(PODS, 3):
        if ip_address(source) in pod.addresses:
            return body.on(number, pod_mac(int(pod.addresses[0])), ROUTER_MAC)
    return body.on(GATEWAY_OFPORT, pod_mac(int(HERE.pod_cidrs[0][1])), ROUTER_MAC)


_SOURCES = {
    4: ("10.244.1.3", "10.244.1.4", "10.244.1.1", "192.168.7.9", "10.244.1.9", CLIENT),
    6: ("fd00:244:1::3", "fd00:244:1::4", "fd00:244:1::1", "2001:db8::5"),
}
_NODE = {
    4: ("192.168.7.9", str(LEGS[0].node_port), str(LEGS[0].service), "10.244.1.3"),
    6: (str(LEGS[1].node_port), str(LEGS[1].service), "fd00:244:1::3"),
}
_NODE_PORTS = (30080, 30081, 30084, 30085, 30086, 31005, 31006, 22)


def _doors(version: int) -> Iterator[tuple[str, int]]:
    for service in SERVICES:
        yield from ((str(a), 80) for a in service.addresses if a.version == version)
        yield from ((str(a), 80) for a in service.load_balancer if a.version == version)
        yield from ((str(a), 81) for a in service.addresses if a.version == version)
    yield from itertools.product(_NODE[version], _NODE_PORTS)


def _calls() -> Iterator[Packet]:
    for version in (4, 6):
        for source, (address, port) in itertools.product(_SOURCES[version], _doors(version)):
            for flags in (SYN, ACK, RST):
                yield _from(source, tcp(source, address, 40000, port, flags=flags))
        few = [str(a) for a in SERVICES[1].addresses if a.version == version]
        for source, dp_hash in itertools.product(_SOURCES[version][:1], range(256)):
            hashed = {F.DP_HASH: dp_hash | 1 << 16}
            yield _from(source, tcp(source, few[0], 40000, 80)).replace(hashed)
            yield _from(source, udp(source, few[0], 40000, 53)).replace(hashed)


def _answers() -> Iterator[Packet]:
    for version in (4, 6):
        for source, to, mark in itertools.product(
            _SOURCES[version], _SOURCES[version], (0, 1, 3, 4, 6, 7)
        ):
            answer = tcp(source, to, 8080, 40000, flags=SYN | ACK)
            yield _from(source, answer).replace({F.CT_MARK: mark})


def _errors() -> Iterator[Packet]:
    for version in (4, 6):
        kinds = (3, 11, 12, 5) if version == 4 else (1, 2, 3, 4, 137)
        addresses = [address for address, _ in _doors(version)]
        for source, to, kind in itertools.product(_SOURCES[version], addresses, kinds):
            yield _from(source, icmp(source, to, kind))


def _checks() -> Iterator[Packet]:
    """From the agent that answers health checks."""
    for leg in LEGS:
        gateway, service = str(leg.gateway), str(leg.service)
        yield _from(gateway, tcp(gateway, service, HEALTHY_PORT, 40000, flags=SYN | ACK))
