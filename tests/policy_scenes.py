"""Small worlds, one for each clause of the API, in which breaking that clause shows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from policy_carriage import Carriage, service_addresses
from policy_objects import block, namespace, node, peer, pod, policy, port, rule

from ovsnet.model import IPAddress, NetworkPolicy, Phase, Protocol
from ovsnet.policy.evaluate import Traffic
from ovsnet.policy.rules import NUMBERS
from ovsnet.policy.world import World, in_network, node_addresses

NODES = [node(1), node(2)]
SPACES = [namespace("shop", "team=a"), namespace("bank", "team=b"), namespace("lab")]
PODS = [
    pod("shop/web", "app=web; tier=front", node=1, host=7, ports=["http=8080", "dns=53/UDP"]),
    pod("shop/db", "app=db", node=1, host=3, ports=["http=5432", "dns=80/TCP"]),
    pod("shop/far", "app=web; tier=back", node=2, host=4, ports=["http=80"]),
    pod("bank/web", "app=web", node=2, host=5, ports=["http=8080/UDP", "dns=80/UDP"]),
    pod("lab/odd", "", node=1, host=6),
    pod("shop/host", "app=web", node=2, host_network=True),
    pod("shop/ended", "app=web", node=2, host=9, phase=Phase.SUCCEEDED),
    pod("shop/new", "app=web", node=2, host=None),
]
OUTSIDE = "203.0.113.5"
tcp, udp, sctp = Protocol
PROBES = {
    4: [
        *product((tcp,), (53, 79, 80, 443, 5432, 8080, 8081, 9000)),
        *product((udp,), (53, 80, 8080)),
        (sctp, 80),
    ],
    6: [(tcp, 80), (tcp, 8080), (udp, 53)],
}

tcp80 = port(80)

SCENES: dict[str, list[NetworkPolicy]] = {
    "no policy": [],
    "deny ingress": [policy("shop/p", ingress=[])],
    "deny egress": [policy("shop/p", egress=[])],
    "deny both, one pod": [policy("shop/p", "app=db", ingress=[], egress=[])],
    "allow everything": [policy("shop/p", ingress=[rule()], egress=[rule()])],
    "pods of the own namespace": [policy("shop/p", ingress=[rule([peer("app=web")])])],
    "pods of all namespaces": [policy("shop/p", ingress=[rule([peer("app=web", "")])])],
    "a namespace": [policy("shop/p", ingress=[rule([peer(None, "team=b")])])],
    "pods of a namespace": [
        policy("shop/p", "app=db", ingress=[rule([peer("app=web", "team=b")])])
    ],
    "egress to pods": [policy("shop/p", egress=[rule([peer("app=web", "team=b")])])],
    "In": [policy("shop/p", ingress=[rule([peer("app in db")])])],
    "NotIn": [policy("shop/p", ingress=[rule([peer("tier notin back", "")])])],
    "Exists": [policy("shop/p", ingress=[rule([peer("has tier", "")])])],
    "DoesNotExist": [policy("shop/p", ingress=[rule([peer("lacks tier", "")])])],
    "subjects by expression": [policy("shop/p", "tier notin front", ingress=[])],
    "namespaces by expression": [policy("shop/p", ingress=[rule([peer(None, "team notin b")])])],
    "a block": [
        policy("shop/p", ingress=[rule([block("203.0.113.0/24"), block("10.244.2.4/32")])])
    ],
    "a block of the other family": [policy("shop/p", ingress=[rule([block("fd00:10:244::/48")])])],
    "exceptions": [policy("shop/p", ingress=[rule([block("10.244.0.0/16", "10.244.2.4/31")])])],
    "egress exceptions": [policy("shop/p", egress=[rule([block("0.0.0.0/0", "10.244.2.0/24")])])],
    "one pod for two reasons": [
        policy(
            "shop/p", ingress=[rule([peer("app=web"), peer("tier=back"), block("10.244.2.4/32")])]
        )
    ],
    "a port": [policy("shop/p", ingress=[rule(None, [tcp80])])],
    "a port of UDP": [policy("shop/p", ingress=[rule(None, [port(53, protocol=udp)])])],
    "a port of SCTP": [policy("shop/p", ingress=[rule(None, [port(80, protocol=sctp)])])],
    "a range": [policy("shop/p", ingress=[rule(None, [port(80, 8080)])])],
    "all ports of a protocol": [policy("shop/p", ingress=[rule(None, [port(protocol=udp)])])],
    "a name, ingress": [policy("shop/p", ingress=[rule(None, [port("http")])])],
    "a name, egress": [policy("shop/p", egress=[rule(None, [port("http")])])],
    "a name of a protocol": [policy("shop/p", ingress=[rule(None, [port("dns", protocol=udp)])])],
    "a name of a peer": [policy("shop/p", egress=[rule([peer("app=web", "")], [port("http")])])],
    "a name in a block": [
        policy("shop/p", egress=[rule([block("10.244.1.0/24")], [port("http")])])
    ],
    "a name and a number": [
        policy("shop/p", ingress=[rule([peer("app=web")], [port("http"), port(9000)])])
    ],
    "a name of pods abroad": [
        policy("bank/p", egress=[rule([peer(None, "team=a")], [port("http"), port("dns")])])
    ],
    "peer and port": [policy("shop/p", "app=db", ingress=[rule([peer("app=web")], [port(5432)])])],
    "nothing understood": [policy("shop/p", ingress=[rule([], None), rule(None, [])])],
    "two policies": [
        policy("shop/p", ingress=[rule([peer("app=db")])]),
        policy("shop/q", "app=web", ingress=[rule(None, [tcp80])]),
    ],
    "both directions of one connection": [
        policy("shop/p", "app=web", egress=[rule([peer("app=db")], [port(5432)])]),
        policy("shop/q", "app=db", ingress=[rule([peer("tier=front")], [port(5432), tcp80])]),
    ],
    "the same rule twice": [
        policy("shop/p", ingress=[rule([peer("app=db")], [tcp80])]),
        policy("shop/q", ingress=[rule([peer("app=db")], [tcp80])]),
    ],
}


def world(name: str) -> World:
    return World.of(SPACES, PODS, NODES, SCENES[name])


def every_traffic(of: World) -> Iterator[Traffic]:
    """From and to every pod, node and outsider, by every protocol, to every port that matters."""
    for family in (4, 6):
        ends = list(_ends(of, family))
        for source, destination in product(ends, ends):
            if source == destination:
                continue
            for protocol, number in PROBES[family]:
                yield Traffic(source, destination, NUMBERS[protocol], number)
            yield Traffic(source, destination, 1 if family == 4 else 58)


def _ends(of: World, family: int) -> Iterator[IPAddress]:
    for each in of.pods.values():
        if in_network(each):
            yield from (a for a in each.addresses if a.version == family)
    for each in of.nodes.values():
        yield from (a for a in node_addresses(each) if a.version == family)
    if family == 4:
        yield from block(OUTSIDE).ip_block.cidr.hosts()


def deliverable(carriage: Carriage, traffic: Traffic) -> bool:
    """Whether the network has a way for it at all, were there no policies."""
    ends = traffic.source, traffic.destination
    if traffic.source == traffic.destination or traffic.port == 0:
        return False
    if carriage.start(*ends) is None or carriage.is_own_address_of_another_node(*ends):
        return False
    # Answers find back to a service address only where a service has translated the connection.
    if any(traffic.source in service_addresses(n) for n in carriage.world.nodes.values()):
        return False
    if carriage.pod_of(traffic.destination) is not None:
        return True
    return carriage.pod_of(traffic.source) is not None and not any(
        traffic.destination in r and traffic.destination != r[1]
        for each in carriage.world.nodes.values()
        for r in each.pod_cidrs
    )
