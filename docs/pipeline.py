"""Writes docs/pipeline.md: every table with its purpose, every flow with what it is for.

What a flow is for is the docstring of the function that makes it; how it looks is the dump of a
real Open vSwitch that was given the flows of one node with a peer, a pod and two services.

    python docs/pipeline.py [FILE]
"""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import NamedTuple

from ovsnet.controller.services.board import Board
from ovsnet.flows import agreement as agreement_flows
from ovsnet.flows import balance as balance_flows
from ovsnet.flows import hostport as hostport_flows
from ovsnet.flows import node as node_flows
from ovsnet.flows import peer as peer_flows
from ovsnet.flows import pod as pod_flows
from ovsnet.flows import policy as policy_flows
from ovsnet.flows import service as service_flows
from ovsnet.flows import serving as serving_flows
from ovsnet.flows import stamp as stamp_flows
from ovsnet.flows.channel import Overlay
from ovsnet.flows.flow import Conjunction, Flow, FlowKey
from ovsnet.flows.node import gateway_of, node_block
from ovsnet.flows.peer import peer_block
from ovsnet.flows.pod import Endpoint, pod_block
from ovsnet.flows.policy import WAYS, PortRange
from ovsnet.flows.priorities import SOONER
from ovsnet.flows.registers import REGISTERS, Side
from ovsnet.flows.service import Door, EndpointSet, Target, Terms, set_id
from ovsnet.flows.serving import legs
from ovsnet.flows.text import parse_flow, print_flow, print_group
from ovsnet.model import (
    Direction,
    EndpointSlice,
    IPAddress,
    Node,
    PodRef,
    Protocol,
    Service,
    ServicePort,
    SliceEndpoint,
    SlicePort,
)
from ovsnet.names import (
    BRIDGE,
    GATEWAY_OFPORT,
    GATEWAY_PORT,
    POLICY_ZONE,
    TUNNEL_OFPORT,
    TUNNEL_PORT,
    Table,
)
from ovsnet.sandbox.openvswitch import OpenVSwitch, network_namespace

THIS = Node(
    "node-1",
    labels=(("topology.kubernetes.io/zone", "zone-a"),),
    pod_cidrs=(ip_network("10.244.0.0/24"), ip_network("fd00:10:244::/64")),
    addresses=(ip_address("172.18.0.2"),),
)
THAT = Node(
    "node-2",
    pod_cidrs=(ip_network("10.244.1.0/24"), ip_network("fd00:10:244:1::/64")),
    addresses=(ip_address("172.18.0.3"),),
)
WEB = Endpoint(
    PodRef("shop", "web"),
    3,
    "0a:58:0a:f4:00:05",
    IPv4Address("10.244.0.5"),
    IPv6Address("fd00:10:244::5"),
)
WEB_PORT = "web-k3j5n2qa"
CALLER = ip_address("10.244.1.7")
INGRESS = WAYS[Direction.INGRESS]
EGRESS = WAYS[Direction.EGRESS]
GRANT = 1001
"""The conjunction of the sample policy's one ingress rule: from CALLER, to TCP 80 and 8080-8083."""
PLAIN = Service(
    "shop",
    "web",
    addresses=(ip_address("10.96.0.20"),),
    ports=(ServicePort("", Protocol.TCP, 80, node_port=30080),),
)
STRICT = Service(
    "shop",
    "api",
    addresses=(ip_address("10.96.0.30"),),
    load_balancer=(ip_address("198.51.100.7"),),
    ports=(ServicePort("", Protocol.TCP, 443, node_port=30443),),
    external_local=True,
    affinity=10800,
    sources=(ip_network("203.0.113.0/24"),),
    health_check=32000,
)
ENDPOINTS = (
    SliceEndpoint(ip_address("10.244.0.5"), node=THIS.name, zones=(THIS.zone,)),
    SliceEndpoint(CALLER, node=THAT.name, zones=("zone-b",)),
)
HERE, THERE = (Target(endpoint.address, 8080) for endpoint in ENDPOINTS)

