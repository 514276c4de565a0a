"""The pods, nodes and outside of the tests of services, what answers there, and the services that
are written.

Every test begins and ends without services but the cluster's own. On each of three nodes, the first
and the third of which are in one zone, there are three pods. They, the nodes and the outside answer
on all of `PORTS`, by TCP and UDP. Pods have ports by name besides, on which the sandbox answers;
so have two pods of the hosts' network.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import urlencode

from answerers import Answerers
from calling import Ring
from in_effect import expect_settled
from lab_api import ApiRefusalError
from places import Place, PodPlace, wait_for
from sandbox_lab import Lab
from service_objects import node as planned_node
from service_strategies import BEYOND, BYSTANDER, HOSTS
from service_wire import wire_service, wire_slice
from switch_state import objects

from ovsnet.api import ENDPOINT_SLICE, NODE, SERVICE
from ovsnet.controller.inquiry.why import Why, read_why
from ovsnet.model import ContainerPort, EndpointSlice, IPAddress, Protocol, Service
from ovsnet.sandbox.plan import EXTERNAL_CIDRS
from ovsnet.services.evaluate import NotAService, Outcome, Served, evaluate, onward
from ovsnet.services.world import Call, Client, Whence, World

Object = dict[str, Any]

SPACE = "shop"
SPACES = (SPACE, "bank")
ZONES = {"node1": "east", "node2": "west", "node3": "east"}
PODS = ("a", "b", "c")
PORTS = (8053, 8080, 8081, 8088, 8443)
"""Where everybody answers: 8000 and more are the ports of slices that are drawn at random."""

NAMED_PORTS = {
    "a": (ContainerPort("web", 7080, "TCP"), ContainerPort("dns", 7053, "UDP")),
    "b": (ContainerPort("web", 7088, "TCP"), ContainerPort("dns", 7058, "UDP")),
    "c": (),
}
HOST_PODS = {"h1": "node1", "h2": "node2"}
HOST_PORTS = (ContainerPort("web", 7090, "TCP"), ContainerPort("dns", 7090, "UDP"))

OUTSIDE = "outside"
FAMILIES = (4, 6)
_KUBERNETES = ("default", "kubernetes")
_OWNER = "kubernetes.io/service-name"
_ZONE = "topology.kubernetes.io/zone"
_SLICES = "/apis/discovery.k8s.io/v1"


@dataclass(frozen=True)
class Caller:
    """Somebody who calls services: a pod, a node, or the outside."""

    place: Place
    whence: Whence
    node: str = ""

    def client(self, destination: IPAddress, world: World, at: str = "") -> Client:
        """Who he is to a destination; `at`: the node at which his packets arrive.

        A node calls its own addresses from these, and others' from its own in the underlay.
        """
        version = destination.version
        source = ip_address(self.place.address(version))
        if self.whence is Whence.NODE and _is_a_nodes(world, destination):
            mine = world.nodes[self.node].addresses
            source = next(a for a in mine if a.version == version)
        return Client(self.whence, at or self.node, source)


@dataclass(frozen=True)
class Market:
    """A sandbox with its pods (`a1` is the pod a on node1) and nodes, by name."""

    lab: Lab
    pods: Mapping[str, PodPlace]
    nodes: Mapping[str, Place]
    answerers: Answerers

    @functools.cached_property
    def outside(self) -> Place:
        return self.lab.outside

    @functools.cached_property
    def places(self) -> dict[str, Place]:
        """Everybody who answers, by name, each at the address that endpoints of it have."""
        found: dict[str, Place] = {**self.pods}
        found |= {name: self.lab.underlay(name) for name in self.nodes}
        return found | {OUTSIDE: self.outside}

    def name_of(self, address: IPAddress) -> str:
        """Who answers at an address; empty: nobody."""
        return self._names.get(str(address), "")

    @functools.cached_property
    def _names(self) -> dict[str, str]:
        return {p.address(v): name for name, p in self.places.items() for v in FAMILIES}

    # --- writing ---

    def world(self) -> World:
        """What decides about calls, as the API server has it."""
        found = objects(self.lab)
        return World.of(found[NODE], found[SERVICE], found[ENDPOINT_SLICE])

    def write(self, *written: Object) -> None:
        """Make these Services and EndpointSlices, or change those that are there.

        The status of a Service is written with it, as a load balancer would.
        """
        for each in written:
            at, name = path(each).rpartition("/")[::2]
            there = {item["metadata"]["name"] for item in self.lab.api("GET", at)["items"]}
            if name in there:
                self.lab.api("PATCH", f"{at}/{name}", each, "merge")
            else:
                first = _at_first(each)
                self.lab.api("POST", at, first)
                if first != each:
                    self.lab.api("PATCH", f"{at}/{name}", each, "merge")
            if "status" in each:
                status = {"status": each["status"]}
                self.lab.api("PATCH", f"{at}/{name}/status", status, "merge")

    def remove(self, *written: Object) -> None:
        for each in written:
            try:
                self.lab.api("DELETE", path(each))
            except ApiRefusalError as refusal:
                # Slices go with their service, and the one who does that may have been here first.
                if not str(refusal).startswith("404"):
                    raise

    def clear(self) -> None:
        """Remove all services but the cluster's own, with their slices."""
        for kind, all_of_them in (("Service", "/api/v1/services"),
                                  ("EndpointSlice", f"{_SLICES}/endpointslices")):  # fmt: skip
            for item in self.lab.api("GET", all_of_them)["items"]:
                metadata = item["metadata"]
                if (metadata["namespace"], metadata["name"]) != _KUBERNETES:
                    self.remove({"kind": kind, "metadata": metadata})

    def serve(self, *written: Object) -> None:
        """Make these Services and EndpointSlices, and wait until they are in effect. Slices of
        services that select pods are waited for, too.
        """
        self.write(*written)
        for each in written:
            if each.get("spec", {}).get("selector"):
                wait_for(lambda each=each: self._selected(each), f"slices of {path(each)}")
        self.settle()

    def _selected(self, service: Object) -> bool:
        metadata = service["metadata"]
        at = f"{_SLICES}/namespaces/{metadata['namespace']}/endpointslices"
        found = self.lab.api("GET", at)["items"]
        return any(
            item["metadata"]["labels"].get(_OWNER) == metadata["name"] and item["endpoints"]
            for item in found
        )

    def settle(self, seconds: float = 30) -> None:
        """Wait until all that was written is in effect."""
        expect_settled(self.lab, seconds)

    # --- values of the tests of services, here ---

    def wire(self, *values: Service | EndpointSlice) -> list[Object]:
        """Objects of the API from the model's values, with what is in them moved to this cluster:
        `node-1` is `node1`, and the pods 5, 6 and 7 of its range are its three.
        """
        made = [
            wire_service(each)
            if isinstance(each, Service)
            else wire_slice(each, next((e.address.version for e in each.endpoints), 4))
            for each in values
        ]
        moved = _QUOTED.sub(lambda found: f'"{self._moved(found[1])}"', json.dumps(made))
        found: list[Object] = json.loads(moved)
        for each in found:
            for given in ("uid", "creationTimestamp"):
                each["metadata"].pop(given, None)
            if len(each.get("spec", {}).get("ipFamilies", ())) > 1:
                each["spec"]["ipFamilyPolicy"] = "RequireDualStack"
        return found

    def _moved(self, text: str) -> str:
        return self._words.get(text, text)

    @functools.cached_property
    def _words(self) -> dict[str, str]:
        words = {"172.18.0.0/16": "172.18.0.0/24", "2001:db8::/64": "2001:db8:0:113::/64"}
        words |= {BEYOND[v]: self.outside.address(v) for v in FAMILIES}
        words |= {f"2001:db8:1::{n}": str(ip_network(EXTERNAL_CIDRS[1])[n]) for n in (1, 2)}
        for n in range(1, 5):
            # The first addresses are given to those who ask for none.
            words[f"10.96.0.{n}"] = f"10.96.0.{200 + n}"
            words[f"fd00:96::{n}"] = f"fd00:10:96::{200 + n}"
        for number, name in enumerate(self.nodes, 1):
            planned, ranges = planned_node(number), self.lab.pod_ranges(name)
            words[f"node-{number}"] = name
            for v in FAMILIES:
                mine, own = planned.pod_cidrs[v == 6], ranges[v == 6]
                words |= {str(mine): str(own), str(mine[77]): str(own[77])}
                words[str(planned.addresses[v == 6])] = self.lab.underlay(name).address(v)
                for host, letter in zip((*HOSTS, BYSTANDER), (*PODS, PODS[-1]), strict=True):
                    words[str(mine[host])] = self.pods[f"{letter}{number}"].address(v)
        # The pods of a node that there is not are somewhere else than their slices say.
        nowhere = planned_node(9).pod_cidrs
        for host, letter in zip(HOSTS, PODS, strict=True):
            place = self.pods[f"{letter}3"]
            words |= {str(nowhere[v == 6][host]): place.address(v) for v in FAMILIES}
        return words

    # --- calling ---

    @functools.cached_property
    def callers(self) -> dict[str, Caller]:
        """Two pods of each node, the nodes, and the outside, by name."""
        found = {}
        for name, pod in self.pods.items():
            if name[0] != "b":
                found[name] = Caller(pod, Whence.POD, pod.node)
        found |= {name: Caller(place, Whence.NODE, name) for name, place in self.nodes.items()}
        found[OUTSIDE] = Caller(self.outside, Whence.OUTSIDE)
        return found

    def calls(self, world: World) -> Iterator[tuple[Ring, Call, Outcome]]:
        """Every call of interest: what to do, as which call it meets a service, and what should
        become of it.

        To a port of another node it first leaves its own; see `onward`. What may lead to an
        endpoint that is nobody is left out.
        """
        for caller in self.callers.values():
            for address, protocol, port, at in _destinations(world, caller):
                client = caller.client(address, world, at)
                call: Call | None = Call(client, address, protocol, port)
                assert call is not None
                outcome = evaluate(world, call)
                if isinstance(outcome, NotAService):
                    call = onward(world, call)
                    outcome = outcome if call is None else evaluate(world, call)
                if call is not None and self._can_be_told(outcome):
                    ring = Ring(caller.place, protocol.lower(), str(address), port)
                    yield ring, call, outcome

    def why(self, ring: Ring) -> Why:
        """What the controller says that becomes of a call."""
        caller = next(c for c in self.callers.values() if c.place == ring.place)
        query = {
            "source": {
                Whence.POD: caller.place.name,
                Whence.NODE: f"node/{caller.node}",
                Whence.OUTSIDE: caller.place.address(6 if ":" in ring.address else 4),
            }[caller.whence],
            "destination": ring.address,
            "protocol": ring.protocol,
            "port": ring.port,
        }
        return read_why(self.lab._ask_controller(f"/why?{urlencode(query)}"))

    def _can_be_told(self, outcome: Outcome) -> bool:
        if isinstance(outcome, Served):
            return all(self.name_of(endpoint.address) for endpoint in outcome.endpoints)
        return not isinstance(outcome, NotAService)


