"""Connections to services while services change, and beside each other."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service_agreement import as_it_comes, disagreement, opening
from service_callers import (
    CALLERS,
    CLUSTER,
    EITHER_TRACKER,
    EVERY_CALLER,
    FOURTH,
    NODE_PORT,
    THIRD,
    Caller,
    carriage_of,
    serving,
)
from service_carriage import ServiceCarriage, ends, ends_of, pods_of
from service_objects import endpoint, outside_at, pod_on, process_on
from service_scenes import FAR, HOST, NEAR, OTHER_HOST, SCENES
from service_strategies import service_calls, service_worlds

from ovsnet.flows.simulator.packet import ACK
from ovsnet.model import Protocol, parse_address
from ovsnet.names import GATEWAY_OFPORT
from ovsnet.services.evaluate import Dropped, NotAService, Reason, Served, evaluate, onward
from ovsnet.services.world import Call, Client, Endpoint, Whence, World

# --- while services change ---


@EITHER_TRACKER
@EVERY_CALLER
def test_a_connection_keeps_its_endpoint_while_others_come_and_go(
    caller: Caller, kernel: bool
) -> None:
    before = carriage_of(serving(NEAR, FAR), kernel=kernel)
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


@EITHER_TRACKER
@EVERY_CALLER
def test_a_connection_without_an_answer_keeps_its_endpoint(caller: Caller, kernel: bool) -> None:
    before = carriage_of(serving(NEAR, FAR), kernel=kernel)
    for way in caller.ways(before):
        on = before.alone()
        own = caller.send(on, way=way)
        assert own is not None
        on = on.becoming(serving(NEAR, FAR, THIRD, HOST))
        for other in (*caller.ways(on), ()):
            again = caller.send(on, way=other)
            assert again is not None
            assert (again.where, ends(again.packet)) == (own.where, ends(own.packet))


@EITHER_TRACKER
@EVERY_CALLER
def test_a_connection_outlives_its_endpoints_place_in_the_service(
    caller: Caller, kernel: bool
) -> None:
    """It drains, or ends by itself: the switch takes it nowhere else. (Entries of UDP are deleted
    by the agent.)
    """
    on = carriage_of(serving(FAR), kernel=kernel)
    assert caller.connect(on) == FAR
    on = on.becoming(serving(NEAR))
    assert caller.go_on(on) == FAR
    assert caller.connect(on, 40001) == NEAR
    on = on.becoming(serving())
    assert caller.go_on(on) == FAR
    assert caller.go_on(on, 40001) == NEAR
    assert caller.connect(on, 40002) is None


@EVERY_CALLER
def test_new_connections_reach_those_who_are_there_now(caller: Caller) -> None:
    on = carriage_of(serving(NEAR))
    for endpoints in ((NEAR, FAR), (), (THIRD,), (HOST, OTHER_HOST, FAR), (FAR,)):
        on = on.becoming(serving(*endpoints))
        assert caller.new_ones(on) == (set(endpoints) or {None})


@EITHER_TRACKER
@EVERY_CALLER
def test_who_was_refused_is_served_when_there_is_an_endpoint(caller: Caller, kernel: bool) -> None:
    """From the same port."""
    for there in (NEAR, FAR, HOST):
        on = carriage_of(serving(), kernel=kernel)
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


@pytest.mark.parametrize("protocol", ["", "/UDP"])
@pytest.mark.parametrize("first", ["the service", "the endpoint"])
def test_a_client_may_call_an_endpoint_by_the_service_and_by_itself_from_one_port(
    first: str, protocol: str
) -> None:
    on = carriage_of(serving(FAR))
    ways = [Caller(pod_on(1), f"{CLUSTER}{protocol}"), Caller(pod_on(1), f"{FAR}:8080{protocol}")]
    if first == "the endpoint":
        ways.reverse()
    for way in (*ways, *ways):
        assert way.connect(on) == FAR
        assert way.go_on(on) == FAR


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