Maker = Callable[..., Flow | Iterable[Flow]]


class Use(NamedTuple):
    """A function that makes flows, and what it is called with."""

    maker: Maker
    arguments: tuple[object, ...] = ()


def uses() -> Iterator[Use]:
    """Every function that makes a flow of the sample node."""
    gateway = gateway_of(THIS)
    way = Overlay().way(THIS, THAT)
    assert gateway is not None
    assert way is not None
    assert WEB.ipv4 is not None
    assert WEB.ipv6 is not None
    yield Use(node_flows.from_gateway)
    yield Use(agreement_flows.from_tunnel)
    yield Use(pod_flows.from_pod, (WEB,))
    for address in WEB.addresses:
        yield Use(pod_flows.honest_packets, (WEB, address))
    yield Use(pod_flows.honest_arp, (WEB, WEB.ipv4))
    yield Use(pod_flows.honest_solicitations, (WEB, WEB.ipv6))
    yield Use(node_flows.neighbour_discovery_ends_here)
    yield Use(node_flows.no_dhcp_servers)
    yield Use(node_flows.host_traffic)
    for network in THAT.pod_cidrs:
        yield Use(peer_flows.not_through_the_host, (network,))
        yield Use(peer_flows.speaks_for_its_own_pods, (THAT.addresses[0], network))
    yield Use(node_flows.answer_arp, (int(gateway.addresses[0]),))
    yield Use(node_flows.answer_solicitation, (gateway.addresses[1],))
    yield Use(node_flows.through_conntrack)
    yield Use(node_flows.conntrack_verdicts)
    yield Use(node_flows.unroutable)
    yield Use(node_flows.no_relay)
    for address in WEB.addresses:
        yield Use(pod_flows.to_pod, (WEB, address))
    yield Use(node_flows.answers_by_the_node, (gateway.mac,))
    for address in gateway.addresses:
        yield Use(node_flows.to_gateway, (address, gateway.mac))
    for network in THAT.pod_cidrs:
        yield Use(peer_flows.to_peer, (network, way))
    for network in THIS.pod_cidrs:
        yield Use(node_flows.no_such_pod, (network,))
    yield Use(node_flows.to_the_world, (gateway.mac,))
    yield from policy_uses()
    yield from serving_uses()
    yield from plain_uses()
    yield from strict_uses()
    yield Use(agreement_flows.the_lower_node_is_right, (THIS.addresses, POLICY_ZONE))
    yield Use(agreement_flows.replies_begin_nothing)
    yield Use(node_flows.commit_new)
    yield Use(hostport_flows.commit_sent_back, (THIS.pod_cidrs,))
    yield Use(agreement_flows.replies_to_peers)
    yield Use(node_flows.send)
    yield Use(node_flows.past_empty_tables)
    yield Use(node_flows.explicit_drops)
    yield Use(stamp_flows.stamp_flow, (0x5EED,))


def policy_uses() -> Iterator[Use]:
    """Every function that makes a flow of NetworkPolicy, for a pod that is isolated both ways."""
    assert WEB.ipv4 is not None
    gateway = gateway_of(THIS)
    assert gateway is not None
    for direction in Direction:
        yield Use(policy_flows.isolated, (direction, WEB.addresses))
    services = (leg.service for leg in legs(THIS))
    yield Use(policy_flows.own_node, ((*gateway.addresses, *services, *THIS.addresses),))
    yield Use(policy_flows.drops_that_no_pod_counts)
    yield Use(policy_flows.subject, (INGRESS, WEB.ipv4, Conjunction(GRANT, 1, 3), 0))
    yield Use(policy_flows.peer, (INGRESS, CALLER, Conjunction(GRANT, 2, 3), 0))
    ranges = (PortRange(Protocol.TCP, 80, 80), PortRange(Protocol.TCP, 8080, 8083))
    yield Use(policy_flows.ports, (INGRESS, ranges, Conjunction(GRANT, 3, 3), 0))
    yield Use(policy_flows.granted, (INGRESS, GRANT, 0))
    yield Use(policy_flows.granted_to_all, (EGRESS, WEB.ipv4, 0))


