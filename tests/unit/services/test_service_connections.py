"""Connections to services while services change, beside each other, and clients that are
remembered.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service_agreement import answer, as_it_comes, disagreement, opening
from service_carriage import Choices, ServiceCarriage, ends, ends_of, pods_of
from service_objects import call, endpoint, endpoint_slice, outside_at, pod_on, process_on
from service_objects import service as made_service
from service_scenes import FAR, HOST, NEAR, OTHER_HOST, OUTER, SCENES, made_of, of, web
from service_strategies import service_calls, service_worlds

from ovsnet.flows.simulator.packet import ACK, SYN
from ovsnet.model import Protocol, parse_address
from ovsnet.names import GATEWAY_OFPORT, Table
from ovsnet.services.evaluate import Dropped, NotAService, Reason, Served, evaluate, onward
from ovsnet.services.world import Call, Client, Endpoint, Whence, World

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


def carriage_of(world: World) -> ServiceCarriage:
    return ServiceCarriage.serving(world, PODS)


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

    def _reach(self, on: ServiceCarriage, port: int, way: Choices, flags: int) -> str | None:
        node, door, packet = opening(on, self.call, port=port, flags=flags)
        arrivals = on.carry(node, door, packet, way).arrivals
        if not arrivals or arrivals[0].refused:
            return None
        (arrival,) = arrivals
        assert self.call.protocol is not None
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
callers = pytest.mark.parametrize("caller", CALLERS.values(), ids=CALLERS.keys())


# --- while services change ---


@callers
def test_a_connection_keeps_its_endpoint_while_others_come_and_go(caller: Caller) -> None:
    before = carriage_of(serving(NEAR, FAR))
    ways = caller.ways(before)
    assert caller.new_ones(before) == {NEAR, FAR}
    for way in ways:
        on = before.alone()
        own = caller.connect(on, way=way)
        assert own in (NEAR, FAR)
        for endpoints in (
            (NEAR, FAR, THIRD),
            (own, THIRD, FOURTH, HOST, OTHER_HOST),
            (own,),
            (THIRD, endpoint(own, "draining")),
        ):
            on = on.becoming(serving(*endpoints))
            assert caller.go_on(on) == own


@callers
def test_a_connection_outlives_its_endpoints_place_in_the_service(caller: Caller) -> None:
    """It drains, or ends by itself: the switch takes it nowhere else. (Entries of UDP are deleted
    by the agent.)
    """
    on = carriage_of(serving(FAR))
    assert caller.connect(on) == FAR
    on = on.becoming(serving(NEAR))
    assert caller.go_on(on) == FAR
    assert caller.connect(on, 40001) == NEAR
    on = on.becoming(serving())
    assert caller.go_on(on) == FAR
    assert caller.go_on(on, 40001) == NEAR
    assert caller.connect(on, 40002) is None


@callers
def test_new_connections_reach_those_who_are_there_now(caller: Caller) -> None:
    on = carriage_of(serving(NEAR))
    for endpoints in ((NEAR, FAR), (), (THIRD,), (HOST, OTHER_HOST, FAR), (FAR,)):
        on = on.becoming(serving(*endpoints))
        assert caller.new_ones(on) == (set(endpoints) or {None})


@callers
def test_who_was_refused_is_served_when_there_is_an_endpoint(caller: Caller) -> None:
    """From the same port."""
    for there in (NEAR, FAR, HOST):
        on = carriage_of(serving())
        assert caller.connect(on) is None
        assert caller.connect(on) is None
        on = on.becoming(serving(there))
        assert caller.connect(on) == there
        assert caller.go_on(on) == there


@pytest.mark.parametrize("name", ["a pod", "the node", "somebody outside"])
def test_connections_that_are_there_do_not_mind_traffic_policies_and_hints(name: str) -> None:
    caller = CALLERS[name]
    on = carriage_of(serving(FAR))
    assert caller.connect(on) == FAR
    for world in (
        serving(NEAR, FAR, local="internal external"),
        serving(endpoint(NEAR, nodes="1"), endpoint(FAR, nodes="2")),
    ):
        on = on.becoming(world)
        assert caller.go_on(on) == FAR
        assert caller.new_ones(on) == {NEAR}
    on = on.becoming(serving(FAR, local="internal external"))
    assert caller.go_on(on) == FAR
    assert caller.new_ones(on) == {None}


@pytest.mark.parametrize(("before", "after"), [("external", ""), ("", "external")])
def test_whom_an_endpoint_sees_does_not_change_while_a_connection_lives(
    before: str, after: str
) -> None:
    """On the node's own network it is the client with traffic policy Local, else the node."""
    tried = CALLERS["somebody outside"].call
    on = carriage_of(serving(HOST, local=before))
    (first,) = on.carry(*opening(on, tried)).arrivals
    for local in (after, before, after):
        on = on.becoming(serving(HOST, local=local))
        (later,) = on.carry(*opening(on, tried, flags=ACK)).arrivals
        assert ends(later.packet) == ends(first.packet)
        (new,) = on.alone().carry(*opening(on, tried, port=40001)).arrivals
        kept = ends(new.packet)[0].address == tried.client.address
        assert kept is (local == "external")


