"""NetworkPolicies and Events about them as users and controllers rely on them.

Runs on the embedded and on a real server.
"""

from __future__ import annotations

import json

import pytest

MERGE = "application/merge-patch+json"


@pytest.fixture
def policies(namespace):
    return f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"


@pytest.fixture
def events(namespace):
    return f"/api/v1/namespaces/{namespace}/events"


def policy(spec=None, name="db"):
    return {"metadata": {"name": name}} | ({} if spec is None else {"spec": spec})


def peer(**given):
    """A policy with one ingress peer."""
    return {"podSelector": {}, "ingress": [{"from": [given]}]}


def port(**given):
    """A policy with one egress port."""
    return {"podSelector": {}, "egress": [{"ports": [given]}]}


def pods(*expressions, **labels):
    """A policy for pods of a selector."""
    return {"podSelector": {"matchLabels": labels, "matchExpressions": list(expressions)}}


# What is stored.


@pytest.mark.parametrize(
    ("spec", "types"),
    [
        (None, ["Ingress"]),
        ({}, ["Ingress"]),
        ({"podSelector": {}, "policyTypes": []}, ["Ingress"]),
        ({"podSelector": {}, "policyTypes": None}, ["Ingress"]),
        ({"podSelector": {}, "ingress": [{}]}, ["Ingress"]),
        ({"podSelector": {}, "egress": []}, ["Ingress"]),
        ({"podSelector": {}, "egress": [{}]}, ["Ingress", "Egress"]),
        ({"podSelector": {}, "egress": [{}], "policyTypes": ["Ingress"]}, ["Ingress"]),
        ({"podSelector": {}, "ingress": [{}], "policyTypes": ["Egress"]}, ["Egress"]),
        ({"podSelector": {}, "policyTypes": ["Egress", "Ingress"]}, ["Egress", "Ingress"]),
        ({"podSelector": {}, "policyTypes": ["Egress", "Egress"]}, ["Egress", "Egress"]),
    ],
)
def test_policy_types_and_their_defaults(target, policies, spec, types):
    made = target.ok("POST", policies, policy(spec))
    assert made["spec"]["policyTypes"] == types
    assert made["spec"]["podSelector"] == {}
    assert target.ok("GET", f"{policies}/db")["spec"] == made["spec"]


def test_a_port_is_one_of_tcp_unless_it_says_otherwise(target, policies):
    ports = [{}, {"port": 80}, {"port": "http", "protocol": "UDP"}, {"protocol": "SCTP"}]
    spec = {"podSelector": {}, "ingress": [{"ports": ports}], "egress": [{"ports": ports}]}
    made = target.ok("POST", policies, policy(spec))
    for rules in (made["spec"]["ingress"], made["spec"]["egress"]):
        assert rules == [
            {
                "ports": [
                    {"protocol": "TCP"},
                    {"protocol": "TCP", "port": 80},
                    {"protocol": "UDP", "port": "http"},
                    {"protocol": "SCTP"},
                ]
            }
        ]


def test_empty_lists_are_absent(target, policies):
    spec = {
        "podSelector": {"matchLabels": {}, "matchExpressions": []},
        "ingress": [{"from": [], "ports": None}],
        "egress": [],
    }
    made = target.ok("POST", policies, policy(spec))
    assert made["spec"] == {"podSelector": {}, "ingress": [{}], "policyTypes": ["Ingress"]}