def serving_uses() -> Iterator[Use]:
    """Every function that makes a flow for services before there is one."""
    gateway = gateway_of(THIS)
    assert gateway is not None
    own = legs(THIS)
    ways_in = (*THIS.addresses, *(leg.node_port for leg in own))
    yield Use(serving_flows.for_the_node, (ways_in,))
    sources = (*THIS.addresses, *(leg.gateway for leg in own))
    yield Use(serving_flows.from_the_node, (sources,))
    yield Use(service_flows.errors_for_a_node)
    yield Use(service_flows.in_fragments)
    yield Use(service_flows.towards_endpoints)
    yield Use(service_flows.known_without_an_answer)
    yield Use(service_flows.nobody_remembered)
    yield Use(service_flows.no_endpoint)
    for leg, address, network in zip(own, WEB.addresses, THIS.pod_cidrs, strict=True):
        yield Use(service_flows.called_otherwise, (leg.node_port,))
        yield Use(serving_flows.health_checks, (leg,))
        yield Use(serving_flows.hairpin, (address, leg.service))
        yield Use(serving_flows.from_host_to_host, (leg,))
        yield Use(serving_flows.from_host_to_nobody, ((*THIS.addresses, leg.gateway), leg))
        yield Use(serving_flows.from_host_to_pod, (network,))
    for address in THIS.addresses:
        yield Use(serving_flows.from_client_to_host, (address,))
    yield Use(serving_flows.refusals)
    yield Use(serving_flows.commit_served)
    yield Use(serving_flows.commit_otherwise)
    yield Use(serving_flows.answers)
    yield Use(serving_flows.refused_by_the_node, (gateway.mac,))
    yield Use(serving_flows.nobody_there, (gateway.mac,))
    yield Use(serving_flows.out_of_any_port)


def plain_uses() -> Iterator[Use]:
    """Every function that makes a flow of a service that is like most."""
    everybody, zone = _set(PLAIN), _part(PLAIN)
    for address in (*PLAIN.addresses, None):
        yield Use(service_flows.called, (_door(PLAIN, address), everybody))
    yield Use(service_flows.called_otherwise, PLAIN.addresses)
    yield Use(service_flows.balance, (everybody, (HERE, THERE)))
    yield Use(service_flows.balance_instead, (everybody, zone, (HERE,), SOONER))
    yield Use(balance_flows.spread, (len(ENDPOINTS),))


def strict_uses() -> Iterator[Use]:
    """Every function that makes a flow of a service that asks for all there is."""
    everybody, here = _set(STRICT), _set(STRICT, "local")
    (cluster,), (balancer,) = STRICT.addresses, STRICT.load_balancer
    terms = Terms(local_only=True, keep_source=True)
    yield Use(service_flows.called, (_door(STRICT, cluster), everybody))
    yield Use(service_flows.called, (_door(STRICT), here, terms))
    yield Use(service_flows.called_from_inside, (_door(STRICT), everybody))
    few, outside = STRICT.sources, _door(STRICT, balancer)
    yield Use(service_flows.called_by_the_few, (outside, here, few, terms))
    yield Use(service_flows.inside_by_the_few, (outside, everybody, few))
    for address in (cluster, balancer):
        yield Use(service_flows.called_otherwise, (address,))
    check = Door(4, Protocol.TCP, STRICT.health_check)
    yield Use(service_flows.called, (check, serving_flows.unhealthy(4)))
    yield Use(service_flows.healthy_here, (check, serving_flows.healthy(4)))
    for endpoints, targets in ((everybody, (HERE, THERE)), (here, (HERE,))):
        yield Use(service_flows.balance, (endpoints, targets))
        yield Use(service_flows.sticky, (endpoints, targets))
    yield Use(service_flows.balance_instead, (everybody, _part(STRICT), (HERE,), SOONER))
    yield Use(service_flows.sticky, (everybody, (HERE,), SOONER))
    yield Use(service_flows.forgotten, (everybody, (THERE,), SOONER))


