"""What the gateway's port must have, and the messages that make it so."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsnet import names
from ovsnet.cni import gateway, links, routing, wayback
from ovsnet.cni.gateway import Gateway, RouteTaken
from ovsnet.cni.ranges import NodeRanges

RANGES = NodeRanges.of(["10.77.3.0/24", "fd00:77:3::/64"])
CLUSTER = (ip_network("10.77.0.0/16"), ip_network("fd00:77::/32"))
SERVICES = (
    ip_network("10.96.0.0/16"),
    ip_network("fd00:96::/112"),
    ip_network("198.51.100.0/24"),
)
WANTED = Gateway(RANGES.gateway, CLUSTER, SERVICES, 1450)
INDEX = 7
LINK = links.Link(INDEX, names.GATEWAY_PORT, RANGES.gateway.pod_mac, 1450, True, "tun")
EMPTY = gateway.Present(LINK, frozenset(), frozenset(), frozenset(), frozenset())


def as_wanted(desired: Gateway) -> gateway.Present:
    return gateway.Present(
        replace(LINK, mac=desired.addresses.pod_mac, mtu=desired.mtu),
        desired.wanted_addresses(),
        desired.wanted_routes(INDEX),
        desired.wanted_neighbours(INDEX),
        desired.wanted_rules(),
    )


def purposes(desired: Gateway, present: gateway.Present) -> list[str]:
    return [message.purpose for message in gateway.reconcile(desired, present)]


def destinations(desired: Gateway) -> set[str]:
    return {
        f"{r.destination}/{r.prefix}"
        for r in desired.wanted_routes(INDEX)
        if r.table == routing.MAIN_TABLE
    }


def test_a_gateway_that_is_right_is_left_alone():
    assert gateway.reconcile(WANTED, as_wanted(WANTED)) == []


def test_a_gateway_from_nothing():
    bare = replace(LINK, mac="02:00:00:00:00:01", mtu=1500, up=False)
    said = purposes(WANTED, replace(EMPTY, link=bare))
    assert said[0].startswith("set MAC 0a:58:0a:4d:03:01 and MTU 1450")
    to_switch4 = f"via 169.254.1.1 dev {INDEX}"
    to_switch6 = f"via fe80::c58:a9ff:fefe:101 dev {INDEX}"
    for part in (
        "add address 10.77.3.1/32",
        "add neighbour 169.254.1.1 at 0e:58:a9:fe:01:01",
        f"add route 10.77.0.0/16 {to_switch4} src 10.77.3.1",
        f"add route 10.96.0.0/16 {to_switch4} src 10.77.3.1",
        f"add route 198.51.100.0/24 {to_switch4} src 10.77.3.1",
        f"add route 0.0.0.0/0 {to_switch4} table 28534",
        f"add route fd00:77::/32 {to_switch6} src fd00:77:3::1",
        f"add route fd00:96::/112 {to_switch6} src fd00:77:3::1",
        f"add route ::/0 {to_switch6} table 28534",
        "add rule IPv4 97: fwmark 0x1000/0x1000 iif lo lookup 28534",
        "add rule IPv6 97: fwmark 0x1000/0x1000 iif lo lookup 28534",
    ):
        assert part in said
    # A rule that is there before its route would send answers where they were going anyway.
    assert max(i for i, s in enumerate(said) if "add route" in s) < said.index(
        "add rule IPv4 97: fwmark 0x1000/0x1000 iif lo lookup 28534"
    )


def test_what_was_of_another_range_goes():
    before = Gateway(NodeRanges.of(["10.77.9.0/24"]).gateway, CLUSTER, SERVICES, 1450)
    said = purposes(WANTED, as_wanted(before))
    assert "delete address 10.77.9.1/32" in said
    assert any(p.startswith("delete route 10.77.0.0/16") for p in said)
    assert any(p.startswith("delete route 10.96.0.0/16") for p in said)
    assert said.index("delete address 10.77.9.1/32") < said.index(
        "add route 10.77.0.0/16 via 169.254.1.1 dev 7 src 10.77.3.1"
    )


def test_ranges_that_overlap_or_repeat_get_one_route():
    texts = ["10.96.0.0/16", "10.96.7.0/24", "10.96.0.0/16", "10.77.1.0/24", "fd00:77::/32"]
    wanted = replace(WANTED, services=tuple(ip_network(text) for text in texts))
    assert destinations(wanted) == {"10.77.0.0/16", "10.96.0.0/16", "fd00:77::/32"}


def test_a_range_that_is_not_configured_any_more_loses_its_route():
    fewer = replace(WANTED, services=SERVICES[:2])
    (said,) = purposes(fewer, as_wanted(WANTED))
    assert said.startswith("delete route 198.51.100.0/24 via")


def test_a_node_of_one_family_has_nothing_of_the_other():
    wanted = replace(WANTED, addresses=NodeRanges.of(["10.77.3.0/24"]).gateway)
    assert {r.destination.version for r in wanted.wanted_routes(INDEX)} == {4}
    assert {rule.version for rule in wanted.wanted_rules()} == {4}
    settings = gateway.settings(wanted)
    assert not any("ipv6/conf/all" in name for name in settings)
    assert settings["ipv4/conf/ovsnet-gw0/rp_filter"] == "2"
    assert settings["ipv4/conf/ovsnet-gw0/accept_local"] == "1"
    six = replace(WANTED, addresses=NodeRanges.of(["fd00:77:3::/64"]).gateway)
    assert {r.destination.version for r in six.wanted_routes(INDEX)} == {6}
    assert not any(name.startswith("ipv4/ip_forward") for name in gateway.settings(six))
    # What both families had is taken back when one of them goes.
    said = purposes(wanted, as_wanted(WANTED))
    assert "delete rule IPv6 97: fwmark 0x1000/0x1000 iif lo lookup 28534" in said
    assert any(s.startswith("delete route ::/0") for s in said)


@pytest.mark.parametrize("network", ["10.96.0.0/16", "fd00:96::/112", "10.77.0.0/16"])
def test_the_network_of_another_device_is_not_taken_from_it(network: str):
    present = replace(EMPTY, connected=frozenset({ip_network(network)}))
    with pytest.raises(RouteTaken, match=f"{network}, of cluster_cidrs, services or external"):
        gateway.reconcile(WANTED, present)
    # Somebody who takes such an address later does not stop what works.
    there = replace(as_wanted(WANTED), connected=frozenset({ip_network(network)}))
    assert gateway.reconcile(WANTED, there) == []


def test_other_networks_of_other_devices_do_not_matter():
    near = ["10.96.0.0/24", "198.51.0.0/16", "172.18.0.0/24", "fe80::/64", "0.0.0.0/0"]
    present = replace(EMPTY, connected=frozenset(ip_network(text) for text in near))
    assert any("10.96.0.0/16" in said for said in purposes(WANTED, present))


@pytest.mark.parametrize(
    "rule",
    [
        routing.Rule(4, 50, wayback.MARK, wayback.MARK, wayback.TABLE),
        routing.Rule(4, wayback.PRIORITY, wayback.MARK, 0xFFFF, wayback.TABLE),
        routing.Rule(6, wayback.PRIORITY, wayback.MARK, wayback.MARK, wayback.TABLE, ""),
        routing.Rule(4, wayback.PRIORITY, 0, 0, wayback.TABLE, ""),
    ],
)
def test_other_rules_for_our_table_go(rule: routing.Rule):
    present = as_wanted(WANTED)
    found = purposes(WANTED, replace(present, rules=present.rules | {rule}))
    assert found == [f"delete rule {rule.text}"]


ROUTES = sorted(WANTED.wanted_routes(INDEX), key=str)
STRANGE = [
    routing.Route(ip_address("10.5.0.0"), 16, INDEX, names.ROUTER_IPV4, RANGES.gateway.ipv4),
    routing.Route(ip_address("10.96.0.0"), 16, INDEX, names.ROUTER_IPV4),
    routing.Route(ip_address("10.5.0.0"), 16, INDEX, names.ROUTER_IPV4, table=wayback.TABLE),
]


@given(
    st.sets(st.sampled_from(ROUTES)),
    st.sets(st.sampled_from(STRANGE)),
    st.sets(st.sampled_from(sorted(WANTED.wanted_rules(), key=str))),
)
def test_exactly_what_differs_is_changed(kept: set, strange: set, rules: set):
    present = replace(as_wanted(WANTED), routes=frozenset(kept | strange), rules=frozenset(rules))
    expected = {f"add route {r.text}" for r in set(ROUTES) - kept}
    expected |= {f"delete route {r.text}" for r in strange}
    expected |= {f"add rule {r.text}" for r in WANTED.wanted_rules() - rules}
    found = purposes(WANTED, present)
    assert set(found) == expected
    assert len(found) == len(expected)
