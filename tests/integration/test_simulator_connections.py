"""The simulator's connection tracker against the userspace datapath's: the same packets, in the
same order, through the same flows. Each packet leaves with what the tracker said of it in its
Ethernet addresses.
"""

from __future__ import annotations

import random
import socket
import subprocess

import frames
import pytest
from flow_switch import PORTS, flow_switch
from os_ken.lib.packet import ethernet, icmp, icmpv6, ipv4, ipv6, packet, tcp, udp
from pyroute2 import netns

from ovsnet.flows.fields import EthType, Field, IpProto
from ovsnet.flows.simulator import Connections, Packet, Switch
from ovsnet.flows.simulator import echo as sim_echo
from ovsnet.flows.simulator import icmp as sim_icmp
from ovsnet.flows.simulator import tcp as sim_tcp
from ovsnet.flows.simulator import udp as sim_udp
from ovsnet.flows.simulator.packet import ACK, SYN
from ovsnet.flows.text import parse_flows
from ovsnet.flows.text.values import print_address
from ovsnet.sandbox.openvswitch import inside

F = Field
INSIDE, OUTSIDE, SEEN = 3, 4, 5
TELL = "move:NXM_NX_CT_STATE[]->NXM_OF_ETH_SRC[0..31],move:NXM_NX_CT_MARK[]->NXM_OF_ETH_DST[0..31]"
FLOWS = "".join(
    f"""
    table=0,{family} actions=ct(table=1,zone=ZONE,nat)
    table=1,priority=3,{family},ct_state=+inv+trk actions={TELL},output:5
    table=1,priority=2,{family},ct_state=+new+trk,in_port=3,{service} actions={TELL},ct(commit,table=2,zone=ZONE,nat(dst={backend}),exec(set_field:0x7->ct_mark))
    table=1,priority=1,{family},ct_state=+new+trk,in_port=3 actions={TELL},ct(commit,table=2,zone=ZONE,exec(set_field:0x5->ct_mark))
    table=1,priority=0,{family} actions={TELL},output:5
    table=2,{family} actions=output:5
    """  # noqa: E501
    for family, service, backend in (
        ("ip", "nw_dst=10.96.0.1", "10.0.0.2"),
        ("ipv6", "ipv6_dst=fd00:96::1", "fd00::2"),
    )
)
HOSTS = {4: ("10.0.0.1", "10.0.0.2", "10.96.0.1"), 6: ("fd00::1", "fd00::2", "fd00:96::1")}
MAC = "0a:58:00:00:00:01"


@pytest.fixture(scope="module")
def switch():
    with flow_switch("conns") as made:
        # The kernel shall send nothing of its own on these ports.
        quiet = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6"
        subprocess.run(inside(made.ovs.netns, ["sh", "-c", quiet]), check=True)
        for port in (INSIDE, OUTSIDE, SEEN):
            link = ["ip", "link", "set", "dev", PORTS[port], "up", "promisc", "on"]
            subprocess.run(inside(made.ovs.netns, link), check=True)
        yield made


@pytest.fixture(scope="module")
def wires(switch):
    """A raw socket on each of the ports."""
    netns.pushns(switch.ovs.netns)
    try:
        made = {port: socket.socket(socket.AF_PACKET, socket.SOCK_RAW) for port in PORTS}
        for port in (INSIDE, OUTSIDE, SEEN):
            made[port].bind((PORTS[port], 3))
            made[port].settimeout(5)
    finally:
        netns.popns()
    yield made
    for wire in made.values():
        wire.close()