def test_everything_that_can_be_said_is_kept(target, policies):
    spec = {
        "podSelector": {
            "matchLabels": {"app": "db", "example.com/tier": ""},
            "matchExpressions": [
                {"key": "a", "operator": "In", "values": ["y", "x"]},
                {"key": "b", "operator": "NotIn", "values": ["z", ""]},
                {"key": "c", "operator": "Exists"},
                {"key": "d", "operator": "DoesNotExist"},
            ],
        },
        "ingress": [
            {
                "from": [
                    {"podSelector": {}},
                    {"namespaceSelector": {}},
                    {"podSelector": {"matchLabels": {"app": "x"}}, "namespaceSelector": {}},
                    {"ipBlock": {"cidr": "10.1.2.3/8", "except": ["10.1.0.0/16", "10.2.3.4/32"]}},
                    {"ipBlock": {"cidr": "2001:db8::/32"}},
                    {"ipBlock": {"cidr": "::/0", "except": ["fd00::/8"]}},
                ],
                "ports": [{"protocol": "TCP", "port": 1, "endPort": 65535}],
            }
        ],
        "egress": [{"ports": [{"protocol": "UDP", "port": 53, "endPort": 53}]}],
        "policyTypes": ["Ingress", "Egress"],
    }
    assert target.ok("POST", policies, policy(spec))["spec"] == spec


def test_a_field_that_nobody_knows_is_not_kept(target, policies):
    spec = {"podSelector": {}, "tier": "top", "ingress": [{"action": "Deny"}]}
    made = target.ok("POST", policies, policy(spec))
    assert made["spec"] == {"podSelector": {}, "ingress": [{}], "policyTypes": ["Ingress"]}
    strict = target.request("POST", policies, policy(spec, "other"), fieldValidation="Strict")
    assert strict.status == 400
    assert "tier" in strict.body["message"]


def test_a_change_is_a_new_generation_and_makes_up_for_no_default(target, policies):
    made = target.ok("POST", policies, policy({"podSelector": {}}))
    assert made["metadata"]["generation"] == 1
    labelled = {"metadata": {"labels": {"a": "b"}}}
    assert (
        target.ok("PATCH", f"{policies}/db", labelled, media=MERGE)["metadata"]["generation"] == 1
    )
    changed = target.ok("PATCH", f"{policies}/db", {"spec": {"egress": [{}]}}, media=MERGE)
    assert changed["metadata"]["generation"] == 2
    # The types were defaulted when it was created, and do not follow.
    assert changed["spec"]["policyTypes"] == ["Ingress"]