# --- beside each other ---


def test_clients_with_the_same_port_are_told_apart_when_their_source_is_translated() -> None:
    on = carriage_of(serving(FAR))
    many = [
        *(Caller(outside_at(1, f"203.0.113.{n}"), NODE_PORT) for n in (5, 6, 7)),
        *(Caller(outside_at(1, f"203.0.113.{n}"), CLUSTER) for n in (5, 6)),
        Caller(process_on(1), CLUSTER),
    ]
    for caller in many:
        assert caller.connect(on) == FAR
    for caller in reversed(many):
        assert caller.go_on(on) == FAR


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
@pytest.mark.parametrize("there", [NEAR, FAR, HOST, OTHER_HOST])
def test_a_client_may_call_from_a_port_whose_number_is_that_of_a_node_port(
    there: str, protocol: str
) -> None:
    """Answers to it are no calls of the node port."""
    on = carriage_of(serving(there))
    for client in (outside_at(1), process_on(1), pod_on(1)):
        for destination in (CLUSTER, NODE_PORT, "198.51.100.1:80"):
            caller = Caller(client, f"{destination}/{protocol}")
            assert caller.connect(on.alone(), 30080) == there


def test_the_node_may_call_pods_from_a_port_whose_number_is_that_of_a_node_port() -> None:
    on = carriage_of(serving(NEAR))
    own = Client(Whence.NODE, "node-1", parse_address(HOST))
    for destination in (f"{THIRD}:22", CLUSTER):
        caller = Caller(own, destination)
        assert caller.connect(on, 30080) == destination.replace(CLUSTER, NEAR).split(":")[0]
        assert caller.go_on(on, 30080) is not None


@pytest.mark.parametrize("family", [4, 6])
def test_a_pod_reaches_another_nodes_node_port_through_both_nodes(family: int) -> None:
    world = SCENES["both families"]
    on = ServiceCarriage.serving(world)
    address = world.nodes["node-2"].addresses[family == 6]
    client = pod_on(1, family=family)
    tried = Call(client, address, Protocol.TCP, 30080)
    assert evaluate(world, tried) == NotAService()
    (left,) = on.carry(*opening(on, tried)).arrivals
    assert left.where == ("node-1", GATEWAY_OFPORT)
    assert ends(left.packet)[1] == Endpoint(address, 30080)
    second = onward(world, tried)
    assert second is not None
    assert second.client == outside_at(2, str(world.nodes["node-1"].addresses[family == 6]), family)
    arriving = as_it_comes(world, second)
    assert arriving is not None
    assert arriving.destination == world.nodes["node-2"].pod_cidrs[family == 6][-1]
    assert disagreement(on, arriving) is None


# --- clients that are remembered ---


def remembering(*endpoints: object, **more: object) -> World:
    return serving(*endpoints, affinity=60, **more)


@callers
def test_a_client_keeps_its_endpoint_whatever_new_connections_would_get(caller: Caller) -> None:
    before = carriage_of(remembering(NEAR, FAR, THIRD))
    assert caller.new_ones(before) == {NEAR, FAR, THIRD}
    for way in caller.ways(before):
        on = before.alone()
        own = caller.connect(on, way=way)
        for port in range(40001, 40004):
            assert caller.ways(on) == [()]
            assert caller.connect(on, port) == own
        on = on.becoming(remembering(own, FOURTH, HOST))
        assert caller.new_ones(on) == {own}


@callers
def test_a_client_whose_endpoint_is_gone_gets_another_and_keeps_that(caller: Caller) -> None:
    on = carriage_of(remembering(NEAR))
    assert caller.connect(on) == NEAR
    on = on.becoming(remembering(FAR, THIRD))
    assert caller.new_ones(on) == {FAR, THIRD}
    caller.connect_to(THIRD, on, 40001)
    on = on.becoming(remembering(NEAR, FAR, THIRD))
    assert caller.new_ones(on) == {THIRD}
    on = on.becoming(remembering())
    assert caller.new_ones(on) == {None}
    on = on.becoming(serving(NEAR, FAR))
    assert caller.new_ones(on) == {NEAR, FAR}


def test_every_client_is_remembered_by_itself() -> None:
    on = carriage_of(remembering(NEAR, FAR))
    one, two = CALLERS["a pod"], Caller(pod_on(1, 6), CLUSTER)
    one.connect_to(NEAR, on)
    assert two.new_ones(on) == {NEAR, FAR}
    two.connect_to(FAR, on)
    assert (one.new_ones(on), two.new_ones(on)) == ({NEAR}, {FAR})


def test_a_client_is_remembered_by_every_address_of_the_service_and_for_each_port() -> None:
    on = carriage_of(remembering(NEAR, FAR))
    by_address = [Caller(pod_on(1), f"{a}:80") for a in ("10.96.0.1", "198.51.100.1")]
    by_address.append(CALLERS["a pod by its node"])
    by_address[0].connect_to(FAR, on)
    for caller in by_address:
        assert caller.new_ones(on) == {FAR}
    assert CALLERS["a pod, UDP"].new_ones(on) == {NEAR, FAR}


