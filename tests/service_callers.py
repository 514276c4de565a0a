"""Clients that call a service time and again, while it changes."""

from __future__ import annotations

import pytest
from service_agreement import answer, opening
from service_carriage import Arrival, Choices, ServiceCarriage, ends, ends_of
from service_objects import call, outside_at, pod_on, process_on
from service_scenes import FAR, HOST, NEAR, OTHER_HOST, OUTER, made_of, of, web

from ovsnet.flows.simulator import Connections
from ovsnet.flows.simulator.packet import ACK, SYN
from ovsnet.model import parse_address
from ovsnet.services.world import Client, Whence, World

THIRD, FOURTH = "10.244.1.6", "10.244.2.6"
EVERYBODY = (NEAR, FAR, THIRD, FOURTH, HOST, OTHER_HOST)
PODS = ServiceCarriage.serving(made_of(web(), of(*EVERYBODY))).world.pods.values()
CLUSTER, NODE_PORT = "10.96.0.1:80", "10.244.1.255:30080"


def serving(*endpoints: object, **more: object) -> World:
    """A world whose service has these endpoints, by TCP and by UDP."""
    ports = ("http=80@30080", "dns=80@30080/UDP")
    return made_of(
        web(*ports, **OUTER, **more), of(*endpoints, ports=("http=8080", "dns=8080/UDP"))
    )


def carriage_of(world: World, *, kernel: bool = False) -> ServiceCarriage:
    """Switches with the userspace datapath's tracker, or with the kernel's."""
    on = ServiceCarriage.serving(world, PODS)
    on.trackers = {name: Connections(kernel=kernel) for name in on.trackers}
    return on


class Caller:
    """Somebody who calls a destination time and again."""

    def __init__(self, client: Client, destination: str) -> None:
        self.call = call(client, destination)

    def ways(self, on: ServiceCarriage) -> list[Choices]:
        """Choices of buckets by which a new connection may get to different endpoints."""
        return on.ways(*opening(on, self.call, port=1))

    def connect(self, on: ServiceCarriage, port: int = 40000, way: Choices = ()) -> str | None:
        """Open a connection from a port; returns the address that takes it, and answers."""
        return self._reach(on, port, way, SYN)

    def connect_to(self, wanted: str, on: ServiceCarriage, port: int = 40000) -> None:
        """Open a connection that gets to this endpoint."""
        (way,) = (w for w in self.ways(on) if self.connect(on.alone(), port, w) == wanted)
        assert self.connect(on, port, way) == wanted

    def go_on(self, on: ServiceCarriage, port: int = 40000) -> str | None:
        """A later packet of a connection, whatever groups would choose for a new one."""
        found = {self._reach(on.alone(), port, way, ACK) for way in self.ways(on)}
        assert len(found) == 1, found
        return self._reach(on, port, (), ACK)

    def new_ones(self, on: ServiceCarriage, port: int = 50000) -> set[str | None]:
        """Whom new connections may reach."""
        return {self.connect(on.alone(), port, way) for way in self.ways(on)}

    def send(
        self, on: ServiceCarriage, port: int = 40000, way: Choices = (), flags: int = SYN
    ) -> Arrival | None:
        """A packet to which nobody says anything; where it arrives."""
        arrivals = on.carry(*opening(on, self.call, port=port, flags=flags), way).arrivals
        if not arrivals or arrivals[0].refused:
            return None
        (arrival,) = arrivals
        return arrival

    def _reach(self, on: ServiceCarriage, port: int, way: Choices, flags: int) -> str | None:
        arrival = self.send(on, port, way, flags)
        if arrival is None:
            return None
        assert self.call.protocol is not None
        node, door, _ = opening(on, self.call, port=port, flags=flags)
        reply = answer(self.call.protocol, arrival.packet, ACK | flags)
        (back,) = on.carry(*arrival.where, reply).arrivals
        client, called = ends_of(self.call)
        assert back.where == (node, door)
        assert ends(back.packet) == (called, client._replace(port=port))
        return str(ends(arrival.packet)[1].address)


CALLERS = {
    "a pod": Caller(pod_on(1), CLUSTER),
    "a pod, UDP": Caller(pod_on(1), CLUSTER + "/UDP"),
    "a pod by its node": Caller(pod_on(1), "172.18.0.1:30080"),
    "the node": Caller(process_on(1), CLUSTER),
    "the node by its node port": Caller(
        Client(Whence.NODE, "node-1", parse_address(HOST)), NODE_PORT
    ),
    "somebody outside": Caller(outside_at(1), NODE_PORT),
    "somebody outside, UDP": Caller(outside_at(1), NODE_PORT + "/UDP"),
}
EVERY_CALLER = pytest.mark.parametrize("caller", CALLERS.values(), ids=CALLERS.keys())
EITHER_TRACKER = pytest.mark.parametrize("kernel", [False, True], ids=["userspace", "kernel"])
