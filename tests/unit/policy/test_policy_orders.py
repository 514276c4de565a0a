"""Policies, pods, namespaces and ports in many orders: the flows are those of the final state."""

import pytest
from followed import Event, Followed
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_carriage import network_of, ports_of
from policy_strategies import clusters

from ovsnet.policy.world import World


def becoming(before: World, after: World) -> list[Event]:
    """Events, of which any order makes the one world of the other."""
    events: list[Event] = []
    for name in before.nodes.keys() | after.nodes.keys():
        if name not in after.nodes:
            events.append(lambda n, name=name: n.drop_node(name))
        elif before.nodes.get(name) != after.nodes[name]:
            events.append(lambda n, node=after.nodes[name]: n.put_node(node))
    for name in before.namespaces.keys() | after.namespaces.keys():
        if name not in after.namespaces:
            events.append(lambda n, name=name: n.drop_namespace(name))
        elif before.namespaces.get(name) != after.namespaces[name]:
            events.append(lambda n, space=after.namespaces[name]: n.put_namespace(space))
    for ref in before.pods.keys() | after.pods.keys():
        if ref not in after.pods:
            events.append(lambda n, ref=ref: n.drop_pod(ref))
        elif before.pods.get(ref) != after.pods[ref]:
            events.append(lambda n, pod=after.pods[ref]: n.put_pod(pod))
    for policy in before.policies.keys() | after.policies.keys():
        if policy not in after.policies:
            events.append(lambda n, policy=policy: n.drop_policy(policy))
        elif before.policies.get(policy) != after.policies[policy]:
            events.append(lambda n, policy=after.policies[policy]: n.put_policy(policy))
    return events


def plugging(world: World) -> list[Event]:
    """Ports of every node that come, in the order of the switch's telling."""
    return [lambda n, name=name: n.set_ports(name, ports_of(world, name)) for name in world.nodes]


def expect(followed: Followed, world: World) -> None:
    """The network ends as if it had been told of this world at once."""
    followed.expect_flows(network_of(world), world.nodes)


@settings(max_examples=300, deadline=None)
@given(clusters(), clusters(), st.randoms(use_true_random=False))
def test_any_order_of_events_ends_in_the_flows_of_the_final_state(before, after, random) -> None:
    followed = Followed()
    first = becoming(World(), before)
    random.shuffle(first)
    # A switch can connect at any time, but only to a node that is known.
    for event in [*first, *plugging(before)]:
        followed.heard(event)
    expect(followed, before)
    changes = [*becoming(before, after), *plugging(after)]
    random.shuffle(changes)
    for event in changes:
        followed.heard(event)
    for event in plugging(after):
        followed.heard(event)
    expect(followed, after)


@settings(max_examples=100, deadline=None)
@given(clusters(), st.randoms(use_true_random=False))
def test_what_comes_and_goes_leaves_nothing(world, random) -> None:
    followed = Followed()
    without = World(world.namespaces, {}, world.nodes, {})
    events = [*becoming(World(), world), *plugging(world)]
    for event in events:
        followed.heard(event)
    leaving = becoming(world, without)
    random.shuffle(leaving)
    for event in leaving:
        followed.heard(event)
    expect(followed, without)
    assert not list(followed.network.enforcement.isolation.pods)


@settings(max_examples=100, deadline=None)
@given(clusters())
def test_the_same_event_again_changes_nothing(world) -> None:
    followed = Followed()
    events = [*becoming(World(), world), *plugging(world)]
    for event in events:
        followed.heard(event)
    for event in events:
        assert not event(followed.network)


@settings(max_examples=100, deadline=None)
@given(clusters(), clusters(), st.randoms(use_true_random=False))
def test_grants_that_share_a_hash_keep_apart_in_any_order(before, after, random) -> None:
    """With every hash the same, each grant that comes or goes gives others another conjunction."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ovsnet.controller.policy.standings._HASH_OCTETS", 0)
        followed = Followed()
        for event in [*becoming(World(), before), *plugging(before)]:
            followed.heard(event)
        changes = [*becoming(before, after), *plugging(after)]
        random.shuffle(changes)
        for event in [*changes, *plugging(after)]:
            followed.heard(event)
        expect(followed, after)
        standing = list(followed.network.enforcement._standings)
        assert len({each._conjunction for each in standing}) == len(standing)