def test_what_is_remembered_of_one_service_says_nothing_about_another() -> None:
    other = made_service("bank/api", "http=80", cluster="10.96.0.2", affinity=60)
    also = endpoint_slice("bank/api", ("http=8080",), NEAR, FAR)
    on = ServiceCarriage.serving(made_of(web(affinity=60), of(NEAR, FAR), other, also))
    one, two = CALLERS["a pod"], Caller(pod_on(1), "10.96.0.2:80")
    one.connect_to(FAR, on)
    assert two.new_ones(on) == {NEAR, FAR}


def test_every_node_remembers_its_own_clients() -> None:
    on = carriage_of(remembering(NEAR, FAR))
    one = Caller(outside_at(1), NODE_PORT)
    two = Caller(outside_at(2), "10.244.2.255:30080")
    one.connect_to(NEAR, on)
    assert two.new_ones(on) == {NEAR, FAR}
    two.connect_to(FAR, on)
    assert (one.new_ones(on), two.new_ones(on)) == ({NEAR}, {FAR})


@pytest.mark.parametrize("hints", ["zones", "nodes"])
@pytest.mark.parametrize("name", ["a pod", "the node", "somebody outside"])
def test_an_endpoint_that_hints_mean_for_others_now_is_forgotten(name: str, hints: str) -> None:
    """As with kube-proxy: a client keeps one of those that a first call may reach."""
    caller = CALLERS[name]
    mine, yours = (
        ({"zones": "east"}, {"zones": "west"})
        if hints == "zones"
        else ({"nodes": "1"}, {"nodes": "2"})
    )
    on = carriage_of(remembering(NEAR, FAR, THIRD))
    caller.connect_to(FAR, on)
    for some in ((NEAR, THIRD), (NEAR,)):
        hinted = [endpoint(e, **mine) for e in some]
        changed = on.becoming(remembering(*hinted, endpoint(FAR, **yours)))
        assert caller.new_ones(changed) == set(some)
        caller.connect_to(NEAR, changed, 40001)
        assert caller.new_ones(changed) == {NEAR}
        assert caller.go_on(changed) == FAR


def test_hints_for_nodes_come_before_those_for_zones_also_for_whom_is_remembered() -> None:
    caller = CALLERS["a pod"]
    on = carriage_of(remembering(NEAR, FAR, THIRD))
    caller.connect_to(FAR, on)
    both = (
        endpoint(NEAR, zones="east", nodes="2"),
        endpoint(THIRD, zones="west", nodes="1"),
        endpoint(FAR, zones="west", nodes="1"),
    )
    assert caller.new_ones(on.becoming(remembering(*both))) == {FAR}


def test_what_is_remembered_stands_in_one_table_and_counts_for_its_timeout() -> None:
    on = carriage_of(remembering(NEAR, FAR))
    for number in range(3):
        Caller(pod_on(1), CLUSTER).connect(on, 40000 + number)
        Caller(pod_on(1, 6), CLUSTER).connect(on, 40000 + number)
    assert len(on.switches["node-1"].tables[Table.AFFINITY].flows) == 2
    assert not on.switches["node-2"].tables[Table.AFFINITY].flows


# --- drawn at random ---


@st.composite
def worlds_that_change(draw: st.DrawFn) -> tuple[World, World, list[Call]]:
    """A world, what becomes of it while its nodes stay, and calls in the first."""
    before, after = draw(service_worlds()), draw(service_worlds())
    after = World(before.nodes, after.services, after.slices)
    return before, after, draw(st.lists(service_calls(before), min_size=4, max_size=12))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(worlds_that_change())
def test_live_connections_reach_their_endpoint_or_nobody(
    drawn: tuple[World, World, list[Call]],
) -> None:
    """Whatever becomes of services: it is the same endpoint as long as anybody has the address."""
    before, after, found = drawn
    on = ServiceCarriage.serving(before, [*pods_of(before), *pods_of(after)])
    later = on.becoming(after)
    for tried in found:
        comes = as_it_comes(before, tried)
        if comes is None or not isinstance(evaluate(before, comes), Served):
            continue
        for way in on.ways(*opening(on, comes))[:2]:
            alone = on.alone()
            (first,) = alone.carry(*opening(alone, comes), way).arrivals
            changed = later.alone()
            changed.trackers = alone.trackers
            arrivals = changed.carry(*opening(changed, comes, flags=ACK)).arrivals
            there = [(a.where, ends(a.packet)) for a in arrivals]
            if there == [(first.where, ends(first.packet))]:
                continue
            assert all(called == ends_of(comes)[1] for _, (_, called) in there), there
            outcome = evaluate(after, comes)
            kept_out = isinstance(outcome, Dropped) and outcome.reason is Reason.SOURCE_RANGES
            assert kept_out or isinstance(outcome, NotAService), f"{comes} to {first}: {there}"
