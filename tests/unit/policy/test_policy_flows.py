"""The compiled flows let pass what the evaluator allows, and nothing else: pair by pair."""

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from policy_carriage import Carriage, answer, first_packet
from policy_strategies import clusters, traffics

from ovsnet.policy.evaluate import Traffic, evaluate
from ovsnet.policy.world import World


@st.composite
def worlds_with_traffic(draw: st.DrawFn) -> tuple[World, list[Traffic]]:
    world = draw(clusters())
    found = draw(st.lists(traffics(world), min_size=1, max_size=12))
    return world, found


def deliverable(carriage: Carriage, traffic: Traffic) -> bool:
    """Whether the network has a way for it at all, were there no policies."""
    if traffic.source == traffic.destination or traffic.port == 0:
        return False
    ends = traffic.source, traffic.destination
    if carriage.start(*ends) is None or carriage.is_own_address_of_another_node(*ends):
        return False
    if carriage.pod_of(traffic.destination) is not None:
        return True
    return carriage.pod_of(traffic.source) is not None and not any(
        traffic.destination in r and traffic.destination != r[1]
        for node in carriage.world.nodes.values()
        for r in node.pod_cidrs
    )


@settings(max_examples=400, deadline=None)
@given(worlds_with_traffic())
def test_flows_let_pass_what_the_evaluator_allows(drawn: tuple[World, list[Traffic]]) -> None:
    world, found = drawn
    carriage = Carriage.of(world)
    tried = [traffic for traffic in found if deliverable(carriage, traffic)]
    assume(tried)
    for traffic in tried:
        verdict = evaluate(world, traffic)
        ends = traffic.source, traffic.destination
        alone = Carriage(world, carriage.flows)
        passed = alone.arrives(first_packet(traffic), *ends)
        assert passed == verdict.allowed, (traffic, verdict)
        if passed:
            assert alone.arrives(answer(traffic), *reversed(ends)), (traffic, verdict)
            assert alone.arrives(first_packet(traffic), *ends), (traffic, verdict)
