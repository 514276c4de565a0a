"""NetworkPolicies from the API: every clause, every fault, and nothing that a fault would open."""

from __future__ import annotations

import json
from copy import deepcopy
from itertools import product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from policy_objects import block, peer, port, rule, select
from policy_strategies import OUTSIDE, clusters
from policy_wire import wire_policy, wire_spec

from ovsnet.api import NETWORK_POLICY
from ovsnet.api.decode import read_page
from ovsnet.api.objects import Problem
from ovsnet.model import (
    Direction,
    NetworkPolicy,
    Operator,
    PolicyRef,
    Protocol,
    Requirement,
    Selector,
)
from ovsnet.policy.evaluate import Traffic, evaluate
from ovsnet.policy.rules import NUMBERS

META = {"namespace": "shop", "name": "p", "uid": "u-1", "resourceVersion": "7"}
BOTH = frozenset(Direction)
INGRESS = frozenset({Direction.INGRESS})
EGRESS = frozenset({Direction.EGRESS})
NOTHING = rule([], [])


def read(spec, **metadata):
    """What is read of a policy with this `spec`."""
    return read_bytes(json.dumps(spec).encode(), **metadata)


def read_bytes(spec, **metadata):
    """What is read of a policy whose `spec` is this JSON."""
    head = json.dumps(META | metadata).encode()
    thing = b'{"metadata": %b, "spec": %b}' % (head, spec)
    page = b'{"metadata": {"resourceVersion": "9"}, "items": [%b]}' % thing
    (found,) = read_page(NETWORK_POLICY, page).objects
    return found


def value(spec):
    """The policy with this `spec`, which is there whatever it says."""
    found = read(spec)
    assert found.problems == ()
    assert (found.value.namespace, found.value.name, found.value.uid) == ("shop", "p", "u-1")
    return found.value


def clean(spec):
    """The policy with this `spec`, in which there is nothing wrong."""
    found = value(spec)
    assert found.faults == ()
    return found


def peers(*given):
    """What is read of an ingress rule's peers, and the faults' fields behind `from`."""
    found = value({"ingress": [{"from": list(given), "ports": [{"port": 80}]}]})
    (only,) = found.ingress
    assert only.ports == (port(80),)
    return only.peers, [fault.field for fault in found.faults]


def ports(*given):
    """What is read of an egress rule's ports, and the faults."""
    found = value({"egress": [{"ports": list(given)}]})
    (only,) = found.egress
    assert only.peers is None
    return only.ports, [(fault.field, fault.reason) for fault in found.faults]


# What the API defines.


def test_a_policy_with_everything_in_it():
    found = read(
        {
            "podSelector": {"matchLabels": {"app": "db"}},
            "policyTypes": ["Egress", "Ingress"],
            "ingress": [
                {
                    "from": [
                        {"podSelector": {"matchLabels": {"app": "web"}}},
                        {"namespaceSelector": {"matchLabels": {"team": "a"}}},
                        {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "job"}}},
                        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
                        {"ipBlock": {"cidr": "2001:db8::/32"}},
                    ],
                    "ports": [
                        {"port": 5432},
                        {"protocol": "UDP", "port": 8000, "endPort": 8079},
                        {"protocol": "SCTP", "port": "signal"},
                        {"protocol": "UDP"},
                        {},
                    ],
                }
            ],
            "egress": [{"to": [{"podSelector": {}}]}, {}],
        }
    )
    assert found.value == NetworkPolicy(
        "shop",
        "p",
        "u-1",
        select("app=db"),
        BOTH,
        ingress=(
            rule(
                [
                    peer("app=web"),
                    peer(namespaces="team=a"),
                    peer("app=job", ""),
                    block("10.0.0.0/8", "10.1.0.0/16"),
                    block("2001:db8::/32"),
                ],
                [
                    port(5432),
                    port(8000, 8079, Protocol.UDP),
                    port("signal", protocol=Protocol.SCTP),
                    port(protocol=Protocol.UDP),
                    port(),
                ],
            ),
        ),
        egress=(rule([peer("")]), rule()),
    )
    assert found.problems == ()
    assert (found.key, found.version, found.uid) == (PolicyRef("shop", "p"), 7, "u-1")


