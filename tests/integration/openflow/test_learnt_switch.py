"""A real switch that has learnt flows: what it learns, and that nobody else minds them."""

import socket
import subprocess
import time
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from frames import ethernet, ip, udp
from openflow_harness import BRIDGE, Brain, Wanted, add_bridge, inside
from session_flows import NODE, OURS, assert_right, flow, present

from ovsnet.controller.notices import Acknowledged, Compared, Synchronised
from ovsnet.controller.states import Timing
from ovsnet.flows.fields import EthType, Field
from ovsnet.flows.flow import Flow, Learn, Resubmit, Term, match
from ovsnet.flows.learnt import LEARNT_COOKIE
from ovsnet.flows.registers import REMEMBERED, SERVICE_LOW
from ovsnet.flows.text import parse_flow
from ovsnet.names import ROUTER_MAC, Table, pod_mac
from ovsnet.sandbox.openvswitch import OpenVSwitch

OFTEN = Timing(quiet=1, dead=10, answer=30, audit=0.5, retry=0.1, retry_most=1)
PORT = "clients"
MOST = 40
MARK = 0xABCD


def learning(idle: int = 600) -> Flow:
    """One that remembers who sent a packet."""
    family = Term(Field.ETH_TYPE, EthType.IPV4)
    learn = Learn(
        table=Table.AFFINITY,
        priority=100,
        same=(Field.IPV4_SRC,),
        where=(family, SERVICE_LOW.matches(5)),
        target=REMEMBERED.bits,
        value=MARK,
        idle=idle,
        limit=MOST,
        cookie=LEARNT_COOKIE,
    )
    actions = (SERVICE_LOW.set(5), learn, Resubmit(Table.AFFINITY))
    return Flow(Table.CLASSIFY, 10, match(family), actions, OURS)


class Clients:
    """Hosts that send packets into the switch by one of its ports."""

    def __init__(self, switch: OpenVSwitch) -> None:
        self._switch = switch
        netns = str(switch.netns)
        switch.vsctl("add-port", BRIDGE, PORT, "--", "set", "Interface", PORT, "type=internal")
        subprocess.run(["ip", "-n", netns, "link", "set", "dev", PORT, "up"], check=True)
        with inside(netns):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.bind((PORT, 0))

    def close(self) -> None:
        self._socket.close()

    def send(self, *clients: int) -> None:
        """A packet of each; returns when the switch has counted them all."""
        wanted = self._counted() + len(clients)
        for client in clients:
            address = f"10.0.{client >> 8}.{client & 0xFF}"
            packet = ip(address, "10.9.9.9", 17, udp(address, "10.9.9.9", b""))
            frame = ethernet(ROUTER_MAC, pod_mac(ip_address(address)), EthType.IPV4, packet)
            self._socket.send(frame)
        end = time.monotonic() + 30
        while self._counted() < wanted:
            assert time.monotonic() < end, f"{self._counted()} packets of {wanted}"
            time.sleep(0.05)

    def _counted(self) -> int:
        _, stats = present(self._switch)[learning().key]
        return stats.packets


@pytest.fixture
def wanted() -> Wanted:
    return Wanted([learning(), *map(flow, range(20))])


@pytest.fixture
def clients(netns, switch, wanted) -> Iterator[Clients]:
    """Of a switch that has its flows, though its controller has gone by now."""
    with Brain(netns, {NODE: wanted}) as brain:
        add_bridge(switch, NODE)
        brain.wait(Acknowledged)
    found = Clients(switch)
    yield found
    found.close()


def learnt(switch) -> dict[int, tuple[str, ...]]:
    """The clients that the switch remembers, and what our flows do not have in each flow."""
    found = {}
    for line in switch.ofctl("dump-flows", BRIDGE, f"table={Table.AFFINITY:d}").splitlines()[1:]:
        parsed = parse_flow(line)
        (source,) = (t.value for t in parsed.flow.match if t.field is Field.IPV4_SRC)
        assert parsed.flow.cookie == LEARNT_COOKIE
        assert SERVICE_LOW.matches(5) in parsed.flow.match
        assert parsed.flow.actions == (REMEMBERED.set(MARK),)
        found[source & 0xFFFF] = parsed.foreign
    return found


