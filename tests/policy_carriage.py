"""A world as the compiled flows of its nodes' switches, and packets carried between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from ovsnet.controller.belief import Port
from ovsnet.controller.network import Network
from ovsnet.flows.fields import Field, IpProto
from ovsnet.flows.flow import Flow
from ovsnet.flows.simulator import Connections, Packet, Switch, icmp, ip, tcp, udp
from ovsnet.model import IPAddress, Node, Pod
from ovsnet.names import (
    GATEWAY_OFPORT,
    ROUTER_MAC,
    TUNNEL_OFPORT,
    host_mac,
    pod_mac,
    port_name,
)
from ovsnet.policy.evaluate import Traffic
from ovsnet.policy.world import World, in_network

FIRST_PORT = 10
CLIENT_PORT = 40000


def ports_of(world: World, node: str) -> list[Port]:
    """The ports of the pods that are on a node's switch: those with an address that can be."""
    pods = [p for p in world.pods.values() if p.node == node and in_network(p) and p.addresses]
    return [
        Port(FIRST_PORT + k, port_name(p.namespace, p.name, p.uid), host_mac(ipv4_of(p)))
        for k, p in enumerate(sorted(pods, key=lambda p: p.ref))
    ]


def ipv4_of(pod: Pod) -> IPv4Address:
    (found,) = (a for a in pod.addresses if isinstance(a, IPv4Address))
    return found


def network_of(world: World) -> Network:
    """The network of a world, told of everything once."""
    network = Network(hash)
    network.set_namespaces(world.namespaces.values())
    network.set_policies(world.policies.values())
    network.set_pods(world.pods.values())
    network.set_nodes(world.nodes.values())
    for name in world.nodes:
        network.set_ports(name, ports_of(world, name))
    return network