@pytest.mark.parametrize(
    ("spec", "directions"),
    [
        ({}, INGRESS),
        (None, INGRESS),
        ({"policyTypes": None}, INGRESS),
        ({"policyTypes": []}, INGRESS),
        ({"ingress": [{}]}, INGRESS),
        ({"egress": []}, INGRESS),
        ({"egress": None}, INGRESS),
        ({"egress": [{}]}, BOTH),
        ({"egress": [{}], "policyTypes": []}, BOTH),
        ({"egress": [{}], "policyTypes": ["Ingress"]}, INGRESS),
        ({"ingress": [{}], "policyTypes": ["Egress"]}, EGRESS),
        ({"policyTypes": ["Egress"]}, EGRESS),
        ({"policyTypes": ["Ingress", "Egress"]}, BOTH),
        ({"policyTypes": ["Egress", "Egress"]}, EGRESS),
    ],
)
def test_policy_types_and_their_defaults(spec, directions):
    assert clean(spec).directions == directions


@pytest.mark.parametrize("spec", [None, {}, {"podSelector": None}, {"podSelector": {}}])
def test_without_a_selector_all_pods_of_the_namespace_are_meant(spec):
    assert clean(spec).pods == Selector()


@pytest.mark.parametrize("absent", [{}, {"from": None, "ports": None}, {"from": [], "ports": []}])
def test_absent_and_empty_lists_of_a_rule_mean_any(absent):
    assert clean({"ingress": [absent]}).ingress == (rule(),)


def test_no_rules_are_none():
    for spec in ({}, {"ingress": None}, {"ingress": []}):
        assert clean(spec).ingress == ()


def test_a_selector_that_is_null_is_absent_and_one_that_is_empty_is_not():
    assert peers({"podSelector": None, "namespaceSelector": {}}) == ((peer(None, ""),), [])
    assert peers({"podSelector": {}, "namespaceSelector": None}) == ((peer("", None),), [])
    assert peers({"podSelector": {}, "namespaceSelector": {}}) == ((peer("", ""),), [])


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (
            {"matchLabels": {"b": "2", "a": "1"}},
            {"matchLabels": {"a": "1", "b": "2"}, "matchExpressions": []},
            Selector((("a", "1"), ("b", "2"))),
        ),
        (
            {"matchExpressions": [{"key": "a", "operator": "In", "values": ["y", "x", "y"]}]},
            {"matchLabels": {}, "matchExpressions": [
                {"key": "a", "operator": "In", "values": ["x", "y"]},
                {"key": "a", "operator": "In", "values": ["y", "x"]},
            ]},
            select("a in x y"),
        ),
        (
            {"matchExpressions": [
                {"key": "b", "operator": "Exists"},
                {"key": "a", "operator": "DoesNotExist", "values": []},
                {"key": "c", "operator": "NotIn", "values": [""]},
            ]},
            {"matchExpressions": [
                {"key": "c", "operator": "NotIn", "values": [""]},
                {"key": "a", "operator": "DoesNotExist"},
                {"key": "b", "operator": "Exists", "values": None},
            ]},
            Selector(
                expressions=(
                    Requirement("a", Operator.DOES_NOT_EXIST),
                    Requirement("b", Operator.EXISTS),
                    Requirement("c", Operator.NOT_IN, ("",)),
                )
            ),
        ),
        (
            {"matchLabels": {"example.com/a-b_c.d": ""}},
            {"matchLabels": {"example.com/a-b_c.d": ""}, "matchExpressions": None},
            Selector((("example.com/a-b_c.d", ""),)),
        ),
    ],
)  # fmt: skip
def test_selectors_that_say_the_same_are_equal(one, other, expected):
    for written in (one, other):
        assert clean({"podSelector": written}).pods == expected


