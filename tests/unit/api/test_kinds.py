"""From the API's objects to the model's values, the malformed ones included."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from json_strategies import almost

from ovsnet.api import ENDPOINT_SLICE, KINDS, NAMESPACE, NODE, POD, SERVICE
from ovsnet.api.decode import Read, read_page
from ovsnet.api.objects import Problem, address
from ovsnet.model import ContainerPort, Namespace, Node, Phase, Pod


def read(kind, thing):
    """The one object of a list, as it is read."""
    page = {"metadata": {"resourceVersion": "9"}, "items": [thing]}
    (found,) = read_page(kind, json.dumps(page).encode()).objects
    return found


def meta(**more):
    return {"name": "x", "uid": "u-1", "resourceVersion": "7", **more}


def node(spec=None, status=None, **more):
    return {"metadata": meta(**more), "spec": spec or {}, "status": status or {}}


def pod(spec=None, status=None, **more):
    return {
        "metadata": meta(namespace="shop", **more),
        "spec": {"nodeName": "n", **(spec or {})},
        "status": {"phase": "Running", **(status or {})},
    }


def test_a_node():
    found = read(
        NODE,
        node(
            {"podCIDR": "10.1.2.0/24", "podCIDRs": ["10.1.2.0/24", "fd00:1:2::/64"]},
            {
                "addresses": [
                    {"type": "Hostname", "address": "x"},
                    {"type": "ExternalIP", "address": "203.0.113.5"},
                    {"type": "InternalIP", "address": "172.18.0.2"},
                    {"type": "InternalIP", "address": "172.19.0.2"},
                    {"type": "InternalIP", "address": "fd00::2"},
                ],
                "conditions": [{"type": "Ready"}],
            },
            labels={"b": "2", "a": "1"},
        ),
    )
    assert found.value == Node(
        name="x",
        uid="u-1",
        labels=(("a", "1"), ("b", "2")),
        pod_cidrs=(ip_network("10.1.2.0/24"), ip_network("fd00:1:2::/64")),
        addresses=(ip_address("172.18.0.2"), ip_address("fd00::2")),
    )
    assert found.problems == ()
    assert (found.key, found.version, found.uid) == ("x", 7, "u-1")


@pytest.mark.parametrize(
    ("spec", "cidrs", "fields"),
    [
        ({}, (), []),
        ({"podCIDRs": None}, (), []),
        ({"podCIDR": "10.1.2.0/24"}, ("10.1.2.0/24",), []),
        ({"podCIDRs": ["10.1.2.3/24"]}, (), ["spec.podCIDRs[0]"]),
        ({"podCIDRs": ["nonsense", "fd00::/64"]}, ("fd00::/64",), ["spec.podCIDRs[0]"]),
        ({"podCIDRs": ["10.1.2.0/24", "10.1.3.0/24"]}, ("10.1.2.0/24",), ["spec.podCIDRs[1]"]),
        ({"podCIDR": "10.1.2.0/33"}, (), ["spec.podCIDR"]),
        ({"podCIDRs": ["10.1.2.0/24", "10.1.2.0/24"]}, ("10.1.2.0/24",), ["spec.podCIDRs[1]"]),
    ],
)
def test_ranges_that_cannot_be_used_are_left_out(spec, cidrs, fields):
    found = read(NODE, node(spec))
    assert found.value.pod_cidrs == tuple(map(ip_network, cidrs))
    assert [problem.field for problem in found.problems] == fields


@pytest.mark.parametrize(
    ("addresses", "kept"),
    [
        ([("ExternalIP", "203.0.113.5")], ["203.0.113.5"]),
        ([("InternalIP", "host"), ("InternalIP", "172.18.0.2")], ["172.18.0.2"]),
        ([("InternalIP", ""), ("ExternalIP", "203.0.113.5")], ["203.0.113.5"]),
        ([("Hostname", "172.18.0.2")], []),
    ],
)
def test_addresses_of_a_node(addresses, kept):
    entries = [{"type": t, "address": a} for t, a in addresses]
    found = read(NODE, node(status={"addresses": entries}))
    assert found.value.addresses == tuple(map(ip_address, kept))


def test_a_pod():
    found = read(
        POD,
        pod(
            {
                "hostNetwork": True,
                "containers": [
                    {"name": "c", "ports": [{"containerPort": 80, "name": "http"}]},
                    {"ports": [{"containerPort": 53, "protocol": "UDP", "hostPort": 5}]},
                    {"ports": None},
                ],
                "initContainers": [
                    {"ports": [{"containerPort": 1}]},
                    {"restartPolicy": "Always", "ports": [{"containerPort": 15090}]},
                ],
            },
            {"podIP": "10.1.2.3", "podIPs": [{"ip": "10.1.2.3"}, {"ip": "fd00::3"}]},
            labels={"app": "web"},
        ),
    )
    assert found.value == Pod(
        namespace="shop",
        name="x",
        uid="u-1",
        node="n",
        labels=(("app", "web"),),
        addresses=(ip_address("10.1.2.3"), ip_address("fd00::3")),
        ports=(
            ContainerPort("http", 80, "TCP"),
            ContainerPort("", 53, "UDP"),
            ContainerPort("", 15090, "TCP"),
        ),
        host_network=True,
        phase=Phase.RUNNING,
    )
    assert found.problems == ()
    assert found.key == found.value.ref


def test_a_pod_of_which_nothing_is_said_is_pending():
    found = read(POD, {"metadata": meta(namespace="shop")})
    assert found.value == Pod("shop", "x", "u-1")


MIRROR, HASH = "kubernetes.io/config.mirror", "kubernetes.io/config.hash"


@pytest.mark.parametrize(
    ("annotations", "uid"),
    [
        ({MIRROR: "h-1", HASH: "h-1", "kubernetes.io/config.source": "file"}, "h-1"),
        ({HASH: "h-1"}, "u-1"),
        ({MIRROR: "h-1"}, "u-1"),
        ({"app": "web"}, "u-1"),
        ({}, "u-1"),
        (None, "u-1"),
    ],
)
def test_a_static_pod_is_called_by_its_hash_on_its_node(annotations, uid):
    found = read(POD, pod(annotations=annotations))
    assert found.problems == ()
    assert (found.value.uid, found.value.uid_on_node) == ("u-1", uid)


@pytest.mark.parametrize(
    ("thing", "field"),
    [
        (pod(uid=""), "metadata.uid"),
        ({"metadata": meta()}, "metadata.namespace"),
        (pod({"nodeName": 7}), "spec.nodeName"),
        (pod({"containers": [{"ports": [{"containerPort": "http"}]}]}), "spec.containers[...]"),
        (pod({"hostNetwork": "yes"}), "spec.hostNetwork"),
        (pod(labels=["a"]), None),
    ],
)
def test_a_pod_that_cannot_be_read_is_absent_and_the_field_is_named(thing, field):
    page = json.dumps({"metadata": {"resourceVersion": "9"}, "items": [thing]}).encode()
    result = read_page(POD, page)
    if field is None:
        (unusable,) = result.unusable
        assert unusable.problem.field == "metadata.labels"
        return
    (found,) = result.objects
    assert found.value is None
    assert found.problems[0].field.startswith(field.removesuffix("[...]"))


@pytest.mark.parametrize(
    ("thing", "field"),
    [
        (pod(status={"podIPs": [{"ip": "10.1.2"}]}), "status.podIPs[0].ip"),
        (pod(status={"podIP": "10.1.2.300"}), "status.podIP"),
        (pod(status={"phase": "Dreaming"}), "status.phase"),
        (
            pod({"containers": [{"ports": [{"containerPort": 70000}]}]}),
            "spec.containers[].ports[].containerPort",
        ),
    ],
)
def test_a_pod_is_read_without_a_field_that_makes_no_sense(thing, field):
    found = read(POD, thing)
    assert found.value is not None
    assert [problem.field for problem in found.problems] == [field]
    assert found.value.addresses == ()
    assert found.value.ports == ()


def test_a_problem_says_what_was_expected():
    found = read(NODE, node({"podCIDR": "10.1.2.3/24"}))
    assert found.problems == (
        Problem(
            "spec.podCIDR",
            "'10.1.2.3/24': expected CIDR notation without host bits, such as 10.1.2.0/24",
        ),
    )


def test_a_namespace():
    found = read(NAMESPACE, {"metadata": meta(labels={"team": "a"}), "status": {"phase": "Active"}})
    assert found.value == Namespace("x", (("team", "a"),))


NAMES = ("metadata", "spec", "status", "name", "namespace", "uid", "labels", "resourceVersion")
FIELDS = (
    *NAMES,
    "podCIDRs",
    "addresses",
    "podIPs",
    "containers",
    "ports",
    "containerPort",
    "phase",
    "clusterIPs",
    "loadBalancer",
    "endpoints",
    "conditions",
)


@pytest.mark.parametrize("kind", dict.fromkeys((*KINDS, SERVICE, ENDPOINT_SLICE)), ids=repr)
@settings(max_examples=60, deadline=None)
@given(things=st.lists(almost(FIELDS), max_size=3))
def test_nothing_that_is_json_breaks_a_list(kind, things):
    labels = {"kubernetes.io/service-name": "good"}
    good = {"metadata": meta(name="good", namespace="shop", labels=labels)}
    page = {"metadata": {"resourceVersion": "9"}, "items": [*things, good]}
    result = read_page(kind, json.dumps(page).encode())
    assert all(isinstance(found, Read) for found in result.objects)
    assert any(found.value is not None for found in result.objects)
    assert len(result.objects) + len(result.unusable) == len(things) + 1


@given(
    st.ip_addresses().map(str)
    | st.text(max_size=12)
    | st.text("0123456789.:af%", max_size=16)
    | st.sampled_from(
        ["010.1.2.3", "1.2.3", "::ffff:1.2.3.4", "fe80::1%eth0", "1.2.3.4 ", "::", ""]
    )
)
def test_addresses_are_parsed_as_ipaddress_does(text):
    problems = []
    found = address(text, "f", problems)
    try:
        expected = ip_address(text)
    except ValueError:
        expected = None
    if expected is not None and getattr(expected, "scope_id", None) is not None:
        expected = None
    assert found == expected
    assert bool(problems) == (expected is None)
