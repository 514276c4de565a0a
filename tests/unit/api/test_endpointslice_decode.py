"""EndpointSlices from the API: every clause and every fault."""

from __future__ import annotations

import json
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from json_strategies import almost
from service_wire import wire_slice

from ovsnet.api import ENDPOINT_SLICE
from ovsnet.api.decode import read_page
from ovsnet.api.objects import Problem
from ovsnet.model import (
    EndpointSlice,
    PodRef,
    Protocol,
    ServiceRef,
    SliceEndpoint,
    SlicePort,
    SliceRef,
)

LABELS = {"kubernetes.io/service-name": "s"}
META = {"namespace": "shop", "name": "s-1", "uid": "u-1", "resourceVersion": "7"}
PORT = {"name": "", "protocol": "TCP", "port": 8080}


def read_thing(thing):
    """The one object of a list, as it is read."""
    page = {"metadata": {"resourceVersion": "9"}, "items": [thing]}
    (found,) = read_page(ENDPOINT_SLICE, json.dumps(page).encode()).objects
    return found


def read(endpoints=(), ports=(PORT,), kind="IPv4", labels=LABELS, **metadata):
    """What is read of a slice with these endpoints."""
    return read_thing(
        {
            "metadata": META | {"labels": labels} | metadata,
            "addressType": kind,
            "endpoints": endpoints,
            "ports": ports,
        }
    )


def value(*endpoints, **rest):
    """The slice with these endpoints, which is there whatever they are."""
    found = read(list(endpoints), **rest)
    assert found.problems == ()
    return found.value


def clean(*endpoints, **rest):
    """The same, and there is nothing wrong with it."""
    found = value(*endpoints, **rest)
    assert found.faults == ()
    return found


def only(endpoint):
    """The one endpoint of a slice."""
    (found,) = clean({"addresses": ["10.1.0.3"]} | endpoint).endpoints
    return found


def faults(slice_):
    return [(fault.field, fault.reason) for fault in slice_.faults]


HERE = ip_address("10.1.0.3")


def test_a_slice_with_everything_in_it():
    found = read(
        [
            {
                "addresses": ["10.1.0.3"],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "hints": {"forZones": [{"name": "a"}, {"name": "b"}], "forNodes": [{"name": "n"}]},
                "hostname": "web-0",
                "nodeName": "n1",
                "targetRef": {"kind": "Pod", "namespace": "shop", "name": "web-0", "uid": "u"},
                "zone": "a",
            },
            {
                "addresses": ["10.1.0.2"],
                "conditions": {"ready": False, "serving": True, "terminating": True},
                "nodeName": "n2",
            },
        ],
        [
            {"name": "http", "protocol": "TCP", "port": 8080, "appProtocol": "http"},
            {"name": "dns", "protocol": "UDP", "port": 53},
            {"name": "sig", "protocol": "SCTP", "port": 36412},
        ],
    )
    assert found.value == EndpointSlice(
        "shop",
        "s-1",
        "u-1",
        "s",
        ports=(
            SlicePort("http", Protocol.TCP, 8080),
            SlicePort("dns", Protocol.UDP, 53),
            SlicePort("sig", Protocol.SCTP, 36412),
        ),
        endpoints=(
            SliceEndpoint(
                HERE,
                node="n1",
                zones=("a", "b"),
                nodes=("n",),
                pod=PodRef("shop", "web-0"),
            ),
            SliceEndpoint(ip_address("10.1.0.2"), False, True, True, "n2"),
        ),
    )
    assert found.problems == ()
    assert (found.key, found.version, found.uid) == (SliceRef("shop", "s-1"), 7, "u-1")
    assert found.value.owner == ServiceRef("shop", "s")


@pytest.mark.parametrize("nothing", [None, []])
def test_a_slice_without_endpoints_and_ports(nothing):
    found = read(nothing, nothing)
    assert found.value == EndpointSlice("shop", "s-1", "u-1", "s")


@pytest.mark.parametrize(
    "labels",
    [
        None,
        {},
        {"app": "web"},
        {"kubernetes.io/service-name": ""},
        LABELS | {"service.kubernetes.io/headless": ""},
        LABELS | {"service.kubernetes.io/service-proxy-name": "other"},
    ],
)
def test_a_slice_that_is_no_services_or_not_ours_is_not_there(labels):
    found = read([{"addresses": ["127.0.0.1"]}], labels=labels)
    assert (found.value, found.problems) == (None, ())


def test_a_slice_of_names_is_not_there():
    found = read([{"addresses": ["example.org"]}], kind="FQDN")
    assert (found.value, found.problems) == (None, ())


@pytest.mark.parametrize("field", ["namespace", "name"])
def test_without_a_namespace_or_a_name_there_is_none(field):
    found = read(**{field: ""})
    assert found.value is None
    assert found.problems == (Problem(f"metadata.{field}", "missing"),)


