"""A world of services as the compiled flows of its nodes' switches, and packets carried through
them, from the port of whoever sends them to those of whom they reach.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from policy_carriage import CLIENT_PORT, Carriage, ports_of
from policy_objects import pod
from service_strategies import BYSTANDER, pod_addresses

from ovsnet.controller.network import Network
from ovsnet.flows.fields import EthType, Field, IpProto
from ovsnet.flows.flow import Action, Ct, Flow, OwnerKind
from ovsnet.flows.node import gateway_of
from ovsnet.flows.registers import COUNT, SLOT, Register
from ovsnet.flows.simulator import Packet, Switch, echo, ip, tcp, udp
from ovsnet.flows.simulator.packet import SYN
from ovsnet.flows.terms import mac
from ovsnet.model import IPAddress, Namespace, NetworkPolicy, Pod, Protocol
from ovsnet.names import (
    FIRST_POD_OFFSET,
    GATEWAY_OFPORT,
    REFUSER_MAC,
    ROUTER_MAC,
    TUNNEL_OFPORT,
    Table,
    address_of_host_mac,
    pod_mac,
    port_name,
)
from ovsnet.policy.world import World as Cluster
from ovsnet.services.world import Call, Client, Endpoint, Whence, World

F = Field
_PORTS = {
    IpProto.TCP: (F.TCP_SRC, F.TCP_DST),
    IpProto.UDP: (F.UDP_SRC, F.UDP_DST),
    IpProto.SCTP: (F.SCTP_SRC, F.SCTP_DST),
}


class Arrival(NamedTuple):
    """A packet that has left a switch by a port of a pod or by the gateway port."""

    node: str
    port: int
    packet: Packet

    @property
    def refused(self) -> bool:
        """Whether the node is to refuse it."""
        at_gateway = self.port == GATEWAY_OFPORT
        return at_gateway and self.packet[F.ETH_SRC] == mac(REFUSER_MAC)

    @property
    def where(self) -> tuple[str, int]:
        """The node and the port."""
        return self.node, self.port


class Journey(NamedTuple):
    """What became of a packet: where it came out, which zones of trackers it passed on the way, and
    from how many buckets groups chose.
    """

    arrivals: tuple[Arrival, ...]
    zones: tuple[int, ...]
    choices: tuple[int, ...]


Choices = tuple[int, ...]
"""The buckets that groups take, one after the other."""


def pods_of(world: World) -> list[Pod]:
    """The pods that a world speaks of, and one more on each node."""
    found: dict[tuple[str, int], Pod] = {}
    for node in world.nodes.values():
        number = int(node.name.removeprefix("node-"))
        hosts = {BYSTANDER}
        for address in pod_addresses(world):
            for network in node.pod_cidrs:
                if address in network:
                    hosts.add(int(address) - int(network.network_address))
        for host in sorted(hosts):
            if FIRST_POD_OFFSET <= host < 255:
                found[node.name, host] = pod(f"shop/pod-{number}-{host}", node=number, host=host)
    return list(found.values())


def network_of(world: World, cluster: Cluster) -> Network:
    """The network of a world and of the pods and policies in it, told of everything once."""
    network = Network(hash)
    network.set_namespaces(cluster.namespaces.values())
    network.set_policies(cluster.policies.values())
    network.set_services(world.services.values())
    network.set_slices(world.slices.values())
    network.set_pods(cluster.pods.values())
    network.set_nodes(world.nodes.values())
    for name in world.nodes:
        network.set_ports(name, ports_of(cluster, name))
    return network


@dataclass
class ServiceCarriage(Carriage):
    """The switches of a world with their trackers.

    `services` is that world as services see it, `places` says by which port a pod's address is
    reached, `slots` which slots lead to different endpoints: for every number of endpoints that a
    switch knows to choose from, one slot for each.
    """

    services: World = field(default_factory=World)
    places: Mapping[IPAddress, tuple[str, int]] = field(default_factory=dict)
    slots: Mapping[str, Mapping[int, list[int]]] = field(default_factory=dict)

    @classmethod
    def serving(
        cls,
        world: World,
        pods: Iterable[Pod] | None = None,
        spaces: Iterable[Namespace] = (),
        policies: Iterable[NetworkPolicy] = (),
    ) -> ServiceCarriage:
        """The carriage of a world, of the pods that it speaks of unless others are given."""
        known = pods_of(world) if pods is None else pods
        return cls.of_network(world, Cluster.of(spaces, known, world.nodes.values(), policies))

    @classmethod
    def of_network(cls, world: World, cluster: Cluster) -> ServiceCarriage:
        """The carriage of a world with these pods and policies."""
        network = network_of(world, cluster)
        flows = {name: list(network.ledger(name).flows.values()) for name in world.nodes}
        ports = {n: {p.ofport: p for p in ports_of(cluster, n)} for n in world.nodes}
        by_name = {(n, p.name): p.ofport for n, here in ports.items() for p in here.values()}
        return cls(
            cluster,
            flows,
            switches={
                name: Switch(found, [GATEWAY_OFPORT, TUNNEL_OFPORT, *ports[name]])
                for name, found in flows.items()
            },
            ports=ports,
            services=world,
            places={
                address: (p.node, by_name[p.node, port_name(p.namespace, p.name, p.uid)])
                for p in cluster.pods.values()
                for address in p.addresses
                if (p.node, port_name(p.namespace, p.name, p.uid)) in by_name
            },
            slots={name: _representatives(found) for name, found in flows.items()},
        )

    @cached_property
    def plain(self) -> ServiceCarriage:
        """The same switches without any flow that is there for a service."""
        left = {
            name: [flow for flow in flows if flow.cookie >> 56 != OwnerKind.SERVICE]
            for name, flows in self.flows.items()
        }
        return dataclasses.replace(
            self,
            flows=left,
            services=World(self.services.nodes),
            switches={n: Switch(found, self.switches[n].ports) for n, found in left.items()},
            trackers={},
        )

    def alone(self) -> ServiceCarriage:
        """The same switches by themselves: what they track and learn from now on is their own."""
        return dataclasses.replace(self, trackers=dict(self.trackers), switches=dict(self.switches))

    def becoming(self, world: World) -> ServiceCarriage:
        """The switches with the flows of another world of the same nodes; what they track and have
        learnt stays.
        """
        changed = self.of_network(world, self.world)
        changed.trackers = dict(self.trackers)
        changed.switches = {
            name: switch.having(self.switches[name].tables[Table.AFFINITY].flows)
            for name, switch in changed.switches.items()
        }
        return changed

    def door(self, client: Client) -> tuple[str, int]:
        """By which port of which node a client's packets enter, and answers reach it."""
        if client.whence is Whence.POD:
            return self.places[client.address]
        return client.node, GATEWAY_OFPORT

    def ways(self, node: str, port: int, packet: Packet) -> list[Choices]:
        """Choices of buckets with which the packet gets to each endpoint that groups may choose."""
        trace = self.switches[node].trace(self._entering(node, port, packet), self.trackers[node])
        if not trace.choices:
            return [()]
        counts = {_value(COUNT, s.packet) for s in trace.steps if s.table is Table.SPREAD}
        sizes = [choice.of for choice in trace.choices]
        slots = {slot for count in counts for slot in self.slots[node].get(count, ())}
        return [_digits(slot, sizes) for slot in sorted(slots)] or [()]

    def carry(self, node: str, port: int, packet: Packet, choices: Choices = ()) -> Journey:
        """Carry a packet that enters by a port as far as it goes; the trackers remember it."""
        arrivals: list[Arrival] = []
        zones: list[int] = []
        taken: list[int] = []
        waiting = [(node, self._entering(node, port, packet))]
        for here, inner in waiting:
            trace = self.switches[here].trace(inner, self.trackers[here], choices)
            self.trackers[here] = trace.tracker
            self.switches[here] = self.switches[here].having(trace.learnt)
            taken += [choice.of for choice in trace.choices]
            for step in trace.steps:
                flow = step.flow
                assert flow is None or all(r and r.actions == flow.actions for r in step.rivals)
                zones += _zones(flow)
            for out in trace.deliveries:
                if out.port != TUNNEL_OFPORT:
                    arrivals.append(Arrival(here, out.port, bare(out.packet)))
                    continue
                assert here == node, "it goes from tunnel to tunnel"
                outer = {f: out.packet[f] for f in (F.TUN_ID, F.TUN_DST)}
                waiting.append(self.tunnelled(here, bare(out.packet).replace(outer)))
        return Journey(tuple(arrivals), tuple(zones), tuple(taken))

    def mac_at(self, node: str, port: int) -> int:
        """The MAC of whoever is at a port: a pod, or the node itself."""
        found = self.ports[node].get(port)
        if found is not None:
            key = address_of_host_mac(found.mac)
            assert key is not None
            return mac(pod_mac(key))
        gateway = gateway_of(self.services.nodes[node])
        assert gateway is not None
        return gateway.mac

    def _entering(self, node: str, port: int, packet: Packet) -> Packet:
        ends = {F.ETH_SRC: self.mac_at(node, port), F.ETH_DST: mac(ROUTER_MAC)}
        return packet.on(port).replace(ends)


