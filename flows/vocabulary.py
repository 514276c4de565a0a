"""What people call the things that flows look at: protocols, messages, fields, states."""

from __future__ import annotations

from typing import Final

from ovsnet.flows.fields import CtState, Field, IpProto
from ovsnet.names import POLICY_ZONE, SERVICE_ZONE, SOURCE_ZONE

PROTOCOLS: Final = {
    IpProto.ICMP: "ICMP",
    IpProto.TCP: "TCP",
    IpProto.UDP: "UDP",
    IpProto.ICMPV6: "ICMPv6",
    IpProto.SCTP: "SCTP",
}
NEIGHBOUR_MESSAGES: Final = {
    133: "router solicitations",
    134: "router advertisements",
    135: "neighbour solicitations",
    136: "neighbour advertisements",
    137: "redirects",
}
ARP_MESSAGES: Final = {1: "ARP requests", 2: "ARP replies"}
FRAGMENTS: Final = {
    "no": "whole",
    "first": "first fragments",
    "later": "later fragments",
    "yes": "in fragments",
    "not_later": "whole or first fragments",
}
"""What ovs-ofctl's words for ip_frag mean (ovs-fields(7))."""

FIELDS: Final = {
    Field.CT_NW_SRC: "of a connection that began at",
    Field.CT_IPV6_SRC: "of a connection that began at",
    Field.CT_NW_DST: "of a connection to",
    Field.CT_IPV6_DST: "of a connection to",
    Field.CT_TP_SRC: "from its port",
    Field.CT_TP_DST: "to its port",
    Field.CT_ZONE: "tracked in zone",
    Field.ETH_SRC: "source MAC",
    Field.ETH_DST: "destination MAC",
    Field.IPV4_SRC: "source",
    Field.IPV4_DST: "destination",
    Field.IPV6_SRC: "source",
    Field.IPV6_DST: "destination",
    Field.TCP_SRC: "source port",
    Field.TCP_DST: "destination port",
    Field.UDP_SRC: "source port",
    Field.UDP_DST: "destination port",
    Field.SCTP_SRC: "source port",
    Field.SCTP_DST: "destination port",
    Field.TUN_SRC: "tunnelled by the node at",
    Field.TUN_IPV6_SRC: "tunnelled by the node at",
    Field.TUN_DST: "tunnelled to the node at",
    Field.TUN_IPV6_DST: "tunnelled to the node at",
    Field.TUN_ID: "overlay network",
    Field.ARP_OP: "ARP operation",
    Field.ARP_SPA: "sender's address",
    Field.ARP_TPA: "address asked for",
    Field.ARP_SHA: "sender's MAC",
    Field.ARP_THA: "asker's MAC",
    Field.ND_TARGET: "address asked for",
    Field.ND_SLL: "sender's MAC option",
    Field.ND_TLL: "target's MAC option",
    Field.ICMPV6_TYPE: "ICMPv6 type",
    Field.ICMPV6_CODE: "ICMPv6 code",
    Field.ICMP_TYPE: "ICMP type",
    Field.ICMP_CODE: "ICMP code",
    Field.CT_MARK: "mark of the connection",
}
STATES: Final = {
    CtState.NEW: "new",
    CtState.EST: "established",
    CtState.REL: "related",
    CtState.RPL: "reply direction",
    CtState.INV: "invalid",
    CtState.SNAT: "source translated",
    CtState.DNAT: "destination translated",
}
TCP_FLAGS: Final = {
    0x001: "FIN",
    0x002: "SYN",
    0x004: "RST",
    0x008: "PSH",
    0x010: "ACK",
    0x020: "URG",
    0x040: "ECE",
    0x080: "CWR",
}
ZONES: Final = {
    POLICY_ZONE: f"zone {POLICY_ZONE}",
    SERVICE_ZONE: f"zone {SERVICE_ZONE}, services",
    SOURCE_ZONE: f"zone {SOURCE_ZONE}, sources of services",
}