def _door(service: Service, address: IPAddress | None = None) -> Door:
    (port,) = service.ports
    return Door(4, port.protocol, port.node_port if address is None else port.port, address)


def _set(service: Service, *which: str) -> EndpointSet:
    (port,) = service.ports
    name = (service.namespace, service.name, port.name, port.protocol, "4", *which)
    return EndpointSet(set_id(*name), 4, port.protocol, service.affinity)


def _part(service: Service) -> EndpointSet:
    whole = _set(service)
    name = ("part", str(whole.id), "zone")
    return EndpointSet(set_id(*name), whole.version, whole.protocol, whole.affinity)


def services_on_this_node() -> dict[FlowKey, Flow]:
    """The flows of the sample services, as the compiler makes them."""
    board = Board(hash)
    for service in (PLAIN, STRICT):
        port = SlicePort("", Protocol.TCP, 8080)
        board.put_service(service)
        board.put_slice(
            EndpointSlice(
                service.namespace,
                service.name,
                service=service.name,
                ports=(port,),
                endpoints=ENDPOINTS,
            )
        )
    board.take_changes()
    found = {key: flow for part in board.commons(THIS.zone) for key, flow in part.flows.items()}
    return found | {flow.key: flow for part in board.blocks_on(THIS.name) for flow in part.flows}


def flows_of(use: Use) -> tuple[Flow, ...]:
    """What a function makes."""
    made = use.maker(*use.arguments)
    return (made,) if isinstance(made, Flow) else tuple(made)


def every_flow() -> list[Flow]:
    """All flows of the sample node, as the compiler makes them."""
    blocks = (
        node_block(THIS),
        peer_block(THIS, THAT, Overlay()),
        pod_block(WEB, [leg.service for leg in legs(THIS)]),
    )
    compiled = {flow.key: flow for block in blocks for flow in block.flows}
    policies = {flow.key: flow for use in policy_uses() for flow in flows_of(use)}
    services = services_on_this_node()
    return [*(policies | services | compiled).values(), stamp_flows.stamp_flow(0x5EED)]


def explained() -> dict[tuple[object, ...], Maker]:
    """Which function makes the flow of a key."""
    makers: dict[tuple[object, ...], Maker] = {}
    for use in uses():
        makers.update((flow.key, use.maker) for flow in flows_of(use))
    return makers