def frame(wanted: Packet, sequence: tuple[int, int]) -> bytes:
    """The packet in bytes, checksums and all."""
    four = wanted[F.ETH_TYPE] == EthType.IPV4
    protocol = wanted[F.IP_PROTO]
    made = packet.Packet()
    made.add_protocol(ethernet.ethernet(MAC, MAC, wanted[F.ETH_TYPE]))
    if four:
        ends = [print_address(32, wanted[f]) for f in (F.IPV4_SRC, F.IPV4_DST)]
        made.add_protocol(ipv4.ipv4(src=ends[0], dst=ends[1], proto=protocol, ttl=64))
    else:
        ends = [print_address(128, wanted[f]) for f in (F.IPV6_SRC, F.IPV6_DST)]
        made.add_protocol(ipv6.ipv6(src=ends[0], dst=ends[1], nxt=protocol, hop_limit=64))
    if protocol == IpProto.UDP:
        made.add_protocol(udp.udp(wanted[F.UDP_SRC], wanted[F.UDP_DST]))
    elif protocol == IpProto.TCP:
        made.add_protocol(
            tcp.tcp(
                *(wanted[F.TCP_SRC], wanted[F.TCP_DST], *sequence, 5, wanted[F.TCP_FLAGS], 8192)
            )
        )
    elif wanted.quoted is not None and four:
        made.add_protocol(icmp.icmp(3, 3, data=icmp.dest_unreach(data=_quote(wanted.quoted))))
    elif wanted.quoted is not None:
        made.add_protocol(icmpv6.icmpv6(1, 4, data=bytes(4) + _quote(wanted.quoted)))
    elif four:
        made.add_protocol(icmp.icmp(wanted[F.ICMP_TYPE], 0, data=icmp.echo(9, 1)))
    else:
        made.add_protocol(icmpv6.icmpv6(wanted[F.ICMPV6_TYPE], 0, data=icmpv6.echo(9, 1)))
    made.serialize()
    return bytes(made.data)


def _quote(quoted: Packet) -> bytes:
    """What errors have of a packet at least: the IP header and 8 octets (RFC 792), or as much of it
    as there is room for (RFC 4443).
    """
    data = frame(quoted, (100, 0))[14:]
    return data[:28] if quoted[F.ETH_TYPE] == EthType.IPV4 else data


def quoted_ends(data: bytes) -> frames.Ends | None:
    """Who speaks to whom in the packet that an error quotes, if a frame is an error."""
    outer = frames.ends(data)
    assert outer is not None
    header = 20 if outer.source.version == 4 else 40
    kind = data[14 + header]
    if (outer.protocol, kind) not in ((IpProto.ICMP, 3), (IpProto.ICMPV6, 1)):
        return None
    return frames.ends(data[:14] + data[14 + header + 8 :])


def told(data: bytes) -> tuple[int, int, int, int, int, int]:
    """State, mark, addresses and ports of a packet that left the switch."""
    read = packet.Packet(data)
    ether = read.get_protocol(ethernet.ethernet)
    body = read.get_protocol(ipv4.ipv4) or read.get_protocol(ipv6.ipv6)
    family = socket.AF_INET if isinstance(body, ipv4.ipv4) else socket.AF_INET6
    source, destination = (
        int.from_bytes(socket.inet_pton(family, address), "big") for address in (body.src, body.dst)
    )
    ports = read.get_protocol(udp.udp) or read.get_protocol(tcp.tcp)
    ends = (ports.src_port, ports.dst_port) if ports else (0, 0)
    said = tuple(int(a.replace(":", ""), 16) & 0xFFFFFFFF for a in (ether.src, ether.dst))
    return (*said, source, destination, *ends)


def simulated(one: Packet) -> tuple[int, int, int, int, int, int]:
    """The same of a packet that left the simulator."""
    four = one[F.ETH_TYPE] == EthType.IPV4
    ends = (F.IPV4_SRC, F.IPV4_DST) if four else (F.IPV6_SRC, F.IPV6_DST)
    ports = {IpProto.UDP: (F.UDP_SRC, F.UDP_DST), IpProto.TCP: (F.TCP_SRC, F.TCP_DST)}
    fields = ports.get(one[F.IP_PROTO])
    numbers = (one[fields[0]], one[fields[1]]) if fields else (0, 0)
    low = (one[F.ETH_SRC] & 0xFFFFFFFF, one[F.ETH_DST] & 0xFFFFFFFF)
    return (*low, one[ends[0]], one[ends[1]], *numbers)


def run(switch, wires, zone: int, sent) -> None:
    """Send packets through both, one after the other, and compare what comes out."""
    text = FLOWS.replace("ZONE", str(zone))
    flows = [found.flow for found in parse_flows(text)]
    switch.replace(flows)
    # Until then the datapath may go by what the flows before said.
    switch.control.call("revalidator/wait")
    simulator, tracker = Switch(flows, PORTS), Connections()
    for number, (one, sequence) in enumerate(sent):
        trace = simulator.trace(one, tracker)
        tracker = trace.tracker
        wires[one[F.IN_PORT]].send(frame(one, sequence))
        assert len(trace.deliveries) == 1
        wanted = simulated(trace.deliveries[0].packet)
        data = wires[SEEN].recv(2048)
        assert told(data) == wanted, f"packet {number}: {one}"
        quoted = trace.deliveries[0].packet.quoted
        expected = None if quoted is None else frames.ends(frame(quoted, (0, 0)))
        assert quoted_ends(data) == expected, f"packet {number}: {one}"