# What is refused.


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (pods({"key": "a", "operator": "Like"}), "spec.podSelector.matchExpressions[0].operator"),
        (pods({"key": "a"}), "spec.podSelector.matchExpressions[0].operator"),
        (pods({"key": "a", "operator": "In"}), "spec.podSelector.matchExpressions[0].values"),
        (
            pods({"key": "a", "operator": "NotIn", "values": []}),
            "spec.podSelector.matchExpressions[0].values",
        ),
        (
            pods({"key": "a", "operator": "Exists", "values": ["x"]}),
            "spec.podSelector.matchExpressions[0].values",
        ),
        (
            pods({"key": "a", "operator": "DoesNotExist", "values": ["x"]}),
            "spec.podSelector.matchExpressions[0].values",
        ),
        (
            pods({"key": "c", "operator": "Exists"}, {"key": "no blanks", "operator": "Exists"}),
            "spec.podSelector.matchExpressions[1].key",
        ),
        (pods({"operator": "Exists"}), "spec.podSelector.matchExpressions[0].key"),
        (
            pods({"key": "a", "operator": "In", "values": ["x", "no blanks"]}),
            "spec.podSelector.matchExpressions[0].values[1]",
        ),
        (pods(**{"no blanks": "x"}), "spec.podSelector.matchLabels"),
        (pods(app="no blanks"), "spec.podSelector.matchLabels"),
        (
            peer(podSelector={"matchExpressions": [{"key": "a", "operator": "In"}]}),
            "spec.ingress[0].from[0].podSelector.matchExpressions[0].values",
        ),
        (
            peer(namespaceSelector={"matchLabels": {"a": "-"}}),
            "spec.ingress[0].from[0].namespaceSelector.matchLabels",
        ),
        (peer(), "spec.ingress[0].from[0]"),
        ({"podSelector": {}, "egress": [{"to": [{}]}]}, "spec.egress[0].to[0]"),
        ({"podSelector": {}, "egress": [{"to": [None]}]}, "spec.egress[0].to[0]"),
        (peer(podSelector={}, ipBlock={"cidr": "10.0.0.0/8"}), "spec.ingress[0].from[0]"),
        (peer(namespaceSelector={}, ipBlock={"cidr": "10.0.0.0/8"}), "spec.ingress[0].from[0]"),
        (peer(ipBlock={}), "spec.ingress[0].from[0].ipBlock.cidr"),
        (peer(ipBlock={"cidr": ""}), "spec.ingress[0].from[0].ipBlock.cidr"),
        (peer(ipBlock={"cidr": "10.0.0.0"}), "spec.ingress[0].from[0].ipBlock.cidr"),
        (peer(ipBlock={"cidr": "10.0.0.0/33"}), "spec.ingress[0].from[0].ipBlock.cidr"),
        (peer(ipBlock={"cidr": "10.0.0.0/255.0.0.0"}), "spec.ingress[0].from[0].ipBlock.cidr"),
        (peer(ipBlock={"cidr": "10.0/8"}), "spec.ingress[0].from[0].ipBlock.cidr"),
        (peer(ipBlock={"cidr": "fd00::/129"}), "spec.ingress[0].from[0].ipBlock.cidr"),
        (peer(ipBlock={"cidr": "fe80::1%eth0/64"}), "spec.ingress[0].from[0].ipBlock.cidr"),
        *(
            (
                peer(ipBlock={"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", inner]}),
                "spec.ingress[0].from[0].ipBlock.except[1]",
            )
            for inner in ("10.2.0.0", "11.0.0.0/16", "10.0.0.0/8", "0.0.0.0/0", "fd00::/16", "")
        ),
        (port(protocol="ICMP"), "spec.egress[0].ports[0].protocol"),
        (port(protocol="tcp"), "spec.egress[0].ports[0].protocol"),
        (port(protocol=""), "spec.egress[0].ports[0].protocol"),
        *(
            (port(port=wrong), "spec.egress[0].ports[0].port")
            for wrong in (0, -1, 65536, "", "80", "HTTP", "a--b", "-a", "a-", "a" * 16, "a.b")
        ),
        (port(endPort=80), "spec.egress[0].ports[0].endPort"),
        (port(port="http", endPort=80), "spec.egress[0].ports[0].endPort"),
        (port(port=80, endPort=79), "spec.egress[0].ports[0].endPort"),
        (port(port=80, endPort=65536), "spec.egress[0].ports[0].endPort"),
        ({"podSelector": {}, "policyTypes": ["Ingress", "Forward"]}, "spec.policyTypes[1]"),
        ({"podSelector": {}, "policyTypes": ["egress"]}, "spec.policyTypes[0]"),
        ({"podSelector": {}, "policyTypes": ["Ingress", "Egress", "Ingress"]}, "spec.policyTypes"),
    ],
    ids=json.dumps,
)
def test_what_makes_no_sense_is_refused_and_the_field_is_named(target, policies, spec, field):
    answer = target.request("POST", policies, policy(spec))
    assert answer.status == 422, answer.body
    named = {cause["field"] for cause in answer.body["details"]["causes"]}
    # Later servers add the key of the label.
    assert {name.removesuffix("[no blanks]").removesuffix("[app]") for name in named} == {field}
    target.ok("POST", policies, policy({"podSelector": {}}))
    changed = target.request("PUT", f"{policies}/db", policy(spec))
    assert changed.status == 422, changed.body


