"""NetworkPolicies from the API: every clause of theirs."""

from __future__ import annotations

import pytest
from policy_objects import block, peer, port, rule, select
from policy_reading import BOTH, EGRESS, INGRESS, clean, peers, read

from ovsnet.model import NetworkPolicy, Operator, PolicyRef, Protocol, Requirement, Selector

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
