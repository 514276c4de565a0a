"""Strategies: small clusters full of services that matter to each other, and the calls in them.

    @given(service_worlds().flatmap(lambda world: st.tuples(st.just(world), service_calls(world))))

Values come from small pools, so that addresses and ports clash often, endpoints stand in several
slices, and hints fit and miss. What is in a world the decoders could have made: no service has an
address of a family that it does not have, and none has a port twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from hypothesis import strategies as st
from service_objects import (
    OUTSIDE,
    STATES,
    endpoint,
    endpoint_slice,
    home,
    node,
    outside_at,
    pod_on,
    process_on,
    service,
)

from ovsnet.model import IPAddress, Node, Protocol, Service
from ovsnet.services.world import Call, Client, Whence, World, own_addresses

REFS = ("bank/api", "shop/api", "shop/db", "shop/web")
"""The services that there may be."""

BEYOND = {4: "203.0.113.80", 6: "2001:db8::80"}
"""An endpoint outside the cluster."""

STRANGER = {4: "198.51.100.77", 6: "2001:db8:2::77"}
"""A client outside whom no source range has but those of everybody."""

BYSTANDER = 200
"""The host number of a pod on every node that is nobody's endpoint."""

MOST_NODES = 3
HOSTS = (5, 6, 7)
"""The host numbers of pods that may be endpoints, on every node."""

_FAMILIES = ((4,), (4,), (6,), (4, 6), (6, 4))
_CLUSTER = {
    4: ("10.96.0.1", "10.96.0.2", "10.96.0.3", "10.96.0.4"),
    6: ("fd00:96::1", "fd00:96::2", "fd00:96::3", "fd00:96::4"),
}
_IN_A_POD_RANGE = {4: "10.244.1.77", 6: "fd00:10:244:1::77"}
_OUTER = {
    4: ("198.51.100.1", "198.51.100.2", "198.51.100.1", "10.96.0.1", _IN_A_POD_RANGE[4]),
    6: ("2001:db8:1::1", "2001:db8:1::2", "2001:db8:1::1", "fd00:96::1", _IN_A_POD_RANGE[6]),
}
_NODES_OWN = {4: ("172.18.0.1", "172.18.0.2"), 6: ("fd00:172:18::1", "fd00:172:18::2")}
_PORT_SETS = (
    ("http=80",),
    ("80@30080",),
    ("http=80@30080",),
    ("http=80@30080", "dns=53@30053/UDP"),
    ("http=80@30081", "alt=81@30080"),
    ("dns=53@30080/UDP", "dns-tcp=53@30080"),
    ("http=443", "http=443/UDP"),
)
_SCTP = ("http=80@30080", "sctp=80@30080/SCTP")
_SOURCES = (
    (),
    ("203.0.113.0/24", "2001:db8::/64"),
    ("203.0.113.0/24",),
    ("10.244.1.0/24", "fd00:10:244:1::/64", "172.18.0.0/16"),
    ("0.0.0.0/0", "2001:db8:2::77/128"),
)
_HEALTH_CHECKS = (0, 31000, 31000, 30080)
_STATES = ("ready",) * 5 + tuple(STATES)
_ZONES = ("", "east", "west", "east", "west")
_HINTS = ("", "east", "west", "east west", "north")
_NODE_HINTS = ("", "1", "2", "1 2", "9")


def _rarely(values: Iterable[str], otherwise: str = "") -> st.SearchStrategy[str]:
    """One of these now and then, mostly the other."""
    return st.sampled_from((*(otherwise,) * 8, *values))