_QUOTED = re.compile(r'"([^"]*)"')
Destination = tuple[IPAddress, Protocol, int, str]


def _at_first(service: Object) -> Object:
    """What it may be made as: only later may ports of different numbers share a node port."""
    ports = service.get("spec", {}).get("ports", ())
    users: dict[int, int] = {}
    kept = [
        port
        if users.setdefault(port.get("nodePort", 0), port["port"]) == port["port"]
        else {name: value for name, value in port.items() if name != "nodePort"}
        for port in ports
    ]
    return {**service, "spec": {**service["spec"], "ports": kept}} if ports else service


def _destinations(world: World, caller: Caller) -> Iterator[Destination]:
    """Where somebody may call: addresses and ports, and the node where he then arrives."""
    for address, spots in _addresses(world).items():
        if caller.whence is not Whence.OUTSIDE:
            yield from ((address, *spot, "") for spot in spots)
        elif any(address in ip_network(cidr) for cidr in EXTERNAL_CIDRS):
            # The router sends them to the first node.
            yield from ((address, *spot, "node1") for spot in spots)
    ports = set(_node_ports(world)) | {(Protocol.TCP, 30999), (Protocol.UDP, 30999)}
    for name, one in world.nodes.items():
        at = name if caller.whence is Whence.OUTSIDE else ""
        for address in one.addresses:
            yield from ((address, *spot, at) for spot in sorted(ports))


