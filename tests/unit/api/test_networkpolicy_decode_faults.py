"""NetworkPolicies from the API: what cannot be understood allows nothing, and is told."""

from __future__ import annotations

from itertools import product

import pytest
from policy_objects import block, peer, port, rule, select
from policy_reading import BOTH, EGRESS, peers, ports, read, read_bytes, value

from ovsnet.api.objects import Problem
from ovsnet.model import Selector

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
