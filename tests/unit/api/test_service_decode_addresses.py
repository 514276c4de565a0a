"""Services from the API: the addresses that they are called by."""

from __future__ import annotations

import pytest
from service_reading import DUAL, clean, faults, ingress, ips, value


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
