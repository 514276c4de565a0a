"""Services from the API: every clause, and what is said of every fault."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from msgspec.structs import replace
from service_reading import (
    ADDRESSES,
    DUAL,
    HTTP,
    META,
    NODE_PORT,
    clean,
    faults,
    ingress,
    ips,
    read,
    value,
)

from ovsnet.api.objects import Problem
from ovsnet.model import Protocol, Service, ServicePort, ServiceRef

# What the API defines.


def test_a_service_with_everything_in_it():
    found = read(
        DUAL
        | {
            "type": "LoadBalancer",
            "selector": {"app": "web"},
            "externalIPs": ["192.0.2.1", "2001:db8::1"],
            "ports": [
                {"name": "http", "protocol": "TCP", "port": 80, "nodePort": 30080},
                {"name": "dns", "protocol": "UDP", "port": 80, "nodePort": 30080},
                {"name": "sig", "protocol": "SCTP", "port": 36412, "nodePort": 30412},
            ],
            "ipFamilyPolicy": "RequireDualStack",
            "internalTrafficPolicy": "Local",
            "externalTrafficPolicy": "Local",
            "healthCheckNodePort": 32000,
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
            "loadBalancerSourceRanges": ["10.0.0.0/8", " 2001:db8::/32 "],
        },
        ingress({"ip": "198.51.100.1", "ipMode": "VIP"}, {"ip": "2001:db8::2"}),
    )
    assert found.value == Service(
        namespace="shop",
        name="s",
        uid="u-1",
        created="2026-01-01T00:00:00Z",
        addresses=ips("10.96.0.7", "fd00:96::7"),
        external=ips("192.0.2.1", "2001:db8::1"),
        load_balancer=ips("198.51.100.1", "2001:db8::2"),
        ports=(
            ServicePort("http", Protocol.TCP, 80, 30080),
            ServicePort("dns", Protocol.UDP, 80, 30080),
            ServicePort("sig", Protocol.SCTP, 36412, 30412),
        ),
        families=(4, 6),
        internal_local=True,
        external_local=True,
        affinity=60,
        sources=(ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")),
        health_check=32000,
    )
    assert found.problems == ()
    assert (found.key, found.version, found.uid) == (ServiceRef("shop", "s"), 7, "u-1")


def test_the_least_that_a_service_says():
    found = clean({"ports": [{"port": 443}]})
    assert found == Service(
        "shop",
        "s",
        "u-1",
        META["creationTimestamp"],
        addresses=ips("10.96.0.7"),
        ports=(ServicePort("", Protocol.TCP, 443),),
    )


NO_ADDRESS = Service("shop", "s", "u-1", META["creationTimestamp"])
EVERYWHERE = DUAL | HTTP | {"externalIPs": ["192.0.2.1"], "sessionAffinity": "ClientIP"}


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "ExternalName", "externalName": "example.org"},
        {"type": "ExternalName", "externalName": "example.org"} | EVERYWHERE,
        EVERYWHERE | {"clusterIP": "None", "clusterIPs": ["None"]},
        HTTP | {"clusterIP": "None"},
        HTTP | {"clusterIPs": ["None"], "externalIPs": ["192.0.2.1"]},
        HTTP | {"clusterIP": "", "clusterIPs": None, "externalIPs": ["192.0.2.1"]},
        NODE_PORT,
        {},
    ],
)
def test_headless_and_external_names_have_no_address_of_any_kind(spec):
    found = read(spec, ingress({"ip": "198.51.100.1"}))
    assert (found.value, found.problems) == (NO_ADDRESS, ())


@pytest.mark.parametrize(
    "label", ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"]
)
@pytest.mark.parametrize("text", ["", "other"])
def test_what_another_program_answers_for_is_not_there(label, text):
    found = read(ADDRESSES | HTTP, labels={label: text, "app": "web"})
    assert (found.value, found.problems) == (None, ())
    assert read(ADDRESSES | HTTP, labels={"app": "web"}).value is not None
    assert read(ADDRESSES | HTTP, labels=None).value is not None


def test_one_that_is_being_deleted_is_served_until_it_is_gone():
    found = read(ADDRESSES | HTTP, deletionTimestamp="2026-01-01T00:00:00Z")
    assert found.value == clean({})


@pytest.mark.parametrize("field", ["namespace", "name"])
def test_without_a_namespace_or_a_name_there_is_none(field):
    found = read(ADDRESSES | HTTP, **{field: ""})
    assert found.value is None
    assert found.problems == (Problem(f"metadata.{field}", "missing"),)


def test_an_unknown_type_gets_no_address():
    found = read(EVERYWHERE | {"type": "Anycast"}, ingress({"ip": "198.51.100.1"})).value
    expected = "expected one of ClusterIP, NodePort, LoadBalancer, ExternalName"
    assert faults(found) == [("spec.type", f"'Anycast': {expected}; it gets no address")]
    assert replace(found, faults=()) == NO_ADDRESS


# Ports.


@pytest.mark.parametrize(
    ("kind", "expected"), [("ClusterIP", 0), ("NodePort", 30080), ("LoadBalancer", 30080)]
)
def test_node_ports_are_for_types_that_have_them(kind, expected):
    (port,) = clean(NODE_PORT | {"type": kind}).ports
    assert port.node_port == expected


def test_a_load_balancer_may_have_no_node_ports():
    spec = {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": False}
    (port,) = clean(HTTP | spec).ports
    assert port == ServicePort("http", Protocol.TCP, 80, 0)


@pytest.mark.parametrize(
    ("port", "field", "reason"),
    [
        (
            {"protocol": "QUIC", "port": 80},
            "protocol",
            "'QUIC': expected one of TCP, UDP, SCTP; the port is left out",
        ),
        (
            {"protocol": "tcp", "port": 80},
            "protocol",
            "'tcp': expected one of TCP, UDP, SCTP; the port is left out",
        ),
        ({"port": 0}, "port", "0: expected a port from 1 to 65535; it is left out"),
        ({}, "port", "0: expected a port from 1 to 65535; it is left out"),
        ({"port": 65536}, "port", "65536: expected a port from 1 to 65535; it is left out"),
        ({"port": -1}, "port", "-1: expected a port from 1 to 65535; it is left out"),
        (
            {"port": 443, "nodePort": 31443},
            "port",
            "TCP 443: expected each port once; the first one is used",
        ),
    ],
)
def test_a_port_that_makes_no_sense_is_left_out(port, field, reason):
    sound = [{"name": "https", "port": 443, "nodePort": 30443}, {"protocol": "UDP", "port": 443}]
    found = value({"type": "NodePort", "ports": [*sound, {"name": "x"} | port]})
    assert found.ports == (
        ServicePort("https", Protocol.TCP, 443, 30443),
        ServicePort("", Protocol.UDP, 443),
    )
    assert faults(found) == [(f"spec.ports[2].{field}", reason)]


@pytest.mark.parametrize("number", [1, 22, 30000, 65535])
def test_a_node_port_may_be_any_port(number):
    (port,) = clean({"type": "NodePort", "ports": [{"port": 80, "nodePort": number}]}).ports
    assert port.node_port == number


@pytest.mark.parametrize("number", [65536, 70000, -1])
def test_a_node_port_that_is_none_is_left_out_and_its_port_is_not(number):
    found = value({"type": "NodePort", "ports": [{"port": 80, "nodePort": number}]})
    assert found.ports == (ServicePort("", Protocol.TCP, 80),)
    reason = f"{number}: expected a port from 1 to 65535; it is left out"
    assert faults(found) == [("spec.ports[0].nodePort", reason)]


def test_a_node_port_leads_to_one_port_of_each_protocol():
    entries = [("TCP", 80), ("TCP", 81), ("UDP", 80), ("TCP", 82)]
    spec = [{"protocol": p, "port": n, "nodePort": 30080} for p, n in entries]
    found = value({"type": "NodePort", "ports": spec})
    assert [port.node_port for port in found.ports] == [30080, 0, 30080, 0]
    reason = "TCP 30080: expected each port once; the first one is used"
    assert faults(found) == [
        ("spec.ports[1].nodePort", reason),
        ("spec.ports[3].nodePort", reason),
    ]


# How connections are spread.


@pytest.mark.parametrize(
    ("text", "local"), [(None, False), ("", False), ("Cluster", False), ("Local", True)]
)
def test_traffic_policies(text, local):
    assert clean({"internalTrafficPolicy": text}).internal_local is local
    assert clean(NODE_PORT | {"externalTrafficPolicy": text or ""}).external_local is local


@pytest.mark.parametrize("field", ["internalTrafficPolicy", "externalTrafficPolicy"])
def test_an_unknown_policy_is_taken_as_the_narrower_one(field):
    found = value(NODE_PORT | {field: "Rack"})
    assert found.internal_local is (field == "internalTrafficPolicy")
    assert found.external_local is (field == "externalTrafficPolicy")
    reason = "'Rack': expected one of Cluster, Local; taken as Local"
    assert faults(found) == [(f"spec.{field}", reason)]


@pytest.mark.parametrize(
    ("spec", "matters"),
    [
        ({"type": "ClusterIP"}, False),
        ({"type": "ClusterIP", "externalIPs": ["192.0.2.1"]}, True),
        ({"type": "NodePort"}, True),
        ({"type": "LoadBalancer"}, True),
    ],
)
def test_the_external_policy_counts_where_the_outside_gets_in(spec, matters):
    assert clean(spec | {"externalTrafficPolicy": "Local"}).external_local is matters
    assert bool(value(spec | {"externalTrafficPolicy": "Rack"}).faults) is matters


@pytest.mark.parametrize(
    ("spec", "seconds"),
    [
        ({}, 0),
        ({"sessionAffinity": ""}, 0),
        ({"sessionAffinity": "None"}, 0),
        (
            {
                "sessionAffinity": "None",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
            },
            0,
        ),
        ({"sessionAffinity": "ClientIP"}, 10800),
        ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": None}, 10800),
        ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {}}, 10800),
        ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": None}}, 10800),
        ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {}}}, 10800),
    ],
)
def test_session_affinity(spec, seconds):
    assert clean(spec).affinity == seconds


@pytest.mark.parametrize(
    ("seconds", "kept"), [(1, True), (86400, True), (0, False), (-1, False), (86401, False)]
)
def test_the_time_of_session_affinity(seconds, kept):
    config = {"clientIP": {"timeoutSeconds": seconds}}
    found = value({"sessionAffinity": "ClientIP", "sessionAffinityConfig": config})
    assert found.affinity == (seconds if kept else 10800)
    reason = f"{seconds}: expected 1 to 86400 seconds; 10800 are used"
    field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
    assert faults(found) == ([] if kept else [(field, reason)])


def test_an_unknown_affinity_is_none():
    found = value({"sessionAffinity": "Cookie"})
    assert found.affinity == 0
    reason = "'Cookie': expected one of None, ClientIP; taken as None"
    assert faults(found) == [("spec.sessionAffinity", reason)]


# Who may reach a load balancer, and how it asks for endpoints.


def sources(*ranges, kind="LoadBalancer"):
    return {"type": kind, "loadBalancerSourceRanges": list(ranges)}


@pytest.mark.parametrize("spec", [{}, {"loadBalancerSourceRanges": None}, sources()])
def test_without_ranges_everybody_may_reach_a_load_balancer(spec):
    assert clean({"type": "LoadBalancer"} | spec).sources is None


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort"])
def test_ranges_count_only_for_load_balancers(kind):
    assert clean(sources("nonsense", kind=kind)).sources is None


def test_ranges_may_have_spaces_around_them_and_host_bits():
    found = clean(sources(" 10.0.0.0/8", "192.0.2.9/24\n", "\t2001:db8::1/32 ", "10.0.0.0/8"))
    assert found.sources == tuple(map(ip_network, ("10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32")))


@pytest.mark.parametrize("text", ["", " ", "10.0.0.0", "10.0.0.0/33", "010.0.0.0/8", "10.0.0.0/ 8"])
def test_a_range_that_cannot_be_read_lets_nobody_in(text):
    reason = f"{text.strip()!r}: expected CIDR notation, such as 10.1.2.0/24 or fd00:1::/64"
    found = value(sources(text, "192.0.2.0/24"))
    assert found.sources == (ip_network("192.0.2.0/24"),)
    assert faults(found) == [("spec.loadBalancerSourceRanges[0]", reason)]
    alone = value(sources(text))
    assert alone.sources == ()
    assert faults(alone) == [("spec.loadBalancerSourceRanges[0]", reason)]


def test_a_range_of_mapped_addresses_lets_nobody_in():
    assert value(sources("::ffff:10.0.0.0/104")).sources == ()


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}, 32000),
        ({"type": "LoadBalancer", "externalTrafficPolicy": "Cluster"}, 0),
        ({"type": "LoadBalancer"}, 0),
        ({"type": "NodePort", "externalTrafficPolicy": "Local"}, 0),
        ({"externalIPs": ["192.0.2.1"], "externalTrafficPolicy": "Local"}, 0),
    ],
)
def test_health_is_asked_of_local_load_balancers(spec, expected):
    assert clean(spec | {"healthCheckNodePort": 32000}).health_check == expected


def test_a_port_of_health_checks_that_is_none_is_left_out():
    spec = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
    assert clean(spec).health_check == 0
    found = value(spec | {"healthCheckNodePort": 65536})
    assert found.health_check == 0
    reason = "65536: expected a port from 1 to 65535; it is left out"
    assert faults(found) == [("spec.healthCheckNodePort", reason)]