def place(body: Packet, port: int) -> Packet:
    return body.on(port, MAC, MAC)


def conversation(draw: random.Random, family: int):
    """Packets of UDP and ping in both directions, in any order; some of them to the service."""
    client, server, service = HOSTS[family]
    sent = []
    for _ in range(12):
        port = draw.choice((1000, 1001))
        sent.append(
            draw.choice(
                (
                    place(sim_udp(client, server, port, 53), INSIDE),
                    place(sim_udp(server, client, 53, port), OUTSIDE),
                    place(sim_udp(client, service, port + 10, 53), INSIDE),
                    place(sim_udp(server, client, 53, port + 10), OUTSIDE),
                    place(sim_echo(client, server), INSIDE),
                    place(sim_echo(server, client, reply=True), OUTSIDE),
                )
            )
        )
    return [(one, (0, 0)) for one in sent]


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("seed", range(15))
def test_datagrams_in_any_order(switch, wires, family, seed):
    draw = random.Random(seed)
    run(switch, wires, 100 * family + seed, conversation(draw, family))


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("service", [False, True])
def test_a_tcp_connection_with_a_repeated_syn(switch, wires, family, service):
    client, server, address = HOSTS[family]
    target = address if service else server
    there = [place(sim_tcp(client, target, 4000, 80, flags=f), INSIDE) for f in (SYN, ACK)]
    back = [place(sim_tcp(server, client, 80, 4000, flags=f), OUTSIDE) for f in (SYN | ACK, ACK)]
    sent = [
        (there[0], (100, 0)),
        (there[0], (100, 0)),
        (back[0], (500, 101)),
        (there[1], (101, 501)),
        (back[1], (501, 101)),
        (there[1], (101, 501)),
    ]
    run(switch, wires, 1000 + 10 * family + service, sent)


def test_packets_that_begin_no_connection(switch, wires):
    client, server, _ = HOSTS[4]
    sent = [
        place(sim_tcp(server, client, 80, 4000, flags=SYN | ACK), OUTSIDE),
        *(place(sim_tcp(client, server, 1, 2, flags=f), INSIDE) for f in (0x03, 0x06, 0x01, 0x08)),
        place(sim_echo(server, client, reply=True), OUTSIDE),
        place(sim_tcp(client, server, 4001, 80, flags=ACK), INSIDE),
    ]
    run(switch, wires, 2000, [(one, (100, 0)) for one in sent])


def test_errors_about_connections_and_about_none(switch, wires):
    client, server, _ = HOSTS[4]
    asked = place(sim_udp(client, server, 1000, 53), INSIDE)
    error = place(sim_icmp(server, client, 3, 3, quoted=asked), OUTSIDE)
    run(switch, wires, 3000, [(one, (0, 0)) for one in (error, asked, error, asked)])


@pytest.mark.parametrize(("family", "begin"), [(4, sim_udp), (4, sim_tcp), (6, sim_udp)])
def test_errors_about_translated_connections(switch, wires, family, begin):
    """From the ends and from somebody between them, about packets of both directions.

    Not of TCP over IPv6: with the outer address the userspace datapath of Open vSwitch 3.1 brings a
    checksum up to date where TCP would have it, and it hits the address that the error quotes.
    """
    client, server, service = HOSTS[family]
    between = "10.0.0.77" if family == 4 else "fd00::77"
    flags = {"flags": SYN | ACK} if begin is sim_tcp else {}
    asked = place(begin(client, service, 1000, 53), INSIDE)
    seen = place(begin(client, server, 1000, 53), OUTSIDE)
    answer = place(begin(server, client, 53, 1000, **flags), OUTSIDE)
    answered = place(begin(service, client, 53, 1000, **flags), INSIDE)
    kind = (3, 3) if family == 4 else (1, 4)
    back = [place(sim_icmp(a, client, *kind, quoted=seen), OUTSIDE) for a in (server, between)]
    on = [place(sim_icmp(a, service, *kind, quoted=answered), INSIDE) for a in (client, between)]
    sent = [asked, back[0], back[1], answer, *back, *on, asked]
    run(switch, wires, 4000 + family + (begin is sim_tcp), [(p, (100, 0)) for p in sent])