_IN_SLICES = {
    version: st.sampled_from(
        [
            *(str(node(n).pod_cidrs[version == 6][h]) for n in (1, 2, 3, 9) for h in HOSTS),
            *(str(node(n).addresses[version == 6]) for n in (1, 2, 3)),
            BEYOND[version],
            _CLUSTER[version][0],
        ]
    )
    for version in (4, 6)
}
_COUNTS = st.sampled_from((0, 1, 1, 2, 2, 3, 4))
_LOCALS = st.sampled_from(("", "", "internal", "external", "external", "internal external"))
_CREATED = st.sampled_from(("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"))
_BOOLEANS = st.booleans()
_SLICE_COUNTS = st.sampled_from((0, 1, 1, 2, 2))
_NOBODYS = st.sampled_from(((), (), ("shop/unknown",), ("bank/web",)))
_ZONE = st.sampled_from(_ZONES)
_NAMES = {
    most: st.lists(st.sampled_from(REFS), unique=True, min_size=most // 2, max_size=most)
    for most in range(1, len(REFS) + 1)
}
_FAMILY_SETS = st.sampled_from(_FAMILIES)
_CLUSTER_ADDRESSES = {
    (family, place): _rarely((pool[0], _IN_A_POD_RANGE[family]), pool[place])
    for family, pool in _CLUSTER.items()
    for place in range(len(REFS))
}
_PORTS = {True: st.sampled_from((*_PORT_SETS, _SCTP)), False: st.sampled_from(_PORT_SETS)}
_SOURCE_RANGES = st.sampled_from(_SOURCES)
_TIMEOUTS = st.sampled_from((0, 0, 60))
_CHECKS = st.sampled_from(_HEALTH_CHECKS)
_OUTER_ADDRESSES = {
    (family, nodes_own): st.lists(
        st.sampled_from(pool + (_NODES_OWN[family] if nodes_own else ())), max_size=2, unique=True
    )
    for family, pool in _OUTER.items()
    for nodes_own in (False, True)
}
_HINTED = st.sampled_from(("", "z", "z", "n", "zn"))
_ENDPOINTS = {
    (family, count): st.lists(addresses, min_size=count, max_size=count)
    for family, addresses in _IN_SLICES.items()
    for count in range(5)
}
_CONDITIONS = st.sampled_from(_STATES)
_ELSEWHERE = st.sampled_from((0, 1, 2))
_FOR_ZONES = st.sampled_from(_HINTS)
_FOR_NODES = st.sampled_from(_NODE_HINTS)
_DIGITS = st.integers(0, 9)
_MOSTLY = st.sampled_from((True, True, True, True, False))


@st.composite
def service_worlds(draw, max_services=4, sctp=True, nodes_own=False):
    """A `World` of 1 to 3 nodes in zones or not, up to `max_services` services with slices of
    theirs, and some slices of nobody's.

    Services have either family or both, and clash in addresses and ports; some are headless. Their
    endpoints are pods, nodes, strangers and other services. With `nodes_own` external addresses
    may be nodes' own ones.
    """
    count = draw(st.integers(1, MOST_NODES))
    nodes = [node(number, draw(_ZONE)) for number in range(1, count + 1)]
    most = draw(st.integers(1, max_services))
    names = draw(_NAMES[most])
    services = [draw(_services(name, sctp, nodes_own)) for name in names]
    owners = {str(one.ref): one for one in services}
    slices = [
        draw(_slices(name, number, *_shape(owners.get(name))))
        for name in (*names, *draw(_NOBODYS))
        for number in range(draw(_SLICE_COUNTS))
    ]
    return World.of(nodes, services, slices)


def _shape(owner: Service | None) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The ports, in words, and the families that slices of a service may have."""
    if owner is None:
        return ("http=8080",), (4, 6)
    texts = (
        f"{port.name}={port.port + 8000}/{port.protocol}".removeprefix("=") for port in owner.ports
    )
    return (*texts, "http=8088"), owner.families


@st.composite
def _services(draw, name, sctp, nodes_own):
    families = draw(_FAMILY_SETS)
    created = draw(_CREATED)
    if not draw(_MOSTLY) and draw(_BOOLEANS):
        return service(name, cluster="", created=created)
    place = REFS.index(name)
    cluster = [draw(_CLUSTER_ADDRESSES[family, place]) for family in families]
    balanced = draw(_BOOLEANS)
    external = _addresses(draw, families, nodes_own)
    local = draw(_LOCALS)
    sources = draw(_SOURCE_RANGES) if balanced and draw(_BOOLEANS) else None
    checked = balanced and "external" in local
    return service(
        name,
        *draw(_PORTS[sctp]),
        cluster=" ".join(cluster),
        external=external,
        load_balancer=_addresses(draw, families, nodes_own) if balanced else "",
        local=local,
        affinity=draw(_TIMEOUTS),
        sources=None if sources is None else " ".join(sources),
        health_check=draw(_CHECKS) if checked else 0,
        created=created,
    )


def _addresses(draw, families, nodes_own):
    return " ".join(a for f in families for a in draw(_OUTER_ADDRESSES[f, nodes_own]))


@st.composite
def _slices(draw, owner, number, ports, families):
    family = families[draw(_DIGITS) % len(families)] if draw(_MOSTLY) else 4 + 2 * draw(_BOOLEANS)
    hinted = draw(_HINTED)
    endpoints = [
        endpoint(
            address,
            draw(_CONDITIONS),
            node=None if draw(_MOSTLY) else draw(_ELSEWHERE),
            zones=draw(_FOR_ZONES) if "z" in hinted else "",
            nodes=draw(_FOR_NODES) if "n" in hinted else "",
        )
        for address in draw(_ENDPOINTS[family, draw(_COUNTS)])
    ]
    some = ports if draw(_MOSTLY) else ports[draw(_DIGITS) % len(ports) :]
    return endpoint_slice(owner, some, *endpoints, name=f"{number}-{draw(_DIGITS)}")


# --- calls ---


def clients(world: World) -> list[Client]:
    """Everybody who may call, at every node and in both families: a pod that is nobody's endpoint,
    pods that are, the node from the gateway's address and from its own, and clients outside, of
    whom one is another node.
    """
    found: dict[Client, None] = {}
    for one in world.nodes.values():
        for client in _clients_at(world, one):
            found[client] = None
    return list(found)


def _clients_at(world: World, one: Node) -> Iterator[Client]:
    number = int(one.name.removeprefix("node-"))
    for family in (4, 6):
        yield pod_on(number, BYSTANDER, family)
        yield process_on(number, family)
        yield Client(Whence.NODE, one.name, one.addresses[family == 6])
        for text in (OUTSIDE[family], STRANGER[family], BEYOND[family]):
            yield outside_at(number, text, family)
    for address in pod_addresses(world):
        if home(address) == one.name:
            yield Client(Whence.POD, one.name, address)
    for other in world.nodes.values():
        if other != one:
            yield from (Client(Whence.OUTSIDE, one.name, a) for a in other.addresses)


def pod_addresses(world: World) -> list[IPAddress]:
    """The addresses of all pods that are endpoints in a world."""
    ranges = [r for one in world.nodes.values() for r in one.pod_cidrs]
    found = dict.fromkeys(e.address for one in world.slices.values() for e in one.endpoints)
    return [address for address in found if any(address in r for r in ranges)]


Spot = tuple[Protocol | None, int | None]
"""The protocol and port of a call."""

_NOT_A_NODE_PORT = (Protocol.TCP, 30099)
_OTHER = {Protocol.TCP: Protocol.UDP, Protocol.UDP: Protocol.TCP, Protocol.SCTP: Protocol.UDP}


def destinations(world: World, at: str) -> dict[IPAddress, set[Spot]]:
    """Where calls that meet the switch of a node may go, by address: every address that a service
    names, at the ports of the services that name it, at ports beside those in number and protocol,
    and without a port; every address of a node, at node ports, health checks and others, those of
    other nodes at one port each; an address that is nobody's, and a pod.
    """
    found: dict[IPAddress, set[Spot]] = {
        ip_address(one): {(Protocol.TCP, 80)} for one in (_CLUSTER[4][3], _CLUSTER[6][3])
    }
    for address in pod_addresses(world)[:1]:
        found[address] = {(Protocol.TCP, 8080)}
    for one in world.services.values():
        ports = [(port.protocol, port.port) for port in one.ports] or [(Protocol.TCP, 80)]
        near = {(_OTHER[protocol], number) for protocol, number in ports}
        near |= {(protocol, number + 1) for protocol, number in ports}
        for address in (*one.addresses, *one.external, *one.load_balancer):
            found[address] = found.get(address, set()) | near | {*ports, (None, None)}
    spots = node_ports(world)
    for name in world.nodes:
        # Nobody but nodes knows node port addresses, and they send node ports there alone.
        here = {_NOT_A_NODE_PORT, (None, None)} if name == at else set()
        for address in own_addresses(world, name):
            more = here if address in world.nodes[name].addresses else set()
            found[address] = (
                found.get(address, set()) | more | set(spots if name == at else spots[:1])
            )
    return found


def node_ports(world: World) -> list[Spot]:
    """Every node port and health check that a service names, in order."""
    services = world.services.values()
    ports = {(p.protocol, p.node_port) for one in services for p in one.ports if p.node_port}
    checks = {(Protocol.TCP, one.health_check) for one in services if one.health_check}
    return sorted(ports | checks)


def calls(world: World) -> Iterator[Call]:
    """Every interesting call of a world: from each of `clients` to all `destinations` of the same
    family. There may be some thousands.
    """
    places = {name: destinations(world, name) for name in world.nodes}
    for client in clients(world):
        for address, spots in places[client.node].items():
            if address.version == client.address.version:
                yield from (Call(client, address, *spot) for spot in sorted(spots, key=str))


def service_calls(world: World) -> st.SearchStrategy[Call]:
    """One of the `calls` of a world, most of them to ports that there are, and many of pods that
    are endpoints themselves: by far most of all calls are for no service, or refused.
    """
    named = {
        (address, port.protocol, port.port)
        for one in world.services.values()
        for address in (*one.addresses, *one.external, *one.load_balancer)
        for port in one.ports
    }
    named |= {
        (address, *spot)
        for node_name in world.nodes
        for address in own_addresses(world, node_name)
        for spot in node_ports(world)
    }
    found = list(calls(world))
    right = [one for one in found if (one.destination, one.protocol, one.port) in named]
    pods = set(pod_addresses(world))
    own = [one for one in right if one.client.whence is Whence.POD and one.client.address in pods]
    return st.sampled_from([pool for pool in (right, right, own, found) if pool]).flatmap(
        st.sampled_from
    )
