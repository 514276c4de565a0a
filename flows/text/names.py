"""How ovs-ofctl spells fields, protocols, ports and flags (ovs-fields(7), ovs-ofctl(8))."""

from __future__ import annotations

from ovsnet.flows.fields import EthType, Field, IpProto

F = Field

MATCH_NAMES = {f: f.text for f in Field} | {
    F.ETH_SRC: "dl_src",
    F.ETH_DST: "dl_dst",
    F.ETH_TYPE: "dl_type",
    F.IP_FRAG: "nw_frag",
    F.TCP_SRC: "tp_src",
    F.TCP_DST: "tp_dst",
    F.UDP_SRC: "tp_src",
    F.UDP_DST: "tp_dst",
    F.SCTP_SRC: "tp_src",
    F.SCTP_DST: "tp_dst",
    F.ICMPV6_TYPE: "icmp_type",
    F.ICMPV6_CODE: "icmp_code",
}
"""Fields as the match of a dumped flow names them."""

SET_NAMES = {f: f.text for f in Field} | {F.IPV4_SRC: "ip_src", F.IPV4_DST: "ip_dst"}
"""Fields as set_field names them."""

LEARN_NAMES = SET_NAMES | {F.IN_PORT: "in_port_oxm"}
"""Fields as the conditions of learn name them."""

OXM_NAMES = (
    {f: f"NXM_NX_{f.text.upper()}" for f in Field}
    | {
        f: f"NXM_OF_{f.text.upper()}"
        for f in (
            *(F.ETH_DST, F.ETH_SRC, F.ETH_TYPE, F.TCP_SRC, F.TCP_DST, F.UDP_SRC, F.UDP_DST),
            *(F.ICMP_TYPE, F.ICMP_CODE, F.ARP_OP, F.ARP_SPA, F.ARP_TPA),
        )
    }
    | {
        F.IN_PORT: "OXM_OF_IN_PORT",
        F.TUN_SRC: "NXM_NX_TUN_IPV4_SRC",
        F.TUN_DST: "NXM_NX_TUN_IPV4_DST",
        F.IP_PROTO: "NXM_OF_IP_PROTO",
        F.IP_TTL: "NXM_NX_IP_TTL",
        F.IPV4_SRC: "NXM_OF_IP_SRC",
        F.IPV4_DST: "NXM_OF_IP_DST",
        F.SCTP_SRC: "OXM_OF_SCTP_SRC",
        F.SCTP_DST: "OXM_OF_SCTP_DST",
    }
)
"""Fields as move and output name them."""

ALIASES = {
    "dl_src": F.ETH_SRC,
    "dl_dst": F.ETH_DST,
    "dl_type": F.ETH_TYPE,
    "ip_src": F.IPV4_SRC,
    "ip_dst": F.IPV4_DST,
    "nw_frag": F.IP_FRAG,
    "ip_proto": F.IP_PROTO,
    "ip_ttl": F.IP_TTL,
    "tunnel_id": F.TUN_ID,
    "in_port_oxm": F.IN_PORT,
    "NXM_OF_IN_PORT": F.IN_PORT,
    "OXM_OF_ETH_DST": F.ETH_DST,
    "OXM_OF_ETH_SRC": F.ETH_SRC,
    "OXM_OF_ETH_TYPE": F.ETH_TYPE,
    "OXM_OF_TUNNEL_ID": F.TUN_ID,
    "OXM_OF_IP_PROTO": F.IP_PROTO,
    "OXM_OF_IPV4_SRC": F.IPV4_SRC,
    "OXM_OF_IPV4_DST": F.IPV4_DST,
    "OXM_OF_IPV6_SRC": F.IPV6_SRC,
    "OXM_OF_IPV6_DST": F.IPV6_DST,
    "OXM_OF_TCP_SRC": F.TCP_SRC,
    "OXM_OF_TCP_DST": F.TCP_DST,
    "OXM_OF_TCP_FLAGS": F.TCP_FLAGS,
    "OXM_OF_UDP_SRC": F.UDP_SRC,
    "OXM_OF_UDP_DST": F.UDP_DST,
    "OXM_OF_ICMPV4_TYPE": F.ICMP_TYPE,
    "OXM_OF_ICMPV4_CODE": F.ICMP_CODE,
    "OXM_OF_ICMPV6_TYPE": F.ICMPV6_TYPE,
    "OXM_OF_ICMPV6_CODE": F.ICMPV6_CODE,
    "OXM_OF_ARP_OP": F.ARP_OP,
    "OXM_OF_ARP_SPA": F.ARP_SPA,
    "OXM_OF_ARP_TPA": F.ARP_TPA,
    "OXM_OF_ARP_SHA": F.ARP_SHA,
    "OXM_OF_ARP_THA": F.ARP_THA,
    "OXM_OF_IPV6_ND_TARGET": F.ND_TARGET,
    "OXM_OF_IPV6_ND_SLL": F.ND_SLL,
    "OXM_OF_IPV6_ND_TLL": F.ND_TLL,
}

