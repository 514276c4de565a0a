"""Nodes, services, slices and calls from few words, for tests.

A port of a service in words: `http=80`, `dns=53/UDP`, `http=80@30080` with a node port, `80`
without a name. A destination in words: `10.96.0.1:80`, `[fd00:96::1]:53/UDP`, `10.96.0.1` without
a port.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from ipaddress import ip_address, ip_network

import policy_objects
from msgspec.structs import replace

from ovsnet.model import (
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
from ovsnet.names import GATEWAY_OFFSET
from ovsnet.services.evaluate import (
    Dropped,
    HealthChecked,
    NotAService,
    Outcome,
    Refused,
    evaluate,
)
from ovsnet.services.world import Call, Client, Whence, World

STATES = {
    "ready": (True, True, False),
    "draining": (False, True, True),
    "unready": (False, False, False),
    "gone": (False, False, True),
    "serving": (False, True, False),
    "published": (True, False, True),
}
"""Conditions of an endpoint: ready, serving, terminating. The last one is what a service with
`publishNotReadyAddresses` has when a pod that does not answer terminates.
"""

OUTSIDE = {4: "203.0.113.5", 6: "2001:db8::5"}


@cache
def node(number: int, zone: str = "") -> Node:
    """`node-N` with the pod ranges 10.244.N.0/24 and fd00:10:244:N::/64, at 172.18.0.N and
    fd00:172:18::N, in a zone or in none.
    """
    labels = (("topology.kubernetes.io/zone", zone),) if zone else ()
    return replace(policy_objects.node(number), labels=labels)


def service_port(text: str) -> ServicePort:
    """A port of a service from its words; see the top of this module."""
    text, _, protocol = text.partition("/")
    text, _, node_port = text.partition("@")
    name, _, number = text.rpartition("=")
    return ServicePort(name, Protocol(protocol or "TCP"), int(number), int(node_port or 0))


def slice_port(text: str) -> SlicePort:
    """A port of a slice from `http=8080`, `dns=53/UDP` or `8080`."""
    port = service_port(text)
    return SlicePort(port.name, port.protocol, port.port)


def service(
    name: str,
    *ports: str,
    cluster: str = "10.96.0.1",
    external: str = "",
    load_balancer: str = "",
    local: str = "",
    affinity: int = 0,
    sources: str | None = None,
    health_check: int = 0,
    created: str = "2026-01-01T00:00:00Z",
) -> Service:
    """The service `namespace/name`. Addresses and networks stand in one text with spaces between
    them; `local` names the traffic policies that are Local: `internal`, `external` or both.
    """
    space, short = name.split("/")
    addresses = tuple(map(ip_address, cluster.split()))
    return Service(
        space,
        short,
        uid=f"uid-of-{space}-{short}",
        created=created,
        addresses=addresses,
        external=tuple(map(ip_address, external.split())),
        load_balancer=tuple(map(ip_address, load_balancer.split())),
        ports=tuple(map(service_port, ports)),
        families=tuple(dict.fromkeys(a.version for a in addresses)) or (4,),
        internal_local="internal" in local,
        external_local="external" in local,
        affinity=affinity,
        sources=None if sources is None else tuple(map(ip_network, sources.split())),
        health_check=health_check,
    )


@cache
def home(address: IPAddress) -> str:
    """The name of the node whose pod or own address this is by `node`; empty if it is none."""
    for number in range(1, 10):
        one = node(number)
        if address in one.addresses or any(address in r for r in one.pod_cidrs):
            return one.name
    return ""


def endpoint(
    address: str,
    state: str = "ready",
    *,
    node: int | None = None,
    zones: str = "",
    nodes: str = "",
) -> SliceEndpoint:
    """An endpoint in one of `STATES`, on the node that its address belongs to, or on another one;
    0: on none. Hints are names of zones, and numbers of nodes.
    """
    found = ip_address(address)
    ready, serving, terminating = STATES[state]
    where = home(found)
    if node is not None:
        where = f"node-{node}" if node else ""
    return SliceEndpoint(
        found,
        ready,
        serving,
        terminating,
        node=where,
        zones=tuple(zones.split()),
        nodes=tuple(f"node-{number}" for number in nodes.split()),
        pod=PodRef("shop", f"pod-{address}") if where else None,
    )


def endpoint_slice(
    owner: str, ports: Iterable[str], *endpoints: SliceEndpoint | str, name: str = "a"
) -> EndpointSlice:
    """A slice of the service `namespace/name`; endpoints that are texts are ready ones."""
    space, short = owner.split("/")
    return EndpointSlice(
        space,
        f"{short}-{name}",
        uid=f"uid-of-slice-{space}-{short}-{name}",
        service=short,
        ports=tuple(map(slice_port, ports)),
        endpoints=tuple(endpoint(e) if isinstance(e, str) else e for e in endpoints),
    )


def pod_on(number: int, host: int = 200, family: int = 4) -> Client:
    """The pod on a node that has the address number `host` of its range."""
    address = node(number).pod_cidrs[family == 6][host]
    return Client(Whence.POD, f"node-{number}", address)


def process_on(number: int, family: int = 4) -> Client:
    """A process in a node's own network. It sends to services from the gateway's address."""
    address = node(number).pod_cidrs[family == 6][GATEWAY_OFFSET]
    return Client(Whence.NODE, f"node-{number}", address)


def outside_at(number: int, address: str = "", family: int = 4) -> Client:
    """Somebody outside whose packets arrive at a node."""
    return Client(Whence.OUTSIDE, f"node-{number}", ip_address(address or OUTSIDE[family]))


def call(client: Client, destination: str) -> Call:
    """A call to a destination in words; see the top of this module."""
    text, _, protocol = destination.partition("/")
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") > 1:
        host, port = text, ""
    else:
        host, _, port = text.partition(":")
    if not port:
        return Call(client, ip_address(host))
    return Call(client, ip_address(host), Protocol(protocol or "TCP"), int(port))


def answer(world: World, client: Client, destination: str) -> set[str] | str | int:
    """What becomes of a call, in short: the endpoints in words, `refused`, `dropped`, `no service`
    or the status of a health check.
    """
    return in_short(evaluate(world, call(client, destination)))


def in_short(outcome: Outcome) -> set[str] | str | int:
    """An outcome in short; see `answer`."""
    match outcome:
        case NotAService():
            return "no service"
        case Refused():
            return "refused"
        case Dropped():
            return "dropped"
        case HealthChecked():
            return outcome.status
        case _:
            return {str(one) for one in outcome.endpoints}
