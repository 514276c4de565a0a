"""The packets of a connection that is tried: its first one, the answer, a later one; and what a
node answers in place of who is not there.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from ovsnet.flows.fields import EthType, Field, IpProto
from ovsnet.flows.simulator import Packet, echo, icmp, ip, tcp, udp
from ovsnet.flows.simulator.conntrack import ends_of
from ovsnet.flows.simulator.packet import ACK, RST, SYN
from ovsnet.model import IPAddress
from ovsnet.services.world import Endpoint

CLIENT_PORT: Final = 40000
"""The port that connections on trial come from."""

_PORT_UNREACHABLE: Final = {4: (3, 3), 6: (1, 4)}


class Packets(NamedTuple):
    """Of a connection: its first packet, the answer to it, and a later one."""

    first: Packet
    answer: Packet
    later: Packet


def packets_between(protocol: int, source: Endpoint, destination: Endpoint) -> Packets:
    """The packets of a connection by an IP protocol (IANA number); without ports it is a ping."""
    ends = str(source.address), str(destination.address)
    back = ends[::-1]
    ports = source.port, destination.port
    match protocol:
        case IpProto.TCP:
            return Packets(
                tcp(*ends, *ports),
                tcp(*back, *ports[::-1], flags=SYN | ACK),
                tcp(*ends, *ports, flags=ACK),
            )
        case IpProto.UDP:
            return Packets(udp(*ends, *ports), udp(*back, *ports[::-1]), udp(*ends, *ports))
        case IpProto.SCTP:
            first, answer = _sctp(*ends, *ports), _sctp(*back, *ports[::-1])
            return Packets(first, answer, first)
        case _:
            return Packets(echo(*ends), echo(*back, reply=True), echo(*ends))


def _sctp(source: str, destination: str, source_port: int, destination_port: int) -> Packet:
    ports = {Field.SCTP_SRC: source_port, Field.SCTP_DST: destination_port}
    return ip(source, destination, IpProto.SCTP).replace(ports)


def refusal(packet: Packet, sender: IPAddress) -> Packet:
    """What a node answers to a packet that it is to refuse: a TCP reset (RFC 9293, 3.10.7.1), or
    "port unreachable" from its own address (RFC 792, RFC 4443).
    """
    source, destination = places(packet)
    if packet[Field.IP_PROTO] == IpProto.TCP:
        ends = str(destination.address), str(source.address)
        return tcp(*ends, destination.port, source.port, flags=RST | ACK)
    kind = _PORT_UNREACHABLE[sender.version]
    return icmp(str(sender), str(source.address), *kind, quoted=packet)


def places(packet: Packet) -> tuple[Endpoint, Endpoint]:
    """Source and destination of an IP packet."""
    ends = ends_of(packet)
    made = IPv4Address if ends.ether_type == EthType.IPV4 else IPv6Address
    return (
        Endpoint(made(ends.source), ends.source_port),
        Endpoint(made(ends.destination), ends.destination_port),
    )