def strangers(brain: Brain) -> list[int]:
    """For each stranger that was found: which notice told of it."""
    return [
        place
        for place, notice in enumerate(brain.notices)
        if isinstance(notice, Compared)
        for _ in notice.strangers
    ]


def test_a_switch_learns_who_came_but_no_more_than_it_may(switch, clients):
    clients.send(1, 2, 1)
    assert learnt(switch) == {1: ("idle_timeout=600",), 2: ("idle_timeout=600",)}
    clients.send(*range(3, MOST + 20))
    assert set(learnt(switch)) == set(range(1, MOST + 1))
    clients.send(MOST, MOST + 1)
    assert set(learnt(switch)) == set(range(1, MOST + 1))


def test_a_controller_that_returns_writes_nothing(netns, switch, wanted, clients):
    clients.send(*range(1, 10))
    with Brain(netns, {NODE: wanted}, generation=2) as brain:
        assert brain.wait(Synchronised).flows == 21
        clients.send(*range(10, 20))
        assert not [n for n in brain.notices if isinstance(n, Compared | Acknowledged)]
    with Brain(netns, {NODE: wanted}, generation=3) as brain:
        assert brain.wait(Synchronised).flows == 21
    assert set(learnt(switch)) == set(range(1, 20))


def test_a_learnt_flow_does_not_stand_in_for_one_that_is_gone(netns, switch, wanted, clients):
    clients.send(1)
    switch.ofctl("del-flows", BRIDGE, f"table={Table.ROUTE:d},ip,nw_dst=0.0.0.3")
    with Brain(netns, {NODE: wanted}, generation=2) as brain:
        assert brain.wait(Compared).missing == 1
        brain.wait(Acknowledged)
    assert_right(switch, wanted)
    assert set(learnt(switch)) == {1}


def test_audits_leave_what_was_learnt_and_remove_what_others_wrote_there(
    netns, switch, wanted, clients
):
    clients.send(*range(1, 10))
    with Brain(netns, {NODE: wanted}, generation=2, timing=OFTEN) as brain:
        for _ in range(2):
            audits = len(brain.notices)
            brain.wait(Compared, lambda _, audits=audits: len(brain.notices) > audits)
        assert not [n for n in brain.notices if isinstance(n, Acknowledged)]
        affinity = f"table={Table.AFFINITY:d},priority=100,ip"
        for more in ("cookie=0x1234,nw_src=10.0.0.1,reg5=7", "idle_timeout=60,nw_src=10.0.0.99"):
            switch.ofctl("add-flow", BRIDGE, f"{affinity},{more},actions=load:1->NXM_NX_REG8[]")
        brain.wait(Compared, lambda _: len(strangers(brain)) == 2)
        brain.wait(Acknowledged, lambda a: brain.notices.index(a) > strangers(brain)[-1])
    assert_right(switch, wanted)
    assert set(learnt(switch)) == set(range(1, 10))


def test_changes_leave_what_was_learnt(netns, switch, wanted, clients):
    clients.send(1, 2)
    with Brain(netns, {NODE: wanted}, generation=2) as brain:
        brain.wait(Synchronised)
        brain.change(NODE, wanted.change([flow(30)], [flow(3).key]))
        brain.wait(Acknowledged, lambda a: a.revision == wanted.revision)
    assert_right(switch, wanted)
    assert set(learnt(switch)) == {1, 2}


def test_who_does_not_come_back_is_forgotten(netns, switch, wanted, clients):
    with Brain(netns, {NODE: wanted}, generation=2) as brain:
        brain.wait(Synchronised)
        brain.change(NODE, wanted.change([learning(idle=1)]))
        brain.wait(Acknowledged)
    clients.send(1)
    end = time.monotonic() + 30
    while learnt(switch):
        assert time.monotonic() < end
        time.sleep(0.1)
