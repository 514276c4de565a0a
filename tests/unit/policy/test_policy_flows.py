"""The compiled flows let pass what the evaluator allows, and nothing else: pair by pair."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from policy_carriage import Carriage, answer, first_packet, service_addresses
from policy_scenes import SCENES, deliverable, every_traffic, world
from policy_strategies import clusters, traffics

from ovsnet.policy.evaluate import Traffic, evaluate
from ovsnet.policy.world import World


@st.composite
def worlds_with_traffic(draw: st.DrawFn) -> tuple[World, list[Traffic]]:
    of = draw(clusters())
    return of, draw(st.lists(traffics(of), min_size=1, max_size=12))


def disagreement(carriage: Carriage, traffic: Traffic) -> str | None:
    """What the flows do otherwise than the evaluator says, to the first packet, its answer, and
    the packets after it.
    """
    verdict = evaluate(carriage.world, traffic)
    ends = traffic.source, traffic.destination
    alone = Carriage(carriage.world, carriage.flows, switches=carriage.switches)
    passed = alone.arrives(first_packet(traffic), *ends)
    if passed != verdict.allowed:
        return f"{traffic} {'passed' if passed else 'was dropped'}: {verdict}"
    if passed and not alone.arrives(answer(traffic), *reversed(ends)):
        return f"the answer to {traffic} was dropped: {verdict}"
    if passed and not alone.arrives(first_packet(traffic), *ends):
        return f"what followed {traffic} was dropped: {verdict}"
    return None


@pytest.mark.parametrize("name", SCENES)
def test_every_pair_and_port_of_a_scene(name: str) -> None:
    carriage = Carriage.of(world(name))
    tried = [t for t in every_traffic(carriage.world) if deliverable(carriage, t)]
    assert len(tried) > 500
    assert [d for d in (disagreement(carriage, t) for t in tried) if d] == []


@pytest.mark.parametrize("name", SCENES)
def test_what_seems_to_come_from_a_nodes_service_address(name: str) -> None:
    """The first packets of connections that services have translated: the pod's own node may
    always call it, another node is an address like any other.
    """
    carriage = Carriage.of(world(name))
    froms = {a for n in carriage.world.nodes.values() for a in service_addresses(n)}
    tried = [
        t
        for t in every_traffic(carriage.world)
        if t.source in froms and carriage.pod_of(t.destination) is not None
    ]
    assert len(tried) > 100
    for traffic in tried:
        alone = Carriage(carriage.world, carriage.flows, switches=carriage.switches)
        passed = alone.arrives(first_packet(traffic), traffic.source, traffic.destination)
        assert passed is evaluate(carriage.world, traffic).allowed, traffic


@settings(max_examples=400, deadline=None)
@given(worlds_with_traffic())
def test_flows_let_pass_what_the_evaluator_allows(drawn: tuple[World, list[Traffic]]) -> None:
    of, found = drawn
    carriage = Carriage.of(of)
    tried = [traffic for traffic in found if deliverable(carriage, traffic)]
    assume(tried)
    assert [d for d in (disagreement(carriage, t) for t in tried) if d] == []