FIELDS = ALIASES | {name: f for f, name in OXM_NAMES.items()} | {f.text: f for f in Field}
"""Every spelling of a field that means the same whatever else a match holds."""

TP_SRC = {
    IpProto.TCP: F.TCP_SRC,
    IpProto.UDP: F.UDP_SRC,
    IpProto.SCTP: F.SCTP_SRC,
    IpProto.ICMP: F.ICMP_TYPE,
    IpProto.ICMPV6: F.ICMPV6_TYPE,
}
TP_DST = {
    IpProto.TCP: F.TCP_DST,
    IpProto.UDP: F.UDP_DST,
    IpProto.SCTP: F.SCTP_DST,
    IpProto.ICMP: F.ICMP_CODE,
    IpProto.ICMPV6: F.ICMPV6_CODE,
}
"""What tp_src and tp_dst mean, by the IP protocol that stands in the same match."""

PROTOCOLS: dict[str, tuple[int, int | None]] = {
    "ip": (EthType.IPV4, None),
    "ipv6": (EthType.IPV6, None),
    "arp": (EthType.ARP, None),
    "rarp": (0x8035, None),
    "tcp": (EthType.IPV4, IpProto.TCP),
    "tcp6": (EthType.IPV6, IpProto.TCP),
    "udp": (EthType.IPV4, IpProto.UDP),
    "udp6": (EthType.IPV6, IpProto.UDP),
    "sctp": (EthType.IPV4, IpProto.SCTP),
    "sctp6": (EthType.IPV6, IpProto.SCTP),
    "icmp": (EthType.IPV4, IpProto.ICMP),
    "icmp6": (EthType.IPV6, IpProto.ICMPV6),
    "igmp": (EthType.IPV4, 2),
}
"""Shorthands of a match: Ethernet type and IP protocol."""

SHORTHANDS = {kind: name for name, kind in PROTOCOLS.items()}

PORTS = {
    0xFFFFFFF9: "TABLE",
    0xFFFFFFFA: "NORMAL",
    0xFFFFFFFB: "FLOOD",
    0xFFFFFFFC: "ALL",
    0xFFFFFFFD: "CONTROLLER",
    0xFFFFFFFE: "LOCAL",
    0xFFFFFFFF: "ANY",
}
"""Reserved port numbers (OpenFlow 1.5, section 7.2.1.1)."""

PORT_NUMBERS = {name: number for number, name in PORTS.items()} | {"NONE": 0xFFFFFFFF}

FRAGMENTS: dict[str, tuple[int, int | None]] = {
    "no": (0, None),
    "first": (1, None),
    "later": (3, None),
    "yes": (1, 1),
    "not_later": (0, 2),
}
"""The words for ip_frag: value and mask."""

CT_STATES = ("new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat")
"""Flags of ct_state from the lowest bit up."""

TCP_FLAGS = (
    *("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns"),
    *("[200]", "[400]", "[800]"),
)
"""Flags of tcp_flags from the lowest bit up."""

FLAGS = {F.CT_STATE: CT_STATES, F.TCP_FLAGS: TCP_FLAGS}

MATCH_ORDER = (
    *(F.DP_HASH, F.CONJ_ID),
    *(F.CT_STATE, F.CT_ZONE, F.CT_MARK, F.CT_LABEL, F.CT_NW_SRC, F.CT_NW_DST),
    *(F.CT_IPV6_SRC, F.CT_IPV6_DST, F.CT_NW_PROTO, F.CT_TP_SRC, F.CT_TP_DST),
    *(F.ETH_TYPE, F.IP_PROTO),
    *(F.REG0, F.REG1, F.REG2, F.REG3, F.REG4, F.REG5, F.REG6, F.REG7, F.REG8, F.REG9),
    *(F.TUN_ID, F.TUN_SRC, F.TUN_DST, F.TUN_IPV6_SRC, F.TUN_IPV6_DST, F.IN_PORT),
    *(F.ETH_SRC, F.ETH_DST, F.IPV4_SRC, F.IPV4_DST, F.IPV6_SRC, F.IPV6_DST),
    *(F.ARP_SPA, F.ARP_TPA, F.ARP_OP, F.ARP_SHA, F.ARP_THA, F.IP_TTL, F.IP_FRAG),
    *(F.ICMP_TYPE, F.ICMP_CODE, F.ICMPV6_TYPE, F.ICMPV6_CODE, F.ND_TARGET, F.ND_SLL, F.ND_TLL),
    *(F.TCP_SRC, F.TCP_DST, F.UDP_SRC, F.UDP_DST, F.SCTP_SRC, F.SCTP_DST, F.TCP_FLAGS),
)
"""Fields in the order in which a dump prints them."""
