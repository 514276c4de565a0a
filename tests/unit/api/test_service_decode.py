"""Services from the API: every clause, every fault, and nothing that a fault would open."""

from __future__ import annotations

import json
from copy import deepcopy
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from service_wire import wire_service

from ovsnet.api import SERVICE
from ovsnet.api.decode import read_page
from ovsnet.api.objects import Problem
from ovsnet.model import Protocol, Service, ServicePort, ServiceRef

META = {
    "namespace": "shop",
    "name": "s",
    "uid": "u-1",
    "resourceVersion": "7",
    "creationTimestamp": "2026-01-01T00:00:00Z",
}
ADDRESSES = {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ipFamilies": ["IPv4"]}
DUAL = {
    "clusterIP": "10.96.0.7",
    "clusterIPs": ["10.96.0.7", "fd00:96::7"],
    "ipFamilies": ["IPv4", "IPv6"],
}
HTTP = {"ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}]}
NODE_PORT = {"type": "NodePort", "ports": [{"protocol": "TCP", "port": 80, "nodePort": 30080}]}


def read(spec, status=None, **metadata):
    """What is read of a service with this `spec`."""
    return read_thing({"metadata": META | metadata, "spec": spec, "status": status or {}})


def read_thing(thing):
    """The one object of a list, as it is read."""
    page = {"metadata": {"resourceVersion": "9"}, "items": [thing]}
    (found,) = read_page(SERVICE, json.dumps(page).encode()).objects
    return found


def value(spec, status=None):
    """The service with this `spec` beside an IPv4 address and a port."""
    found = read(ADDRESSES | HTTP | spec, status)
    assert found.problems == ()
    return found.value


def clean(spec, status=None):
    """The same, and there is nothing wrong with it."""
    found = value(spec, status)
    assert found.faults == ()
    return found


def faults(service):
    return [(fault.field, fault.reason) for fault in service.faults]


def ips(*texts):
    return tuple(map(ip_address, texts))


def ingress(*entries):
    return {"loadBalancer": {"ingress": list(entries)}}


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


# Addresses.


@pytest.mark.parametrize(
    ("spec", "addresses", "families"),
    [
        (DUAL, ("10.96.0.7", "fd00:96::7"), (4, 6)),
        (
            {"clusterIPs": ["fd00:96::7", "10.96.0.7"], "ipFamilies": ["IPv6", "IPv4"]},
            ("fd00:96::7", "10.96.0.7"),
            (6, 4),
        ),
        ({"clusterIPs": ["fd00:96::7"], "ipFamilies": ["IPv6"]}, ("fd00:96::7",), (6,)),
        ({"clusterIPs": None, "ipFamilies": None}, ("10.96.0.7",), (4,)),
        ({"clusterIP": "fd00:96::7", "clusterIPs": [], "ipFamilies": []}, ("fd00:96::7",), (6,)),
        (DUAL | {"ipFamilies": None}, ("10.96.0.7", "fd00:96::7"), (4, 6)),
        # One that has yet to get its second address.
        ({"ipFamilies": ["IPv4", "IPv6"]}, ("10.96.0.7",), (4, 6)),
    ],
)
def test_addresses_of_the_cluster_and_families(spec, addresses, families):
    found = clean(spec)
    assert (found.addresses, found.families) == (ips(*addresses), families)


SPECIAL = [
    ("127.0.0.1", "a loopback address"),
    ("127.255.255.255", "a loopback address"),
    ("169.254.1.1", "a link-local address"),
    ("224.0.0.1", "a multicast address"),
    ("239.255.255.255", "a multicast address"),
    ("255.255.255.255", "the broadcast address"),
    ("0.0.0.0", "an unspecified address"),
    ("0.0.0.1", "an unspecified address"),
    ("::", "an unspecified address"),
    ("::1", "a loopback address"),
    ("fe80::1", "a link-local address"),
    ("febf::1", "a link-local address"),
    ("ff02::1", "a multicast address"),
    ("ffff::1", "a multicast address"),
    ("::ffff:10.0.0.1", "an IPv4-mapped address"),
    ("::ffff:127.0.0.1", "an IPv4-mapped address"),
]
NO_ADDRESSES = ["", "ten", "10.0.0.1/32", "010.0.0.1", "1.2.3", "fe80::1%eth0", "None "]
FAULTY = [
    *(
        (text, f"'{text}': {kind}; expected one that every node can reach")
        for text, kind in SPECIAL
    ),
    *((text, f"'{text}': expected an IPv4 or IPv6 address") for text in NO_ADDRESSES),
]
USABLE = [
    *("10.0.0.1", "126.255.255.255", "128.0.0.1", "169.253.255.255", "169.255.0.0", "1.0.0.0"),
    *("223.255.255.255", "240.0.0.1", "255.255.255.254", "172.18.0.2", "100.64.0.1"),
    *("::2", "::1:0:0:1", "fd00::1", "2001:db8::1", "fec0::1", "fe7f::1", "::fffe:1.2.3.4"),
]


@pytest.mark.parametrize(("text", "reason"), FAULTY)
def test_an_address_that_not_every_node_can_reach_is_left_out(text, reason):
    found = value(DUAL | {"clusterIPs": [text, "fd00:96::7"]})
    assert found.addresses == ips("fd00:96::7")
    assert faults(found) == [("spec.clusterIPs[0]", reason)]

    found = value(DUAL | {"externalIPs": ["192.0.2.1", text, "2001:db8::1"]})
    assert found.external == ips("192.0.2.1", "2001:db8::1")
    assert faults(found) == [("spec.externalIPs[1]", reason)]

    if text:
        status = ingress({"ip": text}, {"ip": "198.51.100.1"})
        found = value(DUAL | {"type": "LoadBalancer"}, status)
        assert found.load_balancer == ips("198.51.100.1")
        assert faults(found) == [("status.loadBalancer.ingress[0].ip", reason)]


@pytest.mark.parametrize("text", USABLE)
def test_addresses_beside_those_are_used(text):
    status = ingress({"ip": text})
    found = clean(DUAL | {"type": "LoadBalancer", "externalIPs": [text]}, status)
    assert found.external == found.load_balancer == ips(text)


def test_the_other_addresses_serve_where_none_of_the_cluster_can_be_used():
    found = value({"clusterIPs": ["127.0.0.1"], "externalIPs": ["192.0.2.1"]})
    assert (found.addresses, found.external) == ((), ips("192.0.2.1"))
    (fault,) = found.faults
    assert fault.field == "spec.clusterIPs[0]"
    assert value({"clusterIPs": None, "clusterIP": "no"}).faults[0].field == "spec.clusterIP"


def test_there_is_one_address_of_the_cluster_of_each_family():
    found = value(DUAL | {"clusterIPs": ["10.96.0.7", "10.96.0.8"]})
    assert found.addresses == ips("10.96.0.7")
    reason = "10.96.0.8: expected one of each IP family; 10.96.0.7 is used"
    assert faults(found) == [("spec.clusterIPs[1]", reason)]


def test_an_address_of_a_family_that_the_service_does_not_have_is_left_out():
    found = value({"externalIPs": ["2001:db8::1", "192.0.2.1"]})
    assert found.external == ips("192.0.2.1")
    reason = "2001:db8::1: expected IPv4, as in spec.ipFamilies"
    assert faults(found) == [("spec.externalIPs[0]", reason)]

    found = value(DUAL | {"ipFamilies": ["IPv4"]})
    assert found.addresses == ips("10.96.0.7")
    reason = "fd00:96::7: expected IPv4, as in spec.ipFamilies"
    assert faults(found) == [("spec.clusterIPs[1]", reason)]


def test_an_unknown_family_is_left_out():
    found = value(DUAL | {"ipFamilies": ["IPv5", "IPv6", "IPv6"]})
    assert found.families == (6,)
    assert faults(found)[0] == (
        "spec.ipFamilies[0]",
        "'IPv5': expected one of IPv4, IPv6; it is left out",
    )


def test_external_addresses_stand_there_once():
    found = clean({"externalIPs": ["192.0.2.2", "192.0.2.1", "192.0.2.2"]})
    assert found.external == ips("192.0.2.2", "192.0.2.1")


@pytest.mark.parametrize(
    ("entry", "used"),
    [
        ({"ip": "198.51.100.1"}, True),
        ({"ip": "198.51.100.1", "ipMode": None}, True),
        ({"ip": "198.51.100.1", "ipMode": "VIP"}, True),
        ({"ip": "198.51.100.1", "hostname": "lb.example.org"}, True),
        ({"ip": "198.51.100.1", "ipMode": "Proxy"}, False),
        ({"ip": "127.0.0.1", "ipMode": "Proxy"}, False),
        ({"hostname": "lb.example.org"}, False),
        # A balancer may translate between the families.
        ({"ip": "2001:db8::2"}, False),
        ({}, False),
    ],
)
def test_the_load_balancers_addresses(entry, used):
    found = clean({"type": "LoadBalancer"}, ingress(entry))
    assert found.load_balancer == (ips("198.51.100.1") if used else ())


@pytest.mark.parametrize("status", [{}, {"loadBalancer": {}}, {"loadBalancer": {"ingress": None}}])
def test_a_load_balancer_without_addresses(status):
    assert clean({"type": "LoadBalancer"}, status).load_balancer == ()


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort"])
def test_the_status_counts_only_for_load_balancers(kind):
    assert clean({"type": kind}, ingress({"ip": "198.51.100.1"})).load_balancer == ()


def test_an_address_of_an_unknown_mode_is_left_to_the_balancer():
    found = value({"type": "LoadBalancer"}, ingress({"ip": "198.51.100.1", "ipMode": "Tunnel"}))
    assert found.load_balancer == ()
    reason = "'Tunnel': expected one of VIP, Proxy; taken as Proxy"
    assert faults(found) == [("status.loadBalancer.ingress[0].ipMode", reason)]


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


# What nobody would write.


@pytest.mark.parametrize(
    ("thing", "field"),
    [
        ({"spec": {"ports": [{"port": "http"}]}}, "spec.ports[0].port"),
        ({"spec": {"clusterIPs": "10.96.0.7"}}, "spec.clusterIPs"),
        ({"spec": {"loadBalancerSourceRanges": ["10.0.0.0/8", 7]}}, "spec.loadBalancerSource"),
        ({"spec": []}, "spec"),
        ({"status": {"loadBalancer": {"ingress": [{"ip": 7}]}}}, "status.loadBalancer.ingress"),
    ],
)
def test_a_service_that_cannot_be_read_is_absent_and_the_field_is_named(thing, field):
    found = read_thing({"metadata": META} | thing)
    assert found.value is None
    assert found.problems[0].field.startswith(field)
    assert found.key == ServiceRef("shop", "s")


NODE_PORTS = st.integers(30000, 32767)
ADDRESS4 = st.integers(1, 250).map(lambda n: ip_address(f"192.0.2.{n}"))
ADDRESS6 = st.integers(1, 250).map(lambda n: ip_address(f"2001:db8::{n:x}"))
NETWORKS = st.integers(0, 32).map(lambda n: ip_network(f"10.0.0.0/{n}", strict=False))


@st.composite
def services(draw):
    """Services without faults, of every type that has an address."""
    families = draw(st.permutations((4, 6)).map(tuple)) if draw(st.booleans()) else (4,)
    address = ADDRESS4 | ADDRESS6 if len(families) == 2 else ADDRESS4
    kind = draw(st.sampled_from(("ClusterIP", "NodePort", "LoadBalancer")))
    balanced = kind == "LoadBalancer"
    keys = st.tuples(st.sampled_from(Protocol), st.integers(1, 65535))
    found = draw(st.lists(keys, min_size=1, max_size=3, unique=True))
    numbers = draw(
        st.lists(NODE_PORTS, min_size=len(found), max_size=len(found), unique=True)
        if kind != "ClusterIP"
        else st.just([0] * len(found))
    )
    external = tuple(draw(st.lists(address, max_size=2, unique=True)))
    local = (kind != "ClusterIP" or bool(external)) and draw(st.booleans())
    cluster = {4: ip_address("10.96.0.7"), 6: ip_address("fd00:96::7")}
    ranges = st.lists(NETWORKS, min_size=1, max_size=3, unique=True).map(tuple)
    return Service(
        namespace="shop",
        name="s",
        uid="u-1",
        created="2026-01-01T00:00:00Z",
        addresses=tuple(cluster[family] for family in families),
        external=external,
        load_balancer=tuple(draw(st.lists(address, min_size=1, max_size=2, unique=True)))
        if balanced
        else (),
        ports=tuple(
            ServicePort(f"p{i}", protocol, number, node_port)
            for i, ((protocol, number), node_port) in enumerate(zip(found, numbers, strict=True))
        ),
        families=families,
        internal_local=draw(st.booleans()),
        external_local=local,
        affinity=draw(st.just(0) | st.integers(1, 86400)),
        sources=draw(st.none() | ranges) if balanced else None,
        health_check=draw(NODE_PORTS) if balanced and local else 0,
    )


@given(services())
@settings(deadline=None)
def test_what_is_written_is_read_again(service):
    assert read_thing(wire_service(service, resourceVersion="7")).value == service


GARBAGE = {
    str: st.sampled_from(("no such", "", "None", "0.0.0.0", "::1", "010.0.0.1", "10.0.0.0/33")),
    int: st.sampled_from((0, -7, 29999, 32768, 65536, 100000)),
}
"""What no part of a service can be, or is something else than what stood in its place."""


def leaves(thing, path=()):
    """The paths to every word and number in an object."""
    if isinstance(thing, dict | list):
        steps = thing.keys() if isinstance(thing, dict) else range(len(thing))
        for step in steps:
            yield from leaves(thing[step], (*path, step))
    else:
        yield path


@given(services(), st.data())
@settings(deadline=None, max_examples=300)
def test_a_fault_opens_nothing(service, data):
    thing = deepcopy(wire_service(service, resourceVersion="7"))
    spec = thing["spec"]
    *path, last = data.draw(st.sampled_from(list(leaves(spec))))
    for step in path:
        spec = spec[step]
    spec[last] = data.draw(GARBAGE[type(spec[last])])
    found = read_thing(thing).value
    assume(found.faults)
    for name in ("addresses", "external", "load_balancer", "families"):
        assert set(getattr(found, name)) <= set(getattr(service, name))
    numbers = {(port.protocol, port.port) for port in service.ports}
    assert {(port.protocol, port.port) for port in found.ports} <= numbers
    assert {p.node_port for p in found.ports} <= {0, *(p.node_port for p in service.ports)}
    assert found.internal_local or not (found.ports and service.internal_local)
    if found.load_balancer and service.sources is not None:
        assert found.sources is not None
        assert set(found.sources) <= set(service.sources)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70000) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    (
        *("type", "ports", "port", "protocol", "name", "nodePort", "clusterIP", "clusterIPs"),
        *("externalIPs", "ipFamilies", "internalTrafficPolicy", "externalTrafficPolicy"),
        *("sessionAffinity", "sessionAffinityConfig", "clientIP", "timeoutSeconds"),
        *("loadBalancerSourceRanges", "healthCheckNodePort", "loadBalancer", "ingress", "ip"),
    )
)
WORDS = st.sampled_from(
    ("LoadBalancer", "NodePort", "Local", "ClientIP", "IPv6", "UDP", "VIP", "10.96.0.7", "::7", 80)
)
ALMOST = st.recursive(
    JSON | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=5),
    max_leaves=12,
)


@given(ALMOST | st.dictionaries(FIELDS, ALMOST), ALMOST)
@settings(deadline=None)
def test_nothing_that_is_json_breaks_it(spec, status):
    found = read_thing({"metadata": META, "spec": spec, "status": status})
    if found.value is None:
        assert found.problems
        return
    for fault in found.value.faults:
        assert fault.field.startswith(("spec.", "status."))
        assert "expected" in fault.reason