@pytest.mark.parametrize(
    ("cidr", "network"),
    [
        ("10.1.2.3/24", "10.1.2.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("10.1.2.3/32", "10.1.2.3/32"),
        ("2001:DB8::1/64", "2001:db8::/64"),
        ("::/0", "::/0"),
    ],
)
def test_host_bits_of_a_block_do_not_count(cidr, network):
    assert peers({"ipBlock": {"cidr": cidr}}) == ((block(network),), [])


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


# What cannot be understood.

BAD_SELECTORS = [
    ({"matchLabels": {"app": "web"}, "matchFields": {}}, "matchFields"),
    ({"matchLabels": ["app"]}, "matchLabels"),
    ({"matchLabels": {"app": 1}}, "matchLabels"),
    ({"matchLabels": {"app": None}}, "matchLabels"),
    ({"matchLabels": {"app": "no blanks"}}, "matchLabels"),
    ({"matchLabels": {"no blanks": "web"}}, "matchLabels"),
    ({"matchLabels": {"": "web"}}, "matchLabels"),
    ({"matchLabels": {"a/b/c": "web"}}, "matchLabels"),
    ({"matchLabels": {"/a": "web"}}, "matchLabels"),
    ({"matchLabels": {"a" * 64: "web"}}, "matchLabels"),
    ({"matchLabels": {"app": "a" * 64}}, "matchLabels"),
    ({"matchLabels": {"app": "web\n"}}, "matchLabels"),
    ({"matchExpressions": {"key": "a", "operator": "Exists"}}, "matchExpressions"),
    ({"matchExpressions": [None]}, "matchExpressions[0]"),
    ({"matchExpressions": ["a"]}, "matchExpressions[0]"),
    ({"matchExpressions": [{"operator": "DoesNotExist"}]}, "matchExpressions[0].key"),
    ({"matchExpressions": [{"key": "", "operator": "DoesNotExist"}]}, "matchExpressions[0].key"),
    ({"matchExpressions": [{"key": "?", "operator": "DoesNotExist"}]}, "matchExpressions[0].key"),
    ({"matchExpressions": [{"key": "a"}]}, "matchExpressions[0].operator"),
    ({"matchExpressions": [{"key": "a", "operator": "Gt"}]}, "matchExpressions[0].operator"),
    ({"matchExpressions": [{"key": "a", "operator": "exists"}]}, "matchExpressions[0].operator"),
    ({"matchExpressions": [{"key": "a", "operator": ["In"]}]}, "matchExpressions[0].operator"),
    ({"matchExpressions": [{"key": "a", "operator": "In"}]}, "matchExpressions[0].values"),
    (
        {"matchExpressions": [{"key": "a", "operator": "NotIn", "values": []}]},
        "matchExpressions[0].values",
    ),
    (
        {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["x"]}]},
        "matchExpressions[0].values",
    ),
    (
        {"matchExpressions": [{"key": "a", "operator": "DoesNotExist", "values": ["x"]}]},
        "matchExpressions[0].values",
    ),
    (
        {"matchExpressions": [{"key": "a", "operator": "NotIn", "values": "x"}]},
        "matchExpressions[0].values",
    ),
    (
        {"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["x", "no blanks"]}]},
        "matchExpressions[0].values[1]",
    ),
    (
        {"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["x", 1]}]},
        "matchExpressions[0].values[1]",
    ),
    (
        {"matchExpressions": [{"key": "a", "operator": "Exists", "ignoreCase": True}]},
        "matchExpressions[0].ignoreCase",
    ),
    ([], ""),
    ("app=web", ""),
    (True, ""),
]


@pytest.mark.parametrize(("wrong", "field"), BAD_SELECTORS)
def test_a_peer_with_an_unusable_selector_is_left_out(wrong, field):
    for name, beside in product(("podSelector", "namespaceSelector"), ({}, None)):
        other = {"podSelector", "namespaceSelector"} - {name}
        thing = {name: wrong} | ({} if beside is None else dict.fromkeys(other, beside))
        found, fields = peers({"podSelector": {}}, thing)
        assert found == (peer(""),)
        assert fields == [f"spec.ingress[0].from[1].{name}{'.' if field else ''}{field}"]


@pytest.mark.parametrize(("wrong", "field"), BAD_SELECTORS)
def test_a_policy_whose_pods_cannot_be_told_isolates_its_namespace(wrong, field):
    spec = {"podSelector": wrong, "policyTypes": ["Egress"], "ingress": [{}], "egress": [{}]}
    found = value(spec)
    assert found.pods == Selector()
    assert found.directions == EGRESS
    assert found.ingress == found.egress == ()
    assert [fault.field for fault in found.faults] == [
        f"spec.podSelector{'.' if field else ''}{field}"
    ]


BAD_PEERS = [
    ({}, ""),
    (None, ""),
    ([], ""),
    ("everybody", ""),
    ({"podSelector": None}, ""),
    ({"serviceAccountSelector": {}}, ".serviceAccountSelector"),
    ({"podSelector": {}, "nodeSelector": None}, ".nodeSelector"),
    ({"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}, ""),
    ({"namespaceSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}, ""),
    ({"ipBlock": {}}, ".ipBlock.cidr"),
    ({"ipBlock": []}, ".ipBlock"),
    ({"ipBlock": "10.0.0.0/8"}, ".ipBlock"),
    ({"ipBlock": {"cidr": None}}, ".ipBlock.cidr"),
    ({"ipBlock": {"cidr": 10}}, ".ipBlock.cidr"),
    ({"ipBlock": {"cidr": ""}}, ".ipBlock.cidr"),
    ({"ipBlock": {"cidr": "10.0.0.0"}}, ".ipBlock.cidr"),
    ({"ipBlock": {"cidr": "10.0.0.0/33"}}, ".ipBlock.cidr"),
    ({"ipBlock": {"cidr": "10.0.0.0/08"}}, ".ipBlock.cidr"),
    ({"ipBlock": {"cidr": "10.0.0.0/-1"}}, ".ipBlock.cidr"),
    ({"ipBlock": {"cidr": "10.0.0.0/255.0.0.0"}}, ".ipBlock.cidr"),
    ({"ipBlock": {"cidr": "10.0/8"}}, ".ipBlock.cidr"),
    ({"ipBlock": {"cidr": "010.0.0.0/8"}}, ".ipBlock.cidr"),
    ({"ipBlock": {"cidr": "10.0.0.0/8 "}}, ".ipBlock.cidr"),
    ({"ipBlock": {"cidr": "fe80::1%eth0/64"}}, ".ipBlock.cidr"),
    ({"ipBlock": {"cidr": "fd00::/129"}}, ".ipBlock.cidr"),
    ({"ipBlock": {"cidr": "::ffff:10.0.0.0/104"}}, ".ipBlock.cidr"),
    ({"ipBlock": {"cidr": "10.0.0.0/\u0668"}}, ".ipBlock.cidr"),
    ({"ipBlock": {"cidr": "10.0.0.0/8", "ports": []}}, ".ipBlock.ports"),
    ({"ipBlock": {"cidr": "10.0.0.0/8", "except": "10.1.0.0/16"}}, ".ipBlock.except"),
    ({"ipBlock": {"cidr": "10.0.0.0/8", "except": [None]}}, ".ipBlock.except[0]"),
    ({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0"]}}, ".ipBlock.except[0]"),
    (
        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "11.0.0.0/16"]}},
        ".ipBlock.except[1]",
    ),
    ({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}}, ".ipBlock.except[0]"),
    ({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/7"]}}, ".ipBlock.except[0]"),
    ({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["fd00::/16"]}}, ".ipBlock.except[0]"),
]


@pytest.mark.parametrize(("wrong", "field"), BAD_PEERS)
def test_a_peer_that_is_not_understood_is_left_out(wrong, field):
    assert peers(wrong) == ((), [f"spec.ingress[0].from[0]{field}"])
    found, fields = peers({"ipBlock": {"cidr": "192.0.2.0/24"}}, wrong, {"podSelector": {}})
    assert found == (block("192.0.2.0/24"), peer(""))
    assert fields == [f"spec.ingress[0].from[1]{field}"]


BAD_PORTS = [
    (None, ""),
    ([], ""),
    (80, ""),
    ({"port": 80, "ipProtocol": 50}, ".ipProtocol"),
    ({"protocol": "tcp"}, ".protocol"),
    ({"protocol": "ICMP", "port": 80}, ".protocol"),
    ({"protocol": ""}, ".protocol"),
    ({"protocol": 6}, ".protocol"),
    ({"port": 0}, ".port"),
    ({"port": -1}, ".port"),
    ({"port": 65536}, ".port"),
    ({"port": 80.0}, ".port"),
    ({"port": True}, ".port"),
    ({"port": [80]}, ".port"),
    ({"port": 10**30}, ".port"),
    ({"port": ""}, ".port"),
    ({"port": "80"}, ".port"),
    ({"port": "HTTP"}, ".port"),
    ({"port": "a--b"}, ".port"),
    ({"port": "-a"}, ".port"),
    ({"port": "a-"}, ".port"),
    ({"port": "a\n"}, ".port"),
    ({"port": "a" * 16}, ".port"),
    ({"endPort": 80}, ".endPort"),
    ({"port": "http", "endPort": 80}, ".endPort"),
    ({"port": 81, "endPort": 80}, ".endPort"),
    ({"port": 80, "endPort": 65536}, ".endPort"),
    ({"port": 80, "endPort": 0}, ".endPort"),
    ({"port": 80, "endPort": "90"}, ".endPort"),
    ({"port": 80, "endPort": True}, ".endPort"),
]


@pytest.mark.parametrize(("wrong", "field"), BAD_PORTS)
def test_a_port_that_is_not_understood_is_left_out(wrong, field):
    found, faults = ports(wrong)
    assert found == ()
    assert [where for where, _ in faults] == [f"spec.egress[0].ports[0]{field}"]
    found, faults = ports({"port": 80, "endPort": 80}, wrong, {"port": "http"})
    assert found == (port(80, 80), port("http"))
    assert [where for where, _ in faults] == [f"spec.egress[0].ports[1]{field}"]


@pytest.mark.parametrize(
    ("wrong", "field", "peers_", "ports_"),
    [
        ({"to": [{"podSelector": {}}]}, "spec.ingress[1].to", (), ()),
        ({"action": "Deny"}, "spec.ingress[1].action", (), ()),
        ({"action": None}, "spec.ingress[1].action", (), ()),
        (None, "spec.ingress[1]", (), ()),
        ([], "spec.ingress[1]", (), ()),
        ("all", "spec.ingress[1]", (), ()),
        ({"from": {}}, "spec.ingress[1].from", (), None),
        ({"from": ""}, "spec.ingress[1].from", (), None),
        ({"from": False}, "spec.ingress[1].from", (), None),
        ({"ports": {"port": 80}}, "spec.ingress[1].ports", None, ()),
        ({"ports": 80}, "spec.ingress[1].ports", None, ()),
    ],
)
def test_a_rule_that_is_not_understood_keeps_its_place_and_allows_nothing(
    wrong, field, peers_, ports_
):
    found = value({"ingress": [{}, wrong, {"ports": [{"port": 80}]}]})
    assert found.ingress == (rule(), rule(peers_, ports_), rule(None, [port(80)]))
    assert [fault.field for fault in found.faults] == [field]


@pytest.mark.parametrize(
    ("types", "fields"),
    [
        (["Forward"], ["spec.policyTypes[0]"]),
        (["Ingress", "egress"], ["spec.policyTypes[1]"]),
        (["Egress", None], ["spec.policyTypes[1]"]),
        ([["Egress"]], ["spec.policyTypes[0]"]),
        ("Egress", ["spec.policyTypes"]),
        ({"Egress": True}, ["spec.policyTypes"]),
        (0, ["spec.policyTypes"]),
    ],
)
def test_types_that_are_not_understood_isolate_both_ways_with_the_rules_there_are(types, fields):
    found = value(
        {"policyTypes": types, "ingress": [{}], "podSelector": {"matchLabels": {"a": "b"}}}
    )
    assert found.directions == BOTH
    assert found.pods == select("a=b")
    assert found.ingress == (rule(),)
    assert [fault.field for fault in found.faults] == fields


def test_an_unknown_field_of_the_spec_voids_the_rules_and_nothing_else():
    spec = {"podSelector": {"matchLabels": {"a": "b"}}, "egress": [{}], "tier": "top", "x y": 1}
    found = value(spec)
    assert found.pods == select("a=b")
    assert found.directions == BOTH
    assert found.egress == ()
    assert [fault.field for fault in found.faults] == ["spec.tier", "spec['x y']"]


@pytest.mark.parametrize("rules", [{}, "", 0, False, {"to": []}])
def test_rules_that_are_no_list_allow_nothing_and_isolate(rules):
    found = value({"egress": rules})
    assert found.egress == ()
    assert found.directions == BOTH
    assert [fault.field for fault in found.faults] == ["spec.egress"]


@pytest.mark.parametrize(
    "spec", [b"7", b"[]", b'"all"', b"true", b'{"egress": 1e999}', b'{"a": "\xff"}']
)
def test_a_spec_that_cannot_be_read_isolates_the_namespace_both_ways(spec):
    found = read_bytes(spec).value
    assert found.pods == Selector()
    assert found.directions == BOTH
    assert found.ingress == found.egress == ()
    assert [fault.field for fault in found.faults] == ["spec"]


def test_every_fault_is_told_with_what_was_expected():
    found = value(
        {
            "podSelector": {"matchExpressions": [{"key": "a", "operator": "Like"}]},
            "ingress": [{"from": [{"podSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/40"}}]}],
            "egress": [{"ports": [{"port": 99999, "protocol": "IGMP"}]}],
        }
    )
    assert [(fault.field, fault.reason) for fault in found.faults] == [
        (
            "spec.podSelector.matchExpressions[0].operator",
            "'Like': expected one of In, NotIn, Exists, DoesNotExist",
        ),
        (
            "spec.ingress[0].from[1].ipBlock.cidr",
            "'10.0.0.0/40': expected CIDR notation, such as 10.1.2.0/24 or fd00:1::/64",
        ),
        ("spec.egress[0].ports[0].protocol", "'IGMP': expected one of TCP, UDP, SCTP"),
        (
            "spec.egress[0].ports[0].port",
            "99999: expected a number from 1 to 65535 or the name of a port",
        ),
    ]


def test_long_values_are_cut_in_what_is_told():
    found = value({"x" * 1000: 1, "policyTypes": ["y" * 1000]})
    assert all(len(fault.field) + len(fault.reason) < 250 for fault in found.faults)


@pytest.mark.parametrize("field", ["namespace", "name"])
def test_without_its_name_a_policy_is_absent(field):
    found = read({}, **{field: ""})
    assert found.value is None
    assert found.problems == (Problem(f"metadata.{field}", "missing"),)


# Nothing opens.

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 70000)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    (
        *("podSelector", "policyTypes", "ingress", "egress", "from", "to", "ports", "ipBlock"),
        *("namespaceSelector", "protocol", "port", "endPort", "cidr", "except", "matchLabels"),
        *("matchExpressions", "key", "operator", "values", "x"),
    )
)
WORDS = st.sampled_from(("Ingress", "Egress", "In", "Exists", "app", "TCP", "10.0.0.0/8", 80))
ALMOST = st.recursive(
    JSON | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=12,
)


@given(ALMOST | st.dictionaries(FIELDS, ALMOST))
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