@pytest.mark.parametrize(
    "spec",
    [
        7,
        [],
        {"podSelector": []},
        {"ingress": {}},
        {"ingress": ["all"]},
        {"egress": [{"ports": [{"port": True}]}]},
        {"egress": [{"ports": [{"port": 1.5}]}]},
        {"egress": [{"ports": [{"endPort": "80"}]}]},
        {"policyTypes": "Ingress"},
        {"podSelector": {"matchLabels": {"a": 1}}},
    ],
    ids=json.dumps,
)
def test_what_is_no_policy_is_refused(target, policies, spec):
    assert target.request("POST", policies, policy(spec)).status == 400


# How kubectl shows it.


def test_kubectl_shows_policies(target, policies, kubectl):
    spec = pods(app="db") | {"ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 80}]}]}
    target.ok("POST", policies, policy(spec))
    head, line = kubectl("get", "netpol").splitlines()
    assert head.split() == ["NAME", "POD-SELECTOR", "AGE"]
    assert line.split()[:2] == ["db", "app=db"]
    told = kubectl("describe", "netpol", "db")
    for words in ("PodSelector:     app=db", "To Port: 80/TCP", "Policy Types: Ingress"):
        assert words in told
    kubectl("delete", "netpol", "db")
    assert target.ok("GET", policies)["items"] == []


# Events about it.


def event(namespace, name="db.1", about="db", **more):
    return {
        "metadata": {"name": name},
        "involvedObject": {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "namespace": namespace,
            "name": about,
            "uid": f"uid-{about}",
        },
        "type": "Warning",
        "reason": "NotEnforced",
        "message": "spec.tier: unknown field",
        "source": {"component": "ovsnet"},
        "reportingComponent": "ovsnet",
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z",
        "count": 1,
    } | more


def test_an_event_is_created_once_and_counted(target, namespace, events):
    made = target.ok("POST", events, event(namespace))
    assert (made["count"], made["source"]) == (1, {"component": "ovsnet"})
    again = target.request("POST", events, event(namespace))
    assert (again.status, again.body["reason"]) == (409, "AlreadyExists")
    change = {"count": 2, "lastTimestamp": "2026-01-01T00:05:00Z", "message": "otherwise"}
    counted = target.ok("PATCH", f"{events}/db.1", change, media=MERGE)
    assert {name: counted[name] for name in change} == change
    assert counted["firstTimestamp"] == "2026-01-01T00:00:00Z"
    assert counted["involvedObject"] == made["involvedObject"]
    gone = target.request("PATCH", f"{events}/other", change, media=MERGE)
    assert gone.status == 404


def test_an_event_belongs_to_the_namespace_of_what_it_is_about(target, namespace, events):
    answer = target.request("POST", events, event("default"))
    assert answer.status == 422
    assert [c["field"] for c in answer.body["details"]["causes"]] == ["involvedObject.namespace"]


def test_events_are_found_by_what_they_are_about(target, namespace, events):
    target.ok("POST", events, event(namespace))
    target.ok("POST", events, event(namespace, "web.1", "web"))
    for selector in (
        "involvedObject.kind=NetworkPolicy,involvedObject.name=db",
        "involvedObject.uid=uid-db",
        "reason=NotEnforced,type=Warning,involvedObject.name!=web",
    ):
        found = target.ok("GET", events, fieldSelector=selector)["items"]
        assert [item["metadata"]["name"] for item in found] == ["db.1"], selector


def test_kubectl_shows_events_of_a_policy(target, namespace, policies, events, kubectl):
    uid = target.ok("POST", policies, policy({"podSelector": {}}))["metadata"]["uid"]
    told = event(namespace)
    told["involvedObject"]["uid"] = uid
    target.ok("POST", events, told)
    target.ok("POST", events, event(namespace, "web.1", "web", message="of another policy"))
    for arguments in (
        ("events", "--for", "networkpolicy/db"),
        ("get", "events", "--field-selector=involvedObject.name=db"),
    ):
        shown = kubectl(*arguments)
        for words in ("Warning", "NotEnforced", "/db", "spec.tier: unknown field"):
            assert words in shown
        assert "of another policy" not in shown