def _representatives(flows: Iterable[Flow]) -> dict[int, list[int]]:
    """One slot for each way that a connection may go, by the number of endpoints."""
    found: dict[int, dict[tuple[Action, ...], int]] = {}
    for flow in flows:
        if flow.table is Table.SPREAD and flow.match:
            terms = {term.field: term.value for term in flow.match}
            ways = found.setdefault(_part(COUNT, terms[COUNT.bits.field]), {})
            ways.setdefault(flow.actions, _part(SLOT, terms[SLOT.bits.field]))
    return {count: list(ways.values()) for count, ways in found.items()}


def _digits(slot: int, sizes: list[int]) -> Choices:
    """The buckets, one of each size, that together make a slot; the first counts most."""
    found: list[int] = []
    for size in reversed(sizes):
        slot, digit = divmod(slot, size)
        found.append(digit)
    return tuple(reversed(found))


def _value(register: Register, packet: Packet) -> int:
    return _part(register, packet[register.bits.field])


def _part(register: Register, value: int) -> int:
    return (value & register.mask) >> register.bits.offset


def _zones(flow: Flow | None) -> list[int]:
    actions = () if flow is None else flow.actions
    return [a.zone for a in actions if isinstance(a, Ct) and a.table is not None]


# --- packets ---


def bare(packet: Packet) -> Packet:
    """A packet as it is on a wire: its headers alone."""
    headers = (0,) * F.ETH_DST + packet.values[F.ETH_DST :]
    return Packet(headers, None if packet.quoted is None else bare(packet.quoted))


