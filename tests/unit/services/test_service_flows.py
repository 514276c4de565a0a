"""The compiled flows do with calls of services what the evaluator says: call by call, in small
worlds that are about one clause each, and in worlds that are drawn at random.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service_agreement import answer, as_it_comes, disagreement, opening
from service_carriage import ServiceCarriage, network_of
from service_objects import outside_at, pod_on, process_on
from service_scenes import NODES, SCENES, scene_calls
from service_strategies import service_calls, service_worlds
from undecided_flows import undecided

from ovsnet.model import Protocol
from ovsnet.names import POLICY_ZONE
from ovsnet.policy.world import World as Cluster
from ovsnet.services.evaluate import NotAService, evaluate
from ovsnet.services.objections import objections
from ovsnet.services.world import Call, Client, World


@pytest.mark.parametrize("name", SCENES)
def test_every_call_of_a_scene(name: str) -> None:
    carriage = ServiceCarriage.serving(SCENES[name])
    tried = [c for c in map(comes(carriage), scene_calls(SCENES[name])) if c is not None]
    assert len(tried) > 50
    assert [d for d in (disagreement(carriage, c) for c in tried) if d] == []


@pytest.mark.parametrize("name", SCENES)
def test_a_switch_never_has_a_choice_between_flows(name: str) -> None:
    for flows in ServiceCarriage.serving(SCENES[name]).flows.values():
        assert list(undecided(flows)) == []


@st.composite
def worlds_with_calls(draw: st.DrawFn) -> tuple[World, list[Call]]:
    drawn = draw(service_worlds(nodes_own=True))
    return drawn, draw(st.lists(service_calls(drawn), min_size=1, max_size=12))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(worlds_with_calls())
def test_flows_do_with_calls_what_the_evaluator_says(drawn: tuple[World, list[Call]]) -> None:
    world, found = drawn
    carriage = ServiceCarriage.serving(world)
    tried = [c for c in map(comes(carriage), found) if c is not None]
    assert [d for d in (disagreement(carriage, c) for c in tried) if d] == []


def comes(carriage: ServiceCarriage):
    return lambda found: as_it_comes(carriage.services, found)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(service_worlds(nodes_own=True))
def test_what_is_objected_to_is_what_the_evaluator_objects_to(world: World) -> None:
    found = network_of(world, Cluster.of((), (), world.nodes.values(), ())).board.objections
    assert {(o.service, o.field, o.reason.split(": ")[0]) for o in found} == {
        (o.service, o.field, o.value) for o in objections(world)
    }


# --- what is for no service ---


@pytest.mark.parametrize("family", [4, 6])
def test_what_is_for_no_service_passes_the_trackers_of_policies_alone(family: int) -> None:
    """One of them, or that of the pod's node as well; once in every direction."""
    carriage = ServiceCarriage.serving(SCENES["both families"])
    near, far = pod_on(1, family=family), pod_on(2, family=family)
    node_1 = Client(near.whence, "node-1", NODES[0].addresses[family == 6])
    passes = {
        (near, far): 2,
        (near, pod_on(1, 5, family)): 1,
        (near, outside_at(1, family=family)): 1,
        (near, process_on(1, family)): 1,
        (near, node_1): 1,
        (process_on(1, family), near): 1,
        (process_on(1, family), far): 2,
        (outside_at(1, family=family), near): 1,
    }
    for (client, other), count in passes.items():
        for protocol, port in ((Protocol.TCP, 22), (Protocol.UDP, 22), (None, None)):
            alone = carriage.alone()
            tried = Call(client, other.address, protocol, port)
            assert evaluate(carriage.services, tried) == NotAService()
            journey = alone.carry(*opening(alone, tried))
            assert journey.zones == (POLICY_ZONE,) * count
            (arrival,) = journey.arrivals
            if protocol is not None:
                back = alone.carry(*arrival.where, answer(protocol, arrival.packet))
                assert back.zones == (POLICY_ZONE,) * count
                assert len(back.arrivals) == 1