def _addresses(world: World) -> dict[IPAddress, list[tuple[Protocol, int]]]:
    """The addresses of services with their ports, and with one that they do not have."""
    found: dict[IPAddress, set[tuple[Protocol, int]]] = {}
    for one in world.services.values():
        if one.ref != _KUBERNETES:
            ports = {(port.protocol, port.port) for port in one.ports}
            for address in (*one.addresses, *one.external, *one.load_balancer):
                others = {(Protocol.TCP, 82), (Protocol.UDP, 82)}
                found.setdefault(address, others).update(ports)
    return {address: sorted(spots) for address, spots in found.items()}


def _node_ports(world: World) -> Iterator[tuple[Protocol, int]]:
    for one in world.services.values():
        yield from ((p.protocol, p.node_port) for p in one.ports if p.node_port)
        if one.health_check:
            yield Protocol.TCP, one.health_check


def _is_a_nodes(world: World, address: IPAddress) -> bool:
    return any(address in node.addresses for node in world.nodes.values())


def path(item: Object) -> str:
    """Where the API server has a Service or an EndpointSlice."""
    group, plural = {
        "Service": ("/api/v1", "services"),
        "EndpointSlice": (_SLICES, "endpointslices"),
    }[item["kind"]]
    metadata = item["metadata"]
    return f"{group}/namespaces/{metadata['namespace']}/{plural}/{metadata['name']}"


def build(lab: Lab, answering: Answerers) -> Market:
    """Put the nodes into their zones, make all pods, and let everybody answer."""
    for name, zone in ZONES.items():
        body = {"metadata": {"labels": {_ZONE: zone}}}
        lab.api("PATCH", f"/api/v1/nodes/{name}", body, "merge")
    for space in SPACES:
        lab.api("POST", "/api/v1/namespaces", {"metadata": {"name": space}})
    names = {f"{letter}{number}": f"node{number}" for letter in PODS for number in (1, 2, 3)}
    for name, node in names.items():
        labels = {"app": "stall", "sort": name[0], "pod": name}
        lab.post_pod(name, node, SPACE, labels=labels, ports=NAMED_PORTS[name[0]])
    for name, node in HOST_PODS.items():
        lab.post_pod(name, node, SPACE, labels={"app": "host"}, ports=HOST_PORTS, host_network=True)
    running = lab.running([*names, *HOST_PODS], SPACE)
    nodes = {name: lab.host(name) for name in ZONES}
    market = Market(lab, running, nodes, answering)
    for name, place in market.places.items():
        answering.open(name, place, PORTS)
    for place in nodes.values():
        # A kernel tells one host of closed ports once a second (icmp(7)). These ask more often.
        place.run("sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")
    return market
