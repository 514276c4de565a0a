"""Small worlds of services, one for each clause, in which breaking that clause shows."""

from __future__ import annotations

from collections.abc import Iterator

from service_objects import endpoint, endpoint_slice, node, outside_at, pod_on, process_on, service
from service_strategies import STRANGER, Spot, node_ports, pod_addresses

from ovsnet.model import EndpointSlice, IPAddress, Node, Protocol, Service
from ovsnet.names import NODE_PORT_OFFSET
from ovsnet.services.world import Call, Client, Whence, World

NODES = (node(1, "east"), node(2, "west"))
THREE = (*NODES, node(3, "east"))
NEAR, FAR = "10.244.1.5", "10.244.2.5"
SIX = ("fd00:10:244:1::5", "fd00:10:244:2::5")
HOST, OTHER_HOST, BEYOND = "172.18.0.1", "172.18.0.2", "203.0.113.80"
HTTP = ("http=8080",)
OUTER = {"external": "198.51.100.1", "load_balancer": "198.51.100.2"}
BOTH = "10.96.0.1 fd00:96::1"


def web(*ports: str, **more: object) -> Service:
    """The service that most scenes are about."""
    return service("shop/web", *(ports or ("http=80@30080",)), **more)


def of(*endpoints: object, ports: tuple[str, ...] = HTTP, name: str = "a") -> EndpointSlice:
    """A slice of it."""
    return endpoint_slice("shop/web", ports, *endpoints, name=name)


def made_of(*objects: Service | EndpointSlice, nodes: tuple[Node, ...] = NODES) -> World:
    """The world of these services and slices."""
    return World.of(
        nodes,
        [o for o in objects if isinstance(o, Service)],
        [o for o in objects if isinstance(o, EndpointSlice)],
    )


def _elsewhere(**more: object) -> World:
    """A service with an endpoint on node 1 and none on node 2."""
    return made_of(web(**OUTER, **more), of(NEAR))


