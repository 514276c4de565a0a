"""UDP connections to services, out of what Open vSwitch prints, and the messages that end them."""

from __future__ import annotations

import pytest

from ovsnet.cni.leads import Lead
from ovsnet.cni.servedudp import ServedUdp, Tracker, deletion, parse, stale

USERSPACE = """\
udp,orig=(src=fd00::1,dst=fd00:96::a,sport=57337,dport=53),reply=(src=fd00::2,dst=fd00::1,sport=5353,dport=57337),zone=65521,mark=305419896
udp,orig=(src=10.0.0.1,dst=10.96.0.10,sport=52407,dport=53),reply=(src=10.0.0.2,dst=10.0.0.1,sport=5353,dport=52407),zone=65521,mark=3735928559
udp,orig=(src=10.0.0.1,dst=10.96.0.10,sport=51305,dport=54),reply=(src=10.0.0.2,dst=10.0.0.1,sport=5353,dport=51305),zone=65521
udp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=52407,dport=5353),reply=(src=10.0.0.2,dst=10.0.0.1,sport=5353,dport=52407),zone=65520,mark=1
icmp,orig=(src=10.0.0.1,dst=10.96.0.10,id=749,type=8,code=0),reply=(src=10.0.0.2,dst=10.0.0.1,id=749,type=0,code=0),zone=65521,mark=2748
tcp,orig=(src=10.0.0.1,dst=10.96.0.10,sport=45270,dport=80),reply=(src=10.0.0.2,dst=10.0.0.1,sport=8080,dport=45270),zone=65521,mark=2748,protoinfo=(state=TIME_WAIT)
"""
"""What Open vSwitch 3.1 prints of the userspace datapath's tracker, of all zones."""

KERNEL = """\
icmp,orig=(src=10.0.0.1,dst=10.96.0.10,id=235,type=8,code=0),reply=(src=10.0.0.2,dst=10.0.0.1,id=235,type=0,code=0),zone=65521,mark=2748
udp,orig=(src=fd00::1,dst=fd00:96::a,sport=58563,dport=53),reply=(src=fd00::2,dst=fd00::1,sport=5353,dport=58563),zone=65521,mark=305419896
udp,orig=(src=10.0.0.1,dst=10.96.0.10,sport=42926,dport=53),reply=(src=10.0.0.2,dst=10.0.0.1,sport=5353,dport=42926),zone=65521,mark=3735928559
udp,orig=(src=10.0.0.1,dst=10.96.0.10,sport=54325,dport=54),reply=(src=10.0.0.2,dst=10.0.0.1,sport=5353,dport=54325),zone=65521
"""
"""And of the kernel's, of the zone of services."""


def served(port: int, at: int, mark: int) -> ServedUdp:
    return ServedUdp("10.0.0.1", port, "10.96.0.10", at, "10.0.0.2", 5353, mark)


def served6(port: int) -> ServedUdp:
    return ServedUdp("fd00::1", port, "fd00:96::a", 53, "fd00::2", 5353, 0x12345678)


def test_what_the_userspace_datapath_tracks() -> None:
    assert list(parse(USERSPACE.splitlines())) == [
        served6(57337),
        served(52407, 53, 0xDEADBEEF),
        served(51305, 54, 0),
    ]


def test_what_the_kernel_tracks() -> None:
    assert list(parse(KERNEL.splitlines())) == [
        served6(58563),
        served(42926, 53, 0xDEADBEEF),
        served(54325, 54, 0),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "2026-11-26T19:07:09.276Z|00057|dpif|WARN|failed",
        "udp,orig=(src=10.0.0.1,dst=10.0.0.2),reply=(src=10.0.0.2,dst=10.0.0.1),zone=65521",
        USERSPACE.splitlines()[0].replace("zone=65521", "zone=6552"),
        USERSPACE.splitlines()[0].replace("zone=65521", "zone=655210"),
        USERSPACE.splitlines()[0].replace(",zone=65521", ""),
        USERSPACE.splitlines()[0].replace("udp", "udplite"),
    ],
)
def test_what_is_no_udp_connection_to_a_service_is_passed_over(line: str) -> None:
    assert list(parse([line])) == []


def test_other_things_that_are_printed_of_a_connection() -> None:
    line = USERSPACE.splitlines()[1].replace(",mark=", ",id=7,labels=0x5,timeout=28,mark=")
    assert list(parse([line])) == [served(52407, 53, 0xDEADBEEF)]


def test_endpoints_in_words() -> None:
    assert served(52407, 53, 1).target == "10.0.0.2:5353"
    assert served6(57337).target == "[fd00::2]:5353"


def test_where_a_connection_has_been_led() -> None:
    assert served(52407, 53, 7).lead == Lead(7, bytes((10, 0, 0, 2)), 5353)
    assert served6(57337).lead == Lead(0x12345678, bytes.fromhex(f"fd00{2:028x}"), 5353)


def test_stale_is_what_no_flow_leads_there_any_more() -> None:
    connections = list(parse(USERSPACE.splitlines()))
    v6, marked, unmarked = connections
    assert stale(connections, {v6.lead, marked.lead}.__contains__) == (unmarked,)
    assert stale(connections, {v6.lead, unmarked.lead}.__contains__) == (marked,)
    assert stale(connections, {marked.lead, unmarked.lead}.__contains__) == (v6,)
    assert stale(connections, lambda lead: False) == tuple(connections)


def test_stale_is_what_bears_the_mark_of_another_endpoint() -> None:
    """As the kernel has it of one whose endpoint is gone and has never answered, when there was a
    packet since.
    """
    (connection,) = parse(USERSPACE.splitlines()[1:2])
    other = Lead(connection.mark, bytes((10, 0, 0, 3)), 5353)
    assert stale([connection], {other}.__contains__) == (connection,)


@pytest.mark.parametrize(
    ("connection", "octets"),
    [
        (
            ServedUdp("10.0.0.1", 258, "10.96.0.10", 53, "10.0.0.2", 5353, 1),
            "0000232000000020110000000000000000000048000000000000001400000000000000000000ffff0a000001"
            "000000000001001400000000000000000000ffff0a60000a0000000000020008010200000003000800350000"
            "00020008fff10000",
        ),
        (
            ServedUdp("fd00::1", 258, "fd00::2", 53, "fd00::3", 5353, 1),
            "000023200000002011000000000000000000004800000000"
            "00000014fd00000000000000000000000000000100000000"
            "00010014fd00000000000000000000000000000200000000"
            "00020008010200000003000800350000"
            "00020008fff10000",
        ),
    ],
)
def test_the_message_that_ends_a_connection(connection: ServedUdp, octets: str) -> None:
    """As `ovs-ofctl ct-flush BRIDGE zone=65521 ct_nw_src=…` of Open vSwitch 3.1 sends it."""
    assert deletion(connection) == bytes.fromhex(octets)


class Said:
    """Prints this, and remembers what was asked."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.asked: list[tuple[str, ...]] = []

    def ask(self, command: str, *arguments: str) -> str:
        self.asked.append((command, *arguments))
        return self.text


def test_only_the_zone_of_services_is_asked_for() -> None:
    commands = Said(KERNEL)
    assert len(Tracker(commands).connections()) == 3
    assert commands.asked == [("dpctl/dump-conntrack", "zone=65521")]
