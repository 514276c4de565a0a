"""Several controllers of one switch: one is its master, and the others can write nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from openflow_harness import BRIDGE, Brain, Post, Wanted, add_bridge
from session_flows import NODE, assert_right, flow, present

from ovsnet.controller.notices import (
    Acknowledged,
    Fenced,
    Lost,
    PortsChanged,
    StandingBy,
    Synchronised,
)
from ovsnet.controller.openflow import encode
from ovsnet.controller.openflow.protocol import BundleControl
from ovsnet.sandbox.openvswitch import OpenVSwitch

PORTS = 6653, 6654, 6655


@pytest.fixture
def bridge(switch: OpenVSwitch) -> OpenVSwitch:
    """A bridge that connects to all of them."""
    targets = [f"tcp:127.0.0.1:{port}" for port in PORTS]
    add_bridge(switch, NODE, controller=targets[0])
    switch.vsctl("set-controller", BRIDGE, *targets)
    for uuid in switch.vsctl("--bare", "--columns=_uuid", "list", "Controller").split():
        switch.vsctl("set", "Controller", uuid, "max_backoff=1000")
    return switch


@pytest.fixture
def post(netns: str) -> Iterator[Post]:
    with Post(netns, PORTS) as made:
        yield made


def brain(post: Post, number: int, generation: int | None) -> Brain:
    wanted = {NODE: Wanted([flow(1)])}
    return Brain("", wanted, port=PORTS[number], generation=generation, post=post)


@pytest.fixture
def leader(post: Post, bridge: OpenVSwitch) -> Iterator[Brain]:
    with brain(post, 0, 5) as made:
        made.wait(Acknowledged)
        yield made


@pytest.fixture
def other(post: Post, leader: Brain) -> Iterator[Brain]:
    """One that stands by, and wants what the leader wants."""
    with brain(post, 1, None) as made:
        made.wait(StandingBy)
        yield made


def roles(switch: OpenVSwitch) -> dict[str, str]:
    text = switch.vsctl("--format=json", "--columns=target,role", "list", "Controller")
    return {target: role for target, role in json.loads(text)["data"] if isinstance(role, str)}


def expect_master(switch: OpenVSwitch, port: int) -> None:
    """The database says it a moment later than the switch."""
    until = time.monotonic() + 30
    while [target for target, role in roles(switch).items() if role == "master"] != [
        f"tcp:127.0.0.1:{port}"
    ]:
        assert time.monotonic() < until, roles(switch)
        time.sleep(0.1)


def test_one_that_stands_by_hears_of_ports_and_the_master_stays_master(bridge, leader, other):
    expect_master(bridge, PORTS[0])
    assert roles(bridge)[f"tcp:127.0.0.1:{PORTS[1]}"] == "slave"
    bridge.vsctl("add-port", BRIDGE, "new", "--", "set", "Interface", "new", "type=internal")
    for each in (leader, other):
        each.wait(PortsChanged, lambda n: "new" in {port.name for port in n.ports})
    leader.change(NODE, leader.wanted[NODE].change([flow(2)]))
    leader.wait(Acknowledged, lambda a: a.revision == 2)
    assert not [n for n in leader.notices if isinstance(n, Fenced | Lost)]


def test_what_one_that_stands_by_sends_by_a_fault_is_refused_by_the_switch(bridge, leader, other):
    adds = [encode.flow_adds((flow(66),))]
    other.send(encode.filled_bundle(4711, adds))
    other.send(encode.bundle_control(BundleControl.COMMIT_REQUEST, 4711))
    other.send(encode.flow_adds((flow(67),)))
    # Whatever comes after it has been answered.
    leader.change(NODE, leader.wanted[NODE].change([flow(2)]))
    leader.wait(Acknowledged, lambda a: a.revision == 2)
    time.sleep(0.5)
    assert_right(bridge, leader.wanted[NODE])


def test_it_takes_over_at_once_and_finds_nothing_to_write(bridge, leader, other):
    sent = other.sent
    other.lead(6)
    other.wait(Synchronised)
    leader.wait(Fenced)
    expect_master(bridge, PORTS[1])
    assert other.sent - sent < 500, "a role, and the questions for stamp and numbers"
    assert not [n for n in other.notices if isinstance(n, Acknowledged)]


@pytest.mark.parametrize("cut", [False, True], ids=["connected", "cut"])
def test_an_old_master_that_wakes_up_writes_nothing(bridge, leader, other, cut):
    wanted = other.wanted[NODE]
    with leader.asleep():
        leader.change(NODE, leader.wanted[NODE].change([flow(66)]))
        other.lead(6)
        other.wait(Synchronised)
        other.change(NODE, wanted.change([flow(2)]))
        other.wait(Acknowledged, lambda a: a.revision == wanted.revision)
        if cut:
            # The switch connects again, and is accepted by one that does not know what happened.
            for session in leader.board:
                leader.server.end(session.connection, "cut by the test")
    fenced = leader.wait(Fenced)
    assert fenced.generation == 5
    # The switch comes back to it again and again, and says what it has seen.
    leader.wait(Fenced, lambda n: n.seen == 6)
    assert_right(bridge, wanted)
    other.change(NODE, wanted.change([flow(3)]))
    other.wait(Acknowledged, lambda a: a.revision == wanted.revision)
    assert flow(66).key not in present(bridge)
    assert_right(bridge, wanted)


def test_a_leader_may_raise_its_own_term(bridge, leader, other):
    leader.lead(9)
    leader.change(NODE, leader.wanted[NODE].change([flow(2)]))
    leader.wait(Acknowledged, lambda a: a.revision == 2)
    other.lead(8)
    other.wait(Fenced)
    leader.change(NODE, leader.wanted[NODE].change([flow(3)]))
    leader.wait(Acknowledged, lambda a: a.revision == 3)
    assert not [n for n in leader.notices if isinstance(n, Fenced | Lost)]


def test_a_switch_that_never_had_a_master_takes_any_term_after_one_that_stood_by(post, bridge):
    with brain(post, 0, None) as first:
        first.wait(StandingBy)
        assert not first.wanted[NODE].flows.keys() & present(bridge).keys()
        first.lead(1)
        first.wait(Acknowledged)
        assert_right(bridge, first.wanted[NODE])