SCENES: dict[str, World] = {
    "one endpoint": made_of(web(), of(FAR)),
    "two endpoints": made_of(web(), of(NEAR, FAR)),
    "an endpoint on every node": made_of(web(), of(NEAR, FAR, "10.244.3.5"), nodes=THREE),
    "seventeen endpoints": made_of(web(), of(*(f"10.244.{n % 2 + 1}.{n + 5}" for n in range(17)))),
    "external addresses": made_of(web(**OUTER), of(NEAR, FAR)),
    "an external address of a node": made_of(web(external="172.18.0.2 172.18.0.1"), of(NEAR, FAR)),
    "several ports": made_of(
        web("http=80@30080", "alt=81", "dns=53@30053/UDP", "dns-tcp=53/TCP", "s=80@30080/SCTP"),
        of(NEAR, FAR, ports=("http=8080", "alt=8081", "dns=5353/UDP", "dns-tcp=5353", "s=7/SCTP")),
    ),
    "two ports for one": made_of(
        web("80"), of(NEAR, ports=("80", "81")), of(FAR, ports=("90",), name="b")
    ),
    "both families": made_of(
        web(cluster=BOTH, **OUTER), of(NEAR, FAR), of(*SIX, name="b"), nodes=NODES
    ),
    "the later family": made_of(web(cluster="fd00:96::1"), of(*SIX), of(NEAR, name="b")),
    "endpoints in the hosts' network": made_of(web(**OUTER), of(HOST, OTHER_HOST)),
    "endpoints in the hosts' network, IPv6": made_of(
        web(cluster="fd00:96::1"), of("fd00:172:18::1", "fd00:172:18::2", "2001:db8::80")
    ),
    "an endpoint beyond": made_of(web(**OUTER), of(BEYOND)),
    "no endpoint": made_of(web(cluster=BOTH, **OUTER)),
    "endpoints that are not ready": made_of(
        web(**OUTER),
        of(endpoint(NEAR, "unready"), endpoint(FAR, "gone"), endpoint(HOST, "serving")),
    ),
    "draining beside ready ones": made_of(web(), of(endpoint(NEAR, "draining"), FAR)),
    "draining ones alone": made_of(web(), of(endpoint(NEAR, "draining"), endpoint(FAR, "unready"))),
    "ready though terminating": made_of(
        web(), of(endpoint(NEAR, "published"), endpoint(FAR, "gone"))
    ),
    "slices that disagree": made_of(
        web(),
        of(endpoint(NEAR, "unready"), endpoint(FAR, node=1)),
        of(NEAR, FAR, name="b"),
    ),
    "internal Local": _elsewhere(local="internal"),
    "external Local": _elsewhere(local="external"),
    "both Local": _elsewhere(local="internal external"),
    "Local without an endpoint anywhere": made_of(
        web(local="internal external", **OUTER), of(endpoint(NEAR, "unready"))
    ),
    "Local and draining": made_of(
        web(local="internal external", **OUTER), of(endpoint(NEAR, "draining"), FAR)
    ),
    "Local and draining alone": made_of(
        web(local="internal external"), of(endpoint(NEAR, "draining"), endpoint(FAR, "unready"))
    ),
    "Local and several on a node": made_of(
        web(local="internal external", cluster=BOTH, **OUTER),
        of(NEAR, "10.244.1.6", FAR, HOST),
        of(*SIX, name="b"),
    ),
    "Local in the hosts' network": made_of(web(local="external", **OUTER), of(HOST, OTHER_HOST)),
    "health checks": made_of(
        web(local="external", health_check=31000, cluster=BOTH, **OUTER), of(NEAR)
    ),
    "health checks of what drains": made_of(
        web(local="external", health_check=31000, **OUTER), of(endpoint(NEAR, "draining"))
    ),
    "source ranges": made_of(web(sources="203.0.113.0/24 10.244.1.200/32", **OUTER), of(NEAR, FAR)),
    "source ranges of everybody": made_of(web(sources="0.0.0.0/0", **OUTER), of(NEAR, FAR)),
    "source ranges of nobody": made_of(web(sources="", **OUTER), of(NEAR, FAR)),
    "source ranges and Local": made_of(
        web(sources="203.0.113.0/24 10.244.0.0/16", local="external", **OUTER), of(NEAR)
    ),
    "source ranges without an endpoint": made_of(web(sources="203.0.113.0/24", **OUTER)),
    "an address of two ways": made_of(
        web(sources="203.0.113.0/24", external="198.51.100.2", load_balancer="198.51.100.2"),
        of(NEAR),
    ),
    "hints for zones": made_of(
        web(local="external", **OUTER),
        of(endpoint(NEAR, zones="east"), endpoint(FAR, zones="west")),
    ),
    "hints for other zones": made_of(
        web(), of(endpoint(NEAR, zones="north"), endpoint(FAR, zones="west"))
    ),
    "hints for several": made_of(
        web(),
        of(
            endpoint(NEAR, zones="east"),
            endpoint("10.244.1.6", zones="east west"),
            endpoint(FAR, zones="west"),
        ),
        nodes=THREE,
    ),
    "hints for some": made_of(web(), of(endpoint(NEAR, zones="east"), FAR)),
    "hints for nodes": made_of(
        web(),
        of(endpoint(NEAR, nodes="1", zones="west"), endpoint(FAR, nodes="2", zones="west")),
        nodes=THREE,
    ),
    "hints of what drains": made_of(
        web(), of(endpoint(NEAR, "draining", zones="east"), endpoint(FAR, "draining", zones="west"))
    ),
    "affinity": made_of(web(affinity=60, cluster=BOTH), of(NEAR, FAR), of(*SIX, name="b")),
    "affinity and one endpoint": made_of(web(affinity=60), of(FAR)),
    "affinity and Local": made_of(
        web(affinity=60, local="internal external", **OUTER), of(NEAR, "10.244.1.6", FAR)
    ),
    "affinity and hints": made_of(
        web(affinity=60),
        of(
            endpoint(NEAR, zones="east"),
            endpoint("10.244.1.6", zones="east"),
            endpoint(FAR, zones="west"),
        ),
    ),
    "affinity without an endpoint": made_of(web(affinity=60)),
    "an address of two services": made_of(
        web("80", "81", external="198.51.100.1", created="2026-01-02"),
        service(
            "bank/api", "80", cluster="10.96.0.2", external="198.51.100.1", created="2026-01-01"
        ),
        of(NEAR, ports=("8080",)),
        endpoint_slice("bank/api", ("9090",), FAR),
    ),
    "a node port of two services": made_of(
        web(created="2026-01-02"),
        service("bank/api", "80@30080", cluster="10.96.0.2", created="2026-01-01"),
        of(NEAR),
        endpoint_slice("bank/api", ("9090",), FAR),
    ),
    "a cluster address taken": made_of(
        web(),
        service("bank/api", "79", cluster="10.96.0.2", external="10.96.0.1", created="2025-01-01"),
        of(NEAR),
        endpoint_slice("bank/api", ("9090",), FAR),
    ),
    "an address in a pod range": made_of(
        web(external="10.244.2.77", load_balancer="10.244.1.77"), of(NEAR)
    ),
    "a service as an endpoint": made_of(
        web(),
        service("bank/api", "80", cluster="10.96.0.2"),
        of(NEAR, "10.96.0.2"),
        endpoint_slice("bank/api", ("9090",), FAR),
    ),
    "headless": made_of(web(cluster="", external="198.51.100.1"), of(NEAR)),
    "an address of another family": made_of(web(external="2001:db8:1::1"), of(*SIX)),
}