@pytest.mark.parametrize("kind", ["", "IP", "ipv4", "MAC"])
def test_of_an_unknown_type_no_endpoint_is_used(kind):
    found = value({"addresses": ["10.1.0.3"]}, kind=kind)
    assert found.endpoints == ()
    reason = f"{kind!r}: expected one of IPv4, IPv6; no endpoint is used"
    assert faults(found) == [("addressType", reason)]


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ({}, (True, True, False)),
        ({"conditions": {}}, (True, True, False)),
        (
            {"conditions": {"ready": None, "serving": None, "terminating": None}},
            (True, True, False),
        ),
        ({"conditions": {"ready": True}}, (True, True, False)),
        ({"conditions": {"ready": False}}, (False, True, False)),
        ({"conditions": {"serving": False}}, (True, False, False)),
        ({"conditions": {"ready": False, "serving": True}}, (False, True, False)),
        ({"conditions": {"ready": True, "serving": False}}, (True, False, False)),
        ({"conditions": {"terminating": True}}, (True, True, True)),
        ({"conditions": {"ready": False, "terminating": True}}, (False, True, True)),
    ],
)
def test_conditions_and_their_defaults(given_, expected):
    found = only(given_)
    assert (found.ready, found.serving, found.terminating) == expected


@pytest.mark.parametrize("name", [None, ""])
def test_an_endpoint_may_be_on_no_node(name):
    assert only({"nodeName": name}).node == ""


@pytest.mark.parametrize(
    ("hints", "zones", "nodes"),
    [
        (None, (), ()),
        ({}, (), ()),
        ({"forZones": None, "forNodes": []}, (), ()),
        ({"forZones": [{"name": "b"}, {"name": "a"}]}, ("b", "a"), ()),
        ({"forNodes": [{"name": "n1"}]}, (), ("n1",)),
    ],
)
def test_hints(hints, zones, nodes):
    found = only({"hints": hints})
    assert (found.zones, found.nodes) == (zones, nodes)


@pytest.mark.parametrize(
    ("target", "pod"),
    [
        (None, None),
        ({}, None),
        ({"kind": "Pod", "namespace": "x", "name": "p"}, PodRef("x", "p")),
        ({"kind": "Pod", "name": "p"}, PodRef("shop", "p")),
        ({"kind": "Pod", "namespace": "x"}, None),
        ({"kind": "Node", "name": "n"}, None),
        ({"name": "p"}, None),
    ],
)
def test_the_target(target, pod):
    assert only({"targetRef": target}).pod == pod


def test_the_order_is_kept_and_so_is_what_stands_there_twice():
    texts = ["10.1.0.3", "10.1.0.2", "10.1.0.3"]
    found = clean(*({"addresses": [text]} for text in texts))
    assert [str(endpoint.address) for endpoint in found.endpoints] == texts


def test_only_the_first_address_counts():
    found = clean({"addresses": ["10.1.0.3", "10.1.0.4", "127.0.0.1"]})
    assert found.endpoints == (SliceEndpoint(HERE),)


@pytest.mark.parametrize("addresses", [None, []])
def test_an_endpoint_without_an_address_is_left_out(addresses):
    found = value({"addresses": addresses}, {"addresses": ["10.1.0.3"]}, {})
    assert found.endpoints == (SliceEndpoint(HERE),)
    reason = "expected at least one address; the endpoint is left out"
    assert faults(found) == [("endpoints[0].addresses", reason), ("endpoints[2].addresses", reason)]


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("IPv4", "127.0.0.1", "a loopback address"),
        ("IPv4", "169.254.169.254", "a link-local address"),
        ("IPv4", "224.0.0.251", "a multicast address"),
        ("IPv4", "0.0.0.0", "an unspecified address"),
        ("IPv6", "::1", "a loopback address"),
        ("IPv6", "fe80::1", "a link-local address"),
        ("IPv6", "ff02::1", "a multicast address"),
        ("IPv6", "::", "an unspecified address"),
        ("IPv6", "::ffff:10.1.0.3", "an IPv4-mapped address"),
        ("IPv4", "::ffff:10.1.0.3", "an IPv4-mapped address"),
    ],
)
def test_an_address_that_not_every_node_can_reach_is_left_out(kind, text, reason):
    sound = "10.1.0.3" if kind == "IPv4" else "fd00:1::3"
    found = value({"addresses": [sound]}, {"addresses": [text, sound]}, kind=kind)
    assert found.endpoints == (SliceEndpoint(ip_address(sound)),)
    expected = f"{text!r}: {reason}; expected one that every node can reach"
    assert faults(found) == [("endpoints[1].addresses[0]", expected)]


@pytest.mark.parametrize("text", ["", "web-0", "10.1.0", "10.1.0.3/32", "010.1.0.3"])
def test_what_is_no_address_is_left_out(text):
    found = value({"addresses": [text]})
    assert found.endpoints == ()
    reason = f"{text!r}: expected an IPv4 or IPv6 address"
    assert faults(found) == [("endpoints[0].addresses[0]", reason)]


