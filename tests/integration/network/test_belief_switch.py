"""Ports and switches that are not what they say get no flows, and everybody is told which."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from functools import partial
from ipaddress import IPv4Address

import datapath
import frames
import pytest
from places import Place, PodPlace, wait_for
from sandbox_lab import Lab
from switch_state import dump, expect_exact_flows, ports
from wire import datagram, mark, taps

from ovsnet.controller.belief import Reason
from ovsnet.names import ROUTER_MAC, Table, datapath_id, host_mac, port_name
from ovsnet.sandbox import netns
from ovsnet.sandbox.openvswitch import OpenVSwitch


def free(pod: Place) -> IPv4Address:
    """An address of the range of a pod's node that no pod has."""
    return IPv4Address(pod.ipv4.packed[:3] + bytes([200]))


def free_beside(address: IPv4Address) -> str:
    """The IPv6 address that goes with it."""
    return f"fd00:10:244:{address.packed[2]:x}::c8"


@contextlib.contextmanager
def strange_port(lab: Lab, name: str, mac: str, claimed: IPv4Address) -> Iterator[Place]:
    """Somebody with root's rights on node1 adds a port to the bridge, with a host behind it."""
    node = lab.underlay("node1")
    place = Place("stranger", lab.layout.netns("stranger"), "eth0", claimed, free_beside(claimed))
    netns.create(place.netns)
    try:
        peer = ("peer", "name", "eth0", "address", pod_side(claimed), "netns", place.netns.name)
        node.run("ip", "link", "add", name, "address", mac, "type", "veth", *peer)
        node.run("ip", "link", "set", name, "up")
        place.run("ip", "link", "set", "eth0", "up")
        lab.ovs("node1", "ovs-vsctl", "--timeout=10", "add-port", "br-int", name)
        yield place
    finally:
        lab.ovs("node1", "ovs-vsctl", "--timeout=10", "--if-exists", "del-port", "br-int", name)
        node.run("ip", "link", "delete", name, check=False)
        netns.delete(place.netns)


def pod_side(address: IPv4Address) -> str:
    return "0a:58:" + address.packed.hex(":")


def refused(lab: Lab, port: str) -> str:
    """Why the controller refuses a port of node1; empty if it does not."""
    node = next(n for n in lab.status()["nodes"] if n["name"] == "node1")
    return next((p["reason"] for p in node["refused"] if p["name"] == port), "")


def expect_cut_off(lab: Lab, pods: dict[str, PodPlace], stranger: Place) -> None:
    """What it sends gets nowhere, and nothing comes to it."""
    watched: dict[str, Place] = {
        "stranger": stranger,
        "b1": pods["b1"],
        "a2": pods["a2"],
        "node1": lab.host("node1"),
    }
    own = pod_side(stranger.ipv4)
    gateway = watched["node1"]
    with taps(watched) as seen:
        forged, wanted = mark(), mark()
        for target in ("b1", "a2", "node1"):
            for version in (4, 6):
                address = watched[target].address(version)
                source = stranger.address(version)
                seen.send("stranger", datagram(own, ROUTER_MAC, source, address, forged))
        body = frames.arp(1, own, stranger.ipv4, gateway.ipv4, forged)
        seen.send("stranger", frames.ethernet(frames.BROADCAST, own, frames.ARP, body))
        b1 = pods["b1"]
        for version in (4, 6):
            source, address = b1.address(version), stranger.address(version)
            seen.send("b1", datagram(b1.mac, ROUTER_MAC, source, address, wanted))
        for last in (mark(), mark()):
            honest = datagram(b1.mac, ROUTER_MAC, b1.ipv4, pods["a2"].ipv4, last)
            seen.wait([last], ["a2"], partial(seen.send, "b1", honest))
        # Ports are read in turn, so the stranger's packets were taken in before the second round.
        assert seen.where(forged) == set()
        assert "stranger" not in seen.where(wanted)


def expect_refused(lab: Lab, port: str, reason: Reason, since: int) -> None:
    wait_for(
        lambda: refused(lab, port) == reason,
        lambda: f"port {port} to be refused: {reason}; {lab.status()['nodes']}",
    )
    line = lab.wait_for_log("controller", f"port refused.*{port}", since)
    assert "node=node1" in line
    assert str(reason) in line
    assert lab.metric('ovsnet_node_ports_refused{node="node1"}') >= 1
    assert lab.metric(f'ovsnet_ports_refused{{reason="{reason}"}}') >= 1
    number = next(p.ofport for p in ports(lab, "node1") if p.name == port)
    assert not [
        each.flow
        for each in dump(lab, "node1")
        if any(term.field.text == "in_port" and term.value == number for term in each.flow.match)
    ]
    expect_exact_flows(lab)