def scene_calls(of: World) -> Iterator[Call]:
    """From every sort of client on every node to everything that services have, and some that they
    do not.
    """
    for name, one in of.nodes.items():
        spots = list(destinations(of, one))
        for client in _clients(of, name):
            for address, protocol, port in spots:
                if address.version == client.address.version:
                    yield Call(client, address, protocol, port)


def _clients(of: World, name: str) -> Iterator[Client]:
    number = int(name.removeprefix("node-"))
    one = of.nodes[name]
    for family in (4, 6):
        yield pod_on(number, family=family)
        yield process_on(number, family)
        yield Client(Whence.NODE, name, one.addresses[family == 6])
        yield outside_at(number, family=family)
        yield outside_at(number, STRANGER[family], family)
    here = [a for a in pod_addresses(of) if any(a in r for r in one.pod_cidrs)]
    for address in here[:2]:
        yield Client(Whence.POD, name, address)
    for other in of.nodes.values():
        if other.name != name:
            yield Client(Whence.OUTSIDE, name, other.addresses[0])


def destinations(of: World, at: Node) -> Iterator[tuple[IPAddress, *Spot]]:
    """The ports of every address that a service names, one beside them, and what has none; the node
    ports of a node, and another port of it; an endpoint itself.
    """
    found: dict[IPAddress, set[Spot]] = {a: {(Protocol.TCP, 8080)} for a in pod_addresses(of)[:1]}
    for one in of.services.values():
        ports = {(p.protocol, p.port) for p in one.ports}
        for address in (*one.addresses, *one.external, *one.load_balancer):
            found.setdefault(address, {(None, None), (Protocol.TCP, 82)}).update(ports)
    for address in at.addresses:
        found.setdefault(address, set()).update({*node_ports(of), (Protocol.TCP, 30099)})
    for network in at.pod_cidrs:
        found[network[NODE_PORT_OFFSET]] = {*node_ports(of)[:1], (Protocol.TCP, 30099)}
    for address, spots in found.items():
        for protocol, port in sorted(spots, key=str):
            yield address, protocol, port
