"""The compiled flows let pass what the evaluator allows, and nothing else: pair by pair."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from policy_carriage import Carriage, answer, first_packet
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


@settings(max_examples=400, deadline=None)
@given(worlds_with_traffic())
def test_flows_let_pass_what_the_evaluator_allows(drawn: tuple[World, list[Traffic]]) -> None:
    of, found = drawn
    carriage = Carriage.of(of)
    tried = [traffic for traffic in found if deliverable(carriage, traffic)]
    assume(tried)
    assert [d for d in (disagreement(carriage, t) for t in tried) if d] == []