def real_dump(flows: Iterable[Flow]) -> list[str]:
    """The flows as a real switch prints them, with the names of tables and ports."""
    namespace = f"ovsnet-doc-{os.getpid()}"
    with network_namespace(namespace), OpenVSwitch(namespace) as switch:
        bridge = [
            *("add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev"),
            *("protocols=OpenFlow15", "fail_mode=secure"),
        ]
        for name, number, kind in (
            (GATEWAY_PORT, GATEWAY_OFPORT, "internal"),
            (TUNNEL_PORT, TUNNEL_OFPORT, "vxlan"),
            (WEB_PORT, WEB.ofport, "internal"),
        ):
            bridge += ["--", "add-port", BRIDGE, name, "--", "set", "interface", name]
            bridge += [f"type={kind}", f"ofport_request={number}"]
            if kind == "vxlan":
                bridge += ["options:remote_ip=flow", "options:key=flow"]
        for table in Table:
            bridge += ["--", f"--id=@t{table.value}", "create", "Flow_Table", f"name={table.text}"]
            bridge += ["--", "set", "bridge", BRIDGE, f"flow_tables:{table.value}=@t{table.value}"]
        switch.vsctl(*bridge)
        groups = "\n".join(map(print_group, balance_flows.GROUPS))
        switch.ofctl("add-groups", BRIDGE, "-", stdin=groups)
        text = "\n".join(map(print_flow, flows))
        switch.ofctl("add-flows", BRIDGE, "-", stdin=text)
        dump = subprocess.run(
            ["ovs-ofctl", "-O", "OpenFlow15", "--names", "--no-stats", "dump-flows",
             f"unix:{switch.management_socket(BRIDGE)}"],
            env=switch.environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
    return [line.strip() for line in dump.stdout.splitlines() if "actions=" in line]


def document(dump: list[str]) -> str:
    """The page."""
    makers = explained()
    order = {maker: place for place, maker in enumerate(dict.fromkeys(u.maker for u in uses()))}
    ports = {GATEWAY_PORT: GATEWAY_OFPORT, TUNNEL_PORT: TUNNEL_OFPORT, WEB_PORT: WEB.ofport}
    by_table: dict[Table, dict[Maker, list[str]]] = {table: {} for table in Table}
    for line in dump:
        flow = parse_flow(line, ports).flow
        shown = re.sub(r"^cookie=\S+ ", "", line)
        by_table[flow.table].setdefault(makers[flow.key], []).append(shown)
    sample = {"this": THIS, "that": THAT, "pod": WEB.pod, "address": WEB.ipv4, "caller": CALLER}
    out = [_INTRODUCTION.format(**sample, plain=PLAIN, strict=STRICT)]
    out += [_GROUPS, "```", *map(print_group, balance_flows.GROUPS), "```\n"]
    out += ["## Registers\n", "| name | bits | meaning |", "|---|---|---|"]
    for register in REGISTERS:
        bits = register.bits
        place = f"{bits.field.text}[{bits.offset}..{bits.offset + bits.bits - 1}]"
        out.append(f"| {register.name} | `{place}` | {register.purpose} |")
    sides = ", ".join(f"{side.value} = {side.name.lower()}" for side in Side)
    out.append(f"\nSorts of ports in source and destination: {sides}.\n")
    for table, flows in by_table.items():
        out.append(f"## {table.value} {table.text}\n\n{_sentence(table.purpose)}\n")
        for maker, lines in sorted(flows.items(), key=lambda item: order[item[0]]):
            place = f"{maker.__module__.removeprefix('ovsnet.')}.{maker.__name__}"
            words = " ".join((inspect.getdoc(maker) or "").split())
            out.append(f"{words} (`{place}`)\n\n```\n" + "\n".join(lines) + "\n```\n")
    return "\n".join(out)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


_INTRODUCTION = """\
# The pipeline of br-int

Written by `make docs` from the code and from the dump of a real switch; do not edit it.

The switch is that of {this.name} ({this.pod_cidrs[0]}, {this.pod_cidrs[1]}). It knows one other
node, {that.name} ({that.pod_cidrs[0]}, at {that.addresses[0]}), and has one pod, {pod}, with the
address {address}. Policies isolate the pod in both directions; one rule allows the pod at {caller}
to call its TCP ports 80 and 8080 to 8083, another one allows it to call everybody. A packet passes
the tables from the top to the bottom. Cookies are left out here; each leads back to the object that
its flow exists for, and `ovsnet explain` names it.

There are two services, each with two endpoints: the pod here and the one at {caller}, each meant
for its own zone. One ({plain.addresses[0]}, port 80, node port 30080) is like most. The other
one ({strict.addresses[0]}, port 443, node port 30443, balancer's address {strict.load_balancer[0]})
asks for all there is: externalTrafficPolicy Local, session affinity, loadBalancerSourceRanges, a
health check. [services.md](services.md) goes through the flows of a service.
"""

_GROUPS = """\
## Groups

All that a switch ever has, whatever services there are: each takes the slot from a hash of the
connection's addresses and ports. The flow in `balance` names the group, and `spread` makes the slot
an endpoint's number.
"""


def main() -> None:
    """Write the page to the file that is named, or beside this one."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".md")
    target.write_text(document(real_dump(every_flow())))


if __name__ == "__main__":
    main()
