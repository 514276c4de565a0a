"""What holds of the evaluator in every world that the strategies make, and that they make worlds in
which everything happens.
"""

from itertools import islice, product

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from service_objects import node, outside_at
from service_strategies import calls, service_calls, service_worlds

from ovsnet.names import NODE_PORT_OFFSET
from ovsnet.services.claims import Face, Hindrance, by_age, claims
from ovsnet.services.evaluate import (
    OK,
    UNAVAILABLE,
    Dropped,
    HealthChecked,
    NotAService,
    Reason,
    Refused,
    Served,
    evaluate,
    evaluate_again,
    onward,
)
from ovsnet.services.objections import objections
from ovsnet.services.world import Call, Whence, World

in_worlds = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
WORLDS = service_worlds(nodes_own=True)
SCENES = WORLDS.flatmap(lambda world: st.tuples(st.just(world), service_calls(world)))


def backwards(world):
    """The same world with its objects in another order."""
    return World.of(
        [*world.nodes.values()][::-1],
        [*world.services.values()][::-1],
        [*world.slices.values()][::-1],
    )


@in_worlds
@given(SCENES)
def test_the_order_of_objects_does_not_matter(scene):
    world, call = scene
    assert evaluate(world, call) == evaluate(backwards(world), call)
    assert objections(world) == objections(backwards(world))


@in_worlds
@given(SCENES)
def test_who_takes_a_call_is_an_endpoint_of_the_service(scene):
    world, call = scene
    outcome = evaluate(world, call)
    if isinstance(outcome, Served):
        known = {
            (entry.address, port.port)
            for one in world.slices.values()
            if one.owner == outcome.service
            for entry in one.endpoints
            for port in one.ports
        }
        assert outcome.endpoints
        assert outcome.endpoints <= known
        assert outcome.kept <= outcome.endpoints
        assert outcome.hidden <= outcome.endpoints
        assert not outcome.kept & outcome.hidden


@in_worlds
@given(SCENES)
def test_later_calls_reach_nobody_whom_a_first_one_could_not(scene):
    world, call = scene
    outcome = evaluate(world, call)
    if isinstance(outcome, Served):
        for earlier in outcome.endpoints:
            again = evaluate_again(world, call, earlier)
            sticky = world.services[outcome.service].affinity > 0
            assert again.endpoints == ({earlier} if sticky else outcome.endpoints)


@in_worlds
@given(WORLDS)
def test_a_service_has_what_it_claims_unless_that_is_objected_to(world):
    wrong = {(objection.service, objection.value) for objection in objections(world)}
    for service in by_age(world):
        for claim in claims(service):
            if {(service.ref, str(claim.spot)), (service.ref, str(claim.spot.address))} & wrong:
                continue
            for name in world.nodes:
                outcome = evaluate(world, reaching(claim, name))
                assert outcome.service == service.ref


def reaching(claim, name):
    """A call of what is claimed, at a node, from outside. Node ports are called at the node port
    address, which no service can have.
    """
    address = claim.spot.address
    if address is None:
        family = claim.service.families[0]
        address = node(int(name[-1])).pod_cidrs[family == 6][NODE_PORT_OFFSET]
    client = outside_at(int(name[-1]), family=address.version)
    return Call(client, address, claim.spot.protocol, claim.spot.port)


@in_worlds
@given(WORLDS)
def test_calls_that_go_on_are_for_the_other_node(world):
    for call in islice(calls(world), 0, None, 5):
        second = onward(world, call)
        if second is not None:
            assert second.client.node != call.client.node
            assert second.client.whence is Whence.OUTSIDE
            assert call.destination in world.nodes[second.client.node].addresses
            assert onward(world, second) is None


def test_everything_happens():
    seen = set()

    @settings(in_worlds, max_examples=200, phases=[Phase.generate], database=None)
    @given(WORLDS)
    def look(world):
        seen.update(objection.reason for objection in objections(world))
        for call in islice(calls(world), 0, None, 7):
            seen.update(marks(evaluate(world, call)))

    look()
    faces = [(face, True) for face in Face if face is not Face.HEALTH_CHECK]
    sights = product(("kept", "hidden"), (False, True))
    assert {NotAService, OK, UNAVAILABLE, *Reason, *Hindrance, *faces, *sights} <= seen


def marks(outcome):
    """What there is to an outcome, in parts."""
    match outcome:
        case Served():
            yield outcome.face, len(outcome.endpoints) > 1
            yield "kept", bool(outcome.kept)
            yield "hidden", bool(outcome.hidden)
        case Refused() | Dropped():
            yield outcome.reason
        case HealthChecked():
            yield outcome.status
        case _:
            yield type(outcome)
