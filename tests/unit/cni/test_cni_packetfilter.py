"""The packet filter's table as text. What it does to packets is in the integration tests."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from ovsnet import names
from ovsnet.cni import links
from ovsnet.cni.packetfilter import PacketFilter
from ovsnet.cni.ranges import NodeRanges

RANGES = NodeRanges.of(["10.77.3.0/24", "fd00:77:3::/64"])
CLUSTER = (ip_network("10.77.0.0/16"), ip_network("fd00:77::/32"))
SERVICES = (ip_network("10.96.0.0/16"), ip_network("fd00:96::/112"))
FILTER = PacketFilter(RANGES, CLUSTER, SERVICES, tunnel_port=4789)
LAST6 = "fd00:77:3:0:ffff:ffff:ffff:ffff"


def rules(wanted: PacketFilter, chain: str) -> list[str]:
    """The lines of a chain of the script behind the one that hooks it."""
    body = wanted.script().split(f"  chain {chain} {{\n")[1].split("  }\n")[0]
    return [line.strip() for line in body.splitlines()][1:]


def test_the_table_is_replaced_as_a_whole():
    lines = FILTER.script().splitlines()
    assert lines[:2] == ["table inet ovsnet", "delete table inet ovsnet"]
    assert sum(line.startswith("table") for line in lines) == 2


def test_what_is_masqueraded():
    assert rules(FILTER, "postrouting") == [
        'oifname != "ovsnet-gw0" ip saddr 10.77.3.0/24 ip daddr != { 10.77.0.0/16 } masquerade',
        'oifname != "ovsnet-gw0" ip6 saddr fd00:77:3::/64 ip6 daddr != { fd00:77::/32 } masquerade',
    ]
    assert rules(replace(FILTER, masquerade=False), "postrouting") == []


@pytest.mark.parametrize("wanted", [FILTER, replace(FILTER, masquerade=False, node_ports=None)])
def test_nothing_passes_the_wall(wanted: PacketFilter):
    assert rules(wanted, "wall")[0] == f"iifgroup {links.ENDPOINTS} drop"


def test_node_ports_go_to_the_last_address_of_the_range():
    outside, own = rules(FILTER, "node_ports"), rules(FILTER, "own_node_ports")
    assert outside == [f'iifname != "ovsnet-gw0" {rule}' for rule in own]
    assert [rule.partition(" dnat ")[2] for rule in own] == ["ip to 10.77.3.255", f"ip6 to {LAST6}"]
    first, last = names.NODE_PORTS
    assert all(f"th dport {first}-{last} " in rule for rule in own)
    assert all("{ tcp, udp, sctp }" in rule for rule in own)


def test_other_node_ports_and_none():
    assert "th dport 80-443 dnat" in rules(replace(FILTER, node_ports=(80, 443)), "node_ports")[0]
    none = replace(FILTER, node_ports=None)
    assert rules(none, "node_ports") == rules(none, "own_node_ports") == []


def test_services_that_nobody_has_are_refused_in_their_ranges_alone():
    found = [rule for rule in rules(FILTER, "forward") if "reject" in rule]
    back = 'iifname "ovsnet-gw0" oifname "ovsnet-gw0"'
    assert found == [
        f"{back} ip daddr {{ 10.96.0.0/16 }} meta l4proto tcp reject with tcp reset",
        f"{back} ip daddr {{ 10.96.0.0/16 }} reject with icmpx port-unreachable",
        f"{back} ip6 daddr {{ fd00:96::/112 }} meta l4proto tcp reject with tcp reset",
        f"{back} ip6 daddr {{ fd00:96::/112 }} reject with icmpx port-unreachable",
    ]
    only4 = replace(FILTER, services=SERVICES[:1])
    assert not any("reject" in r and "ip6" in r for r in rules(only4, "forward"))
    none = replace(FILTER, services=())
    assert not any("reject" in rule for rule in rules(none, "forward"))


def test_sets_have_no_overlaps():
    texts = ("10.96.0.0/16", "10.96.4.0/24", "10.96.0.0/16", "10.77.0.0/8")
    networks = tuple(ip_network(text, strict=False) for text in texts)
    wanted = replace(FILTER, cluster=(*CLUSTER, *networks[-1:]), services=networks[:-1])
    assert "ip daddr { 10.96.0.0/16 } " in wanted.script()
    assert "ip daddr != { 10.0.0.0/8 } " in wanted.script()


@pytest.mark.parametrize(("cidr", "absent"), [("10.77.3.0/24", "ip6 "), ("fd00:77:3::/64", "ip ")])
def test_a_node_of_one_family_has_no_rules_of_the_other(cidr: str, absent: str):
    wanted = replace(FILTER, ranges=NodeRanges.of([cidr]))
    assert f" {absent}" not in wanted.script()


def test_without_a_tunnel_its_port_is_one_like_others():
    assert 'iifname "ovsnet-gw0" udp dport 4789 drop' in rules(FILTER, "forward")
    assert "udp dport" not in replace(FILTER, tunnel_port=None).script()
