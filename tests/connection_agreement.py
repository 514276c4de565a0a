"""The simulator against a datapath with real packets: the same packets, in the same order, through
the same flows.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping

import datapath
import frames
from flow_switch import NUMBERS, PORTS, FlowSwitch, flow_switch
from os_ken.lib.packet import ethernet, icmp, icmpv6, ipv4, ipv6, packet, tcp, udp
from pyroute2 import netns

from ovsnet.flows.fields import EthType, Field, IpProto
from ovsnet.flows.flow import Flow
from ovsnet.flows.simulator import Connections, Packet, Switch
from ovsnet.flows.text import parse_flows
from ovsnet.flows.text.values import print_address
from ovsnet.sandbox.openvswitch import inside

F = Field
INSIDE, OUTSIDE, SEEN = 3, 4, 5
"""The ports that packets come in by, and the one that they all leave by."""

TELL = "move:NXM_NX_CT_STATE[]->NXM_OF_ETH_SRC[0..31],move:NXM_NX_CT_MARK[]->NXM_OF_ETH_DST[0..31]"
"""Writes what the tracker says of a packet to its Ethernet addresses."""

MAC = "0a:58:00:00:00:01"

Wires = Mapping[int, socket.socket]
Told = tuple[int, int, int, int, int, int]


@contextlib.contextmanager
def connection_switch(purpose: str) -> Iterator[tuple[FlowSwitch, Wires]]:
    """A switch, and a raw socket on each of the ports."""
    with flow_switch(purpose, datapath.TYPE) as made, contextlib.ExitStack() as open_sockets:
        # The kernel shall send nothing of its own on these ports.
        quiet = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6"
        subprocess.run(inside(made.ovs.netns, ["sh", "-c", quiet]), check=True)
        for port in (INSIDE, OUTSIDE, SEEN):
            link = ["ip", "link", "set", "dev", PORTS[port], "up", "promisc", "on"]
            subprocess.run(inside(made.ovs.netns, link), check=True)
        wires = {}
        netns.pushns(made.ovs.netns)
        try:
            for port in (INSIDE, OUTSIDE, SEEN):
                wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
                wires[port] = open_sockets.enter_context(wire)
                wire.bind((PORTS[port], 3))
                wire.settimeout(5)
        finally:
            netns.popns()
        yield made, wires


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


def told(data: bytes) -> Told:
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


def simulated(one: Packet) -> Told:
    """The same of a packet that left the simulator."""
    four = one[F.ETH_TYPE] == EthType.IPV4
    ends = (F.IPV4_SRC, F.IPV4_DST) if four else (F.IPV6_SRC, F.IPV6_DST)
    ports = {IpProto.UDP: (F.UDP_SRC, F.UDP_DST), IpProto.TCP: (F.TCP_SRC, F.TCP_DST)}
    fields = ports.get(one[F.IP_PROTO])
    numbers = (one[fields[0]], one[fields[1]]) if fields else (0, 0)
    low = (one[F.ETH_SRC] & 0xFFFFFFFF, one[F.ETH_DST] & 0xFFFFFFFF)
    return (*low, one[ends[0]], one[ends[1]], *numbers)


def run(
    switch: FlowSwitch, wires: Wires, text: str, sent: Iterable[tuple[Packet, tuple[int, int]]]
) -> None:
    """Send packets through both, one after the other, and compare what comes out, and what flows
    there are afterwards.
    """
    flows = [found.flow for found in parse_flows(text)]
    # What the datapath has cached goes by what the flows before said, and may have the switch learn
    # when it is counted.
    switch.control.call("revalidator/purge")
    switch.replace(flows)
    switch.control.call("revalidator/wait")
    _drain(wires[SEEN])
    simulator, tracker = Switch(flows, PORTS), Connections(kernel=not datapath.USERSPACE)
    for number, (one, sequence) in enumerate(sent):
        trace = simulator.trace(one, tracker)
        tracker, simulator = trace.tracker, simulator.having(trace.learnt)
        wires[one[F.IN_PORT]].send(frame(one, sequence))
        where = f"packet {number}: {one}"
        for delivery in trace.deliveries:
            assert delivery.port == SEEN
            data = wires[SEEN].recv(2048)
            came, expected = told(data), simulated(delivery.packet)
            assert came == expected, f"{where}: {came} came out, not {expected}"
            quoted = delivery.packet.quoted
            ends = None if quoted is None else frames.ends(frame(quoted, (0, 0)))
            assert quoted_ends(data) == ends, where
        if trace.learnt:
            # What the datapath has cached may be from before.
            switch.control.call("revalidator/wait")
            assert present(switch) == held(simulator), where
    assert present(switch) == held(simulator)


def _drain(wire: socket.socket) -> None:
    """What a test that failed has left."""
    patience = wire.gettimeout()
    wire.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            wire.recv(2048)
    wire.settimeout(patience)


def present(switch: FlowSwitch) -> set[Flow]:
    """The switch's flows."""
    return {found.flow for found in parse_flows(switch.dump(), NUMBERS)}


def held(simulator: Switch) -> set[Flow]:
    """The simulator's."""
    return {flow for index in simulator.tables.values() for flow in index.flows}


def place(body: Packet, port: int) -> Packet:
    return body.on(port, MAC, MAC)