def ends(packet: Packet) -> tuple[Endpoint, Endpoint]:
    """Source and destination of a packet; the ports of ICMP are 0."""
    if packet[F.ETH_TYPE] == EthType.IPV6:
        addresses: tuple[IPAddress, ...] = (
            IPv6Address(packet[F.IPV6_SRC]),
            IPv6Address(packet[F.IPV6_DST]),
        )
    else:
        addresses = IPv4Address(packet[F.IPV4_SRC]), IPv4Address(packet[F.IPV4_DST])
    fields = _PORTS.get(IpProto(packet[F.IP_PROTO]))
    numbers = (packet[fields[0]], packet[fields[1]]) if fields else (0, 0)
    return Endpoint(addresses[0], numbers[0]), Endpoint(addresses[1], numbers[1])


def between(
    protocol: Protocol | None, source: Endpoint, destination: Endpoint, flags: int = SYN
) -> Packet:
    """A packet of one of these protocols; without one a ping."""
    one, other = str(source.address), str(destination.address)
    match protocol:
        case Protocol.TCP:
            return tcp(one, other, source.port, destination.port, flags=flags)
        case Protocol.UDP:
            return udp(one, other, source.port, destination.port)
        case Protocol.SCTP:
            ports = {F.SCTP_SRC: source.port, F.SCTP_DST: destination.port}
            return ip(one, other, IpProto.SCTP).replace(ports)
    return echo(one, other)


def ends_of(call: Call) -> tuple[Endpoint, Endpoint]:
    """Source and destination of a call."""
    port = 0 if call.protocol is None else CLIENT_PORT
    return Endpoint(call.client.address, port), Endpoint(call.destination, call.port or 0)
