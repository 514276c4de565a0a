"""Services, slices, nodes and pods in many orders: the flows are those of the final state, and so
is what is objected to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from followed import Event, Followed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from policy_carriage import ports_of
from service_carriage import network_of, pods_of
from service_objects import endpoint_slice, node, service
from service_strategies import service_worlds

from ovsnet.controller.network import Deltas, Network
from ovsnet.model import Node
from ovsnet.policy.world import World as Cluster
from ovsnet.services.world import World

Key = TypeVar("Key")
Value = TypeVar("Value")


class State:
    """A world with its pods and their ports."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cluster = Cluster.of((), pods_of(world), world.nodes.values(), ())


def becoming(before: State, after: State) -> list[Event]:
    """Events, of which any order makes the one world of the other."""
    old, new = before.world, after.world
    return [
        *_changes(old.nodes, new.nodes, Network.put_node, Network.drop_node),
        *_changes(old.services, new.services, Network.put_service, Network.drop_service),
        *_changes(old.slices, new.slices, Network.put_slice, Network.drop_slice),
        *_changes(before.cluster.pods, after.cluster.pods, Network.put_pod, Network.drop_pod),
    ]


def _changes(
    before: dict[Key, Value],
    after: dict[Key, Value],
    put: Callable[[Network, Value], Deltas],
    drop: Callable[[Network, Key], Deltas],
) -> list[Event]:
    events: list[Event] = [
        lambda network, key=key: drop(network, key) for key in before if key not in after
    ]
    events += [
        lambda network, value=value: put(network, value)
        for key, value in after.items()
        if before.get(key) != value
    ]
    return events


def at_once(state: State) -> list[Event]:
    """The same by lists of everything, as after a controller has lost its connection."""
    return [
        lambda n: n.set_nodes(state.world.nodes.values()),
        lambda n: n.set_services(state.world.services.values()),
        lambda n: n.set_slices(state.world.slices.values()),
        lambda n: n.set_pods(state.cluster.pods.values()),
    ]


def plugging(state: State) -> list[Event]:
    """The ports of every node, as switches tell them."""
    return [
        lambda n, name=name: n.set_ports(name, ports_of(state.cluster, name))
        for name in state.world.nodes
    ]


def expect(followed: Followed, state: State) -> None:
    """The network ends as if it had been told of this state at once."""
    fresh = network_of(state.world, state.cluster)
    board = followed.network.board
    assert list(board.objections) == list(fresh.board.objections)
    assert dict(board.services) == dict(state.world.services)
    assert dict(board.slices) == dict(state.world.slices)
    followed.expect_flows(fresh, state.world.nodes)


def _as_it_is(one: Node) -> Node:
    return one


def _moved(one: Node) -> Node:
    """At addresses that may be those of endpoints, and are in no order."""
    return replace(one, addresses=node(3).addresses[::-1])


def _unrouted(one: Node) -> Node:
    return replace(one, pod_cidrs=())


def _of_one_family(one: Node) -> Node:
    return replace(one, pod_cidrs=one.pod_cidrs[:1], addresses=one.addresses[:1])


def _in_the_way(one: Node) -> Node:
    """In the range of another node, which is the older one."""
    return replace(one, pod_cidrs=node(1).pod_cidrs, created="2027")


_LIKELY = [_as_it_is] * 6
_MANNERS = st.sampled_from([*_LIKELY, _moved, _unrouted, _of_one_family, _in_the_way])


@st.composite
def states(draw: st.DrawFn) -> State:
    """Worlds in which nodes are not always as usual."""
    world = draw(service_worlds(nodes_own=True))
    nodes = [draw(_MANNERS)(one) for one in world.nodes.values()]
    return State(World.of(nodes, world.services.values(), world.slices.values()))


in_worlds = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
STATES = states()
RANDOMS = st.randoms(use_true_random=False)
NOTHING = State(World())


@in_worlds
@given(STATES, STATES, RANDOMS)
def test_any_order_of_events_ends_in_the_flows_of_the_final_state(before, after, random) -> None:
    followed = Followed()
    events = becoming(NOTHING, before)
    random.shuffle(events)
    followed.heard(*events, *plugging(before))
    expect(followed, before)
    changes = [*becoming(before, after), *plugging(after)]
    random.shuffle(changes)
    followed.heard(*changes, *plugging(after))
    expect(followed, after)


@in_worlds
@given(STATES, STATES, STATES, RANDOMS)
def test_what_came_and_went_in_between_leaves_no_trace(before, between, after, random) -> None:
    """Deletions and creations anew of the same names, each of them in an order of its own."""
    followed = Followed()
    followed.heard(*becoming(NOTHING, before), *plugging(before))
    for old, new in ((before, between), (between, after)):
        changes = becoming(old, new)
        random.shuffle(changes)
        followed.heard(*changes)
    followed.heard(*plugging(after))
    expect(followed, after)


@in_worlds
@given(STATES, STATES, RANDOMS)
def test_lists_of_everything_end_in_the_same_state(before, after, random) -> None:
    followed = Followed()
    for state in (before, after):
        events = at_once(state)
        random.shuffle(events)
        followed.heard(*events, *plugging(state))
        expect(followed, state)


@in_worlds
@given(STATES, RANDOMS)
def test_what_comes_and_goes_leaves_nothing(state, random) -> None:
    bare = State(World(state.world.nodes))
    followed = Followed()
    followed.heard(*becoming(NOTHING, bare), *plugging(bare))
    expect(followed, bare)
    digests = {name: followed.network.ledger(name).digest for name in bare.world.nodes}
    for old, new in ((bare, state), (state, bare)):
        events = becoming(old, new)
        random.shuffle(events)
        followed.heard(*events, *plugging(new))
    expect(followed, bare)
    assert digests == {name: followed.network.ledger(name).digest for name in bare.world.nodes}


def test_an_endpoint_that_becomes_another_services_address_is_left_out_meanwhile() -> None:
    """Hardly ever drawn by chance, and all that one service hears of another's endpoints."""
    calls = service("shop/web", "80")
    parts = endpoint_slice("shop/web", ["80"], "10.96.0.9", "10.244.1.5")
    bare = State(World.of([node(1)], [calls], [parts]))
    taken = State(
        World.of([node(1)], [calls, service("shop/z", "80", cluster="10.96.0.9")], [parts])
    )
    followed = Followed()
    for old, new in ((NOTHING, bare), (bare, taken), (taken, bare)):
        followed.heard(*becoming(old, new), *plugging(new))
        expect(followed, new)


@in_worlds
@given(STATES)
def test_the_same_event_again_changes_nothing(state) -> None:
    followed = Followed()
    events = [*becoming(NOTHING, state), *plugging(state)]
    followed.heard(*events)
    for event in (*events, *at_once(state)):
        assert not event(followed.network)
