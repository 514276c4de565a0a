"""NetworkPolicies from the API: all there may be are read, and nothing that a fault would open."""

from __future__ import annotations

from copy import deepcopy
from itertools import product

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from json_strategies import almost
from msgspec.structs import replace
from policy_reading import read, value
from policy_strategies import OUTSIDE, clusters
from policy_wire import wire_policy, wire_spec

from ovsnet.model import Protocol
from ovsnet.policy.evaluate import Traffic, evaluate
from ovsnet.policy.rules import NUMBERS


@given(clusters())
@settings(deadline=None)
def test_what_is_written_is_what_is_read(world):
    for policy_ in world.policies.values():
        assume(not _void(policy_))
        found = read(wire_spec(policy_), **wire_policy(policy_)["metadata"])
        assert found.value == policy_


def _void(policy_):
    rules = (*policy_.ingress, *policy_.egress)
    return any(() in (r.peers, r.ports) for r in rules)


FIELDS = (
    *("podSelector", "policyTypes", "ingress", "egress", "from", "to", "ports", "ipBlock"),
    *("namespaceSelector", "protocol", "port", "endPort", "cidr", "except", "matchLabels"),
    *("matchExpressions", "key", "operator", "values", "x"),
)
ALMOST = almost(FIELDS, ("Ingress", "Egress", "In", "Exists", "app", "TCP", "10.0.0.0/8", 80))


@given(ALMOST | st.dictionaries(st.sampled_from(FIELDS), ALMOST))
@settings(deadline=None)
def test_whatever_the_spec_says_there_is_a_policy_that_isolates(spec):
    found = value(spec)
    assert found.directions
    if found.faults and any(fault.field.startswith("spec.podSelector") for fault in found.faults):
        assert found.ingress == found.egress == ()
    assert all(fault.field.startswith("spec") and fault.reason for fault in found.faults)


GARBAGE = st.sampled_from(
    (
        None,
        True,
        7,
        -7,
        1.5,
        "no such",
        "",
        [],
        [None],
        [7],
        ["no such"],
        {"bogus": 1},
        {"bogus": {}},
    )
)
"""What no part of a policy can be, or is something else than what stood in its place."""


def places(thing, path=()):
    """The paths to everything in an object, the object itself not included."""
    if isinstance(thing, dict | list):
        steps = thing.keys() if isinstance(thing, dict) else range(len(thing))
        for step in steps:
            yield (*path, step)
            yield from places(thing[step], (*path, step))


def at(thing, path):
    for step in path:
        thing = thing[step]
    return thing


@st.composite
def spoilt(draw, spec):
    """A spec in which something was put in the place of something, or beside it."""
    changed = deepcopy(spec)
    path = draw(st.sampled_from(list(places(spec))))
    holder = at(changed, path[:-1])
    garbage = draw(GARBAGE)
    if draw(st.booleans()):
        holder[path[-1]] = garbage
    elif isinstance(holder, list):
        holder.insert(path[-1], garbage)
    else:
        holder[draw(st.sampled_from(("bogus", "no such", "x/y/z")))] = garbage
    return changed


def allowed(world, policy_):
    """The traffic that a policy alone allows in a world, of all its pods and some others."""
    alone = replace(world, policies={policy_.ref: policy_})
    known = [p.addresses[0] for p in world.pods.values() if p.addresses]
    ends = list(dict.fromkeys([*known, *(a for a in OUTSIDE if a.version == 4)]))
    numbers = (NUMBERS[Protocol.TCP], NUMBERS[Protocol.UDP])
    return {
        (a, b, number, wanted)
        for a, b in product(ends, ends)
        for number, wanted in product(numbers, (53, 80, 8000))
        if evaluate(alone, Traffic(a, b, number, wanted)).allowed
    }


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_a_fault_opens_nothing(data):
    world = data.draw(clusters(max_policies=2).filter(lambda w: w.policies))
    sound = next(iter(world.policies.values()))
    assume(not _void(sound))
    spec = data.draw(spoilt(wire_spec(sound)))
    found = read(spec, namespace=sound.namespace, name=sound.name).value
    assume(found.faults)
    assert allowed(world, found) <= allowed(world, sound)