@pytest.fixture
def case(lab: Lab, pods: dict[str, PodPlace], request: pytest.FixtureRequest) -> tuple[str, str]:
    """The name and MAC of a port that must not be believed."""
    a1, a2 = pods["a1"], pods["a2"]
    good = host_mac(free(a1))
    return {
        Reason.NO_SUCH_POD: (f"x{secrets.token_hex(4)}", good),
        Reason.OTHER_NODE: (port_name("lab", "a2", a2.uid), good),
        Reason.OUT_OF_RANGE: (port_name("lab", "a1", a1.uid, 1), host_mac(free(a2))),
        Reason.NO_ADDRESS: (port_name("lab", "a1", a1.uid, 1), "02:00:00:00:00:07"),
    }[request.param]


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (reason, reason)
        for reason in (
            Reason.NO_SUCH_POD,
            Reason.OTHER_NODE,
            Reason.OUT_OF_RANGE,
            Reason.NO_ADDRESS,
        )
    ],
    indirect=["case"],
)
def test_a_port_that_lies_is_cut_off_and_named(
    lab: Lab, pods: dict[str, PodPlace], case: tuple[str, str], reason: Reason
) -> None:
    name, mac = case
    claimed = free(pods["a2" if reason is Reason.OUT_OF_RANGE else "a1"])
    since = lab.log_size("controller")
    with strange_port(lab, name, mac, claimed) as stranger:
        expect_refused(lab, name, reason, since)
        expect_cut_off(lab, pods, stranger)
    wait_for(lambda: not refused(lab, name), "the refusal to be forgotten with the port")
    assert pods["a1"].run("ping", "-n", "-c", "1", "-W", "2", str(pods["b1"].ipv4))


def test_a_port_with_anothers_address_does_not_get_its_packets(
    lab: Lab, pods: dict[str, PodPlace]
) -> None:
    """Its name is that of a pod of this node, which so loses what it had; the owner does not."""
    made = lab.pods([("dupe", "node1")])["dupe"]
    b1 = pods["b1"]
    name = port_name("lab", "dupe", made.uid, 1)
    since = lab.log_size("controller")
    try:
        with strange_port(lab, name, host_mac(b1.ipv4), b1.ipv4) as stranger:
            expect_refused(lab, name, Reason.ADDRESS_TAKEN, since)
            old = port_name("lab", "dupe", made.uid)
            assert refused(lab, old) == Reason.SUPERSEDED
            with taps({"stranger": stranger, "a2": pods["a2"], "b1": b1}) as seen:
                token = mark()
                a2 = pods["a2"]
                packet = datagram(a2.mac, ROUTER_MAC, a2.ipv4, b1.ipv4, token)
                seen.wait([token], ["b1"], lambda: seen.send("a2", packet))
                assert "stranger" not in seen.where(token)
        wait_for(lambda: not refused(lab, old), "the pod's own port to be believed again")
        assert made.run("ping", "-n", "-c", "1", "-W", "2", str(b1.ipv4))
    finally:
        lab.delete_pods(["dupe"])


@pytest.mark.parametrize(
    ("name", "number", "complaint"),
    [
        ("node99", datapath_id("node99"), "is the name of no node"),
        ("", 7, "is the name of no node"),
        ("node1", datapath_id("node2"), "datapath id"),
    ],
)
def test_a_switch_that_is_no_nodes_gets_no_flows(
    lab: Lab, pods: dict[str, PodPlace], name: str, number: int, complaint: str
) -> None:
    since = lab.log_size("controller")
    before = lab.metric("ovsnet_switches_turned_away_total")
    control = lab.control
    with OpenVSwitch(control.netns.name) as stranger:
        stranger.vsctl(
            *("add-br", "br-int", "--", "set", "Bridge", "br-int"),
            f"datapath_type={datapath.TYPE}",
            *("fail_mode=secure", "protocols=OpenFlow15", f"other-config:dp-desc={name or 'x y'}"),
            f"other-config:datapath-id={number:016x}",
            *("--", "set-controller", "br-int", f"tcp:{control.ipv4}:6653"),
        )
        line = lab.wait_for_log("controller", "switch turned away", since)
        assert complaint in line
        assert lab.metric("ovsnet_switches_turned_away_total") > before
        assert stranger.ofctl("dump-flows", "br-int").count("actions=") == 0
    assert all(node["session"] == "steady" for node in lab.status()["nodes"])
    expect_exact_flows(lab)
    assert len(dump(lab, "node1")) > len(Table)