@dataclass
class Carriage:
    """The switches of a world with their trackers: what passes leaves its connections there.

    `ports` are those of the pods, by their numbers; there are some for every world.
    """

    world: World
    flows: dict[str, Iterable[Flow]]
    trackers: dict[str, Connections] = field(default_factory=dict)
    switches: dict[str, Switch] = field(default_factory=dict)
    ports: dict[str, dict[int, Port]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ports = self.ports or {
            name: {p.ofport: p for p in ports_of(self.world, name)} for name in self.world.nodes
        }
        self.switches = self.switches or {
            name: Switch(flows, [GATEWAY_OFPORT, TUNNEL_OFPORT, *self.ports[name]])
            for name, flows in self.flows.items()
        }
        self.trackers = self.trackers or {name: Connections() for name in self.flows}

    @classmethod
    def of(cls, world: World) -> Carriage:
        network = network_of(world)
        return cls(world, {n: list(network.ledger(n).flows.values()) for n in world.nodes})

    def start(self, source: IPAddress, destination: IPAddress) -> tuple[str, int, str] | None:
        """Where an honest packet with these addresses enters: node, port and MAC; None: nowhere."""
        for node in self.world.nodes.values():
            if any(source in r for r in node.pod_cidrs):
                if source in gateways(node) or source in service_addresses(node):
                    return node.name, GATEWAY_OFPORT, ROUTER_MAC
                pod = self.pod_of(source)
                if pod is None:
                    return None
                name = port_name(pod.namespace, pod.name, pod.uid)
                (port,) = (n for n, p in self.ports[node.name].items() if p.name == name)
                return node.name, port, pod_mac(ipv4_of(pod))
        # From elsewhere packets come by the node that has the pod: its own, answers of other nodes
        # and those of the outside.
        for node in self.world.nodes.values():
            if any(destination in r for r in node.pod_cidrs):
                return node.name, GATEWAY_OFPORT, ROUTER_MAC
        return None

    def is_own_address_of_another_node(self, source: IPAddress, destination: IPAddress) -> bool:
        """Whether a packet would begin with an address that its node does not use for pods."""
        return any(
            source in node.addresses and not any(destination in r for r in node.pod_cidrs)
            for node in self.world.nodes.values()
        )

    def pod_of(self, address: IPAddress) -> Pod | None:
        pods = (p for p in self.world.pods.values() if in_network(p) and address in p.addresses)
        return next(pods, None)

    def arrives(self, packet: Packet, source: IPAddress, destination: IPAddress) -> bool:
        """Whether a packet comes out where its destination is: a pod, or else a node's gateway."""
        began = self.start(source, destination)
        assert began is not None
        node, port, mac = began
        out = list(self._carried(node, packet.on(port, mac, ROUTER_MAC)))
        assert len(out) <= 1, out
        if not out:
            return False
        pod = self.pod_of(destination)
        at = "gateway"
        if pod is not None:
            at = port_name(pod.namespace, pod.name, pod.uid)
        assert out == [at], (out, at)
        return True

    def _carried(self, node: str, packet: Packet) -> Iterator[str]:
        trace = self.switches[node].trace(packet, self.trackers[node])
        for step in trace.steps:
            # Several grants may allow one connection; whichever is taken does the same.
            assert all(r is not None and r.actions == step.flow.actions for r in step.rivals), trace
        self.trackers[node] = trace.tracker
        for out in trace.deliveries:
            if out.port == GATEWAY_OFPORT:
                yield "gateway"
            elif out.port == TUNNEL_OFPORT:
                yield from self._through_tunnel(node, out.packet)
            else:
                yield self.ports[node][out.port].name

    def _through_tunnel(self, node: str, packet: Packet) -> Iterator[str]:
        there, inner = self.tunnelled(node, packet)
        yield from self._carried(there, inner)

    def tunnelled(self, node: str, packet: Packet) -> tuple[str, Packet]:
        """Which node a packet that leaves by a tunnel comes to, and how it comes in there."""
        outer = packet[Field.TUN_DST] or packet[Field.TUN_IPV6_DST]
        nodes = self.world.nodes.values()
        (there,) = (n for n in nodes if outer in (int(a) for a in n.addresses))
        here = self.world.nodes[node]
        stays = (Field.REG0, Field.REG1, Field.TUN_DST, Field.TUN_IPV6_DST)
        inner = packet.replace(dict.fromkeys(stays, 0)).untracked()
        version = 4 if packet[Field.TUN_DST] else 6
        ends = (str(next(a for a in n.addresses if a.version == version)) for n in (here, there))
        return there.name, inner.through_tunnel(TUNNEL_OFPORT, packet[Field.TUN_ID], *ends)

    def leaves(self, node: str, packet: Packet) -> Packet | None:
        """A packet as it leaves a node's switch, if it does; the tracker remembers it."""
        trace = self.switches[node].trace(packet, self.trackers[node])
        self.trackers[node] = trace.tracker
        return trace.deliveries[0].packet if trace.deliveries else None


def gateways(node: Node) -> list[IPAddress]:
    return [r[1] for r in node.pod_cidrs]


def service_addresses(node: Node) -> list[IPAddress]:
    """Where connections seem to come from that services translate; nobody answers to them."""
    return [r[2] for r in node.pod_cidrs]


def first_packet(traffic: Traffic) -> Packet:
    """The packet that begins a connection."""
    return _packet(traffic, str(traffic.source), str(traffic.destination), begins=True)


def answer(traffic: Traffic) -> Packet:
    """The packet that answers it."""
    return _packet(traffic, str(traffic.destination), str(traffic.source), begins=False)


def _packet(traffic: Traffic, source: str, destination: str, begins: bool) -> Packet:
    ports = (CLIENT_PORT, traffic.port or 0)
    ports = ports if begins else ports[::-1]
    match traffic.protocol:
        case IpProto.TCP:
            return tcp(source, destination, *ports, flags=0x02 if begins else 0x12)
        case IpProto.UDP:
            return udp(source, destination, *ports)
        case IpProto.SCTP:
            sctp = {Field.SCTP_SRC: ports[0], Field.SCTP_DST: ports[1]}
            return ip(source, destination, IpProto.SCTP).replace(sctp)
        case IpProto.ICMP:
            return icmp(source, destination, 8 if begins else 0)
        case _:
            return icmp(source, destination, 128 if begins else 129)