@pytest.mark.parametrize(("kind", "text"), [("IPv4", "fd00:1::3"), ("IPv6", "10.1.0.3")])
def test_an_address_of_another_type_is_left_out(kind, text):
    sound = "10.1.0.3" if kind == "IPv4" else "fd00:1::3"
    found = value({"addresses": [text]}, {"addresses": [sound]}, kind=kind)
    assert found.endpoints == (SliceEndpoint(ip_address(sound)),)
    reason = f"{text}: expected an {kind} address, as addressType says"
    assert faults(found) == [("endpoints[0].addresses[0]", reason)]


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        ({"port": 1}, SlicePort("", Protocol.TCP, 1)),
        ({"name": None, "protocol": None, "port": 65535}, SlicePort("", Protocol.TCP, 65535)),
        ({"name": "", "protocol": "", "port": 80}, SlicePort("", Protocol.TCP, 80)),
        ({"name": "dns", "protocol": "UDP", "port": 53}, SlicePort("dns", Protocol.UDP, 53)),
    ],
)
def test_ports_and_their_defaults(port, expected):
    assert clean(ports=[port]).ports == (expected,)


@pytest.mark.parametrize(
    ("port", "field", "reason"),
    [
        ({"name": "x"}, "port", "null: expected a port from 1 to 65535; it is left out"),
        ({"port": None}, "port", "null: expected a port from 1 to 65535; it is left out"),
        ({"port": 0}, "port", "0: expected a port from 1 to 65535; it is left out"),
        ({"port": 65536}, "port", "65536: expected a port from 1 to 65535; it is left out"),
        (
            {"protocol": "QUIC", "port": 80},
            "protocol",
            "'QUIC': expected one of TCP, UDP, SCTP; the port is left out",
        ),
    ],
)
def test_a_port_that_makes_no_sense_is_left_out(port, field, reason):
    found = value({"addresses": ["10.1.0.3"]}, ports=[port, PORT])
    assert found.ports == (SlicePort("", Protocol.TCP, 8080),)
    assert found.endpoints == (SliceEndpoint(HERE),)
    assert faults(found) == [(f"ports[0].{field}", reason)]


@pytest.mark.parametrize(
    ("thing", "field"),
    [
        ({"endpoints": [{"addresses": "10.1.0.3"}]}, "endpoints[0].addresses"),
        ({"endpoints": [{"conditions": {"ready": "yes"}}]}, "endpoints[0].conditions.ready"),
        ({"endpoints": [{"hints": {"forZones": [{}]}}]}, "endpoints[0].hints.forZones[0]"),
        ({"ports": [{"port": "http"}]}, "ports[0].port"),
        ({"addressType": 4}, "addressType"),
    ],
)
def test_a_slice_that_cannot_be_read_is_absent_and_the_field_is_named(thing, field):
    found = read_thing({"metadata": META | {"labels": LABELS}} | thing)
    assert found.value is None
    assert [problem.field for problem in found.problems] == [field]
    assert found.key == SliceRef("shop", "s-1")


NAMES = st.sampled_from(("a", "b", "n1"))
TUPLES = st.lists(NAMES, max_size=2, unique=True).map(tuple)


def endpoints(family):
    numbers = st.integers(2, 250)
    form = "10.1.0.{}" if family == 4 else "fd00:1::{:x}"
    return st.builds(
        SliceEndpoint,
        numbers.map(lambda n: ip_address(form.format(n))),
        st.booleans(),
        st.booleans(),
        st.booleans(),
        st.just("") | NAMES,
        TUPLES,
        TUPLES,
        st.none() | st.builds(PodRef, NAMES, NAMES),
    )


@given(st.sampled_from((4, 6)), st.data())
@settings(deadline=None)
def test_what_is_written_is_read_again(family, data):
    ports = st.builds(SlicePort, NAMES, st.sampled_from(Protocol), st.integers(1, 65535))
    slice_ = EndpointSlice(
        "shop",
        "s-1",
        "u-1",
        "s",
        tuple(data.draw(st.lists(ports, max_size=3))),
        tuple(data.draw(st.lists(endpoints(family), max_size=5))),
    )
    assert read_thing(wire_slice(slice_, family, resourceVersion="7")).value == slice_


ALMOST = almost(
    (
        *("addresses", "conditions", "ready", "serving", "terminating", "nodeName", "hints"),
        *("forZones", "forNodes", "name", "targetRef", "kind", "namespace", "port", "protocol"),
    ),
    ("10.1.0.3", "fd00::3", "127.0.0.1", "Pod", "UDP", 80, True),
)


@given(st.lists(ALMOST) | ALMOST, st.lists(ALMOST) | ALMOST, st.sampled_from(("IPv4", "IPv6", "x")))
@settings(deadline=None)
def test_nothing_that_is_json_breaks_it(found, ports, kind):
    slice_ = read(found, ports, kind)
    if slice_.value is None:
        assert slice_.problems
        return
    for fault in slice_.value.faults:
        assert fault.field.startswith(("endpoints[", "ports[", "addressType"))
        assert "expected" in fault.reason
