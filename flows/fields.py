"""The fields that flows match and set, by the names that ovs-ofctl uses (ovs-fields(7)).

Values are plain integers of the field's width everywhere: addresses too. That makes flows quick
to build, compare and encode; text is made only where a person reads it.
"""

from __future__ import annotations

from enum import Enum, IntEnum, auto


class Form(Enum):
    """How a field's value is written for people."""

    DECIMAL = auto()
    HEX = auto()
    MAC = auto()
    IPV4 = auto()
    IPV6 = auto()
    PORT = auto()
    CT_STATE = auto()


class Field(IntEnum):
    """A field of a packet, of its metadata, or a register.

    The order is the order of terms within a match. Each member is `bits` wide and is written in
    its `form`; `text` is its name in ovs-ofctl.
    """

    text: str
    bits: int
    form: Form

    def __new__(cls, text: str, bits: int, form: Form) -> Field:
        """Number the fields in the order of their definition."""
        number = len(cls.__members__)
        field = int.__new__(cls, number)
        field._value_ = number
        field.text = text
        field.bits = bits
        field.form = form
        return field

    REG0 = "reg0", 32, Form.HEX
    REG1 = "reg1", 32, Form.HEX
    REG2 = "reg2", 32, Form.HEX
    REG3 = "reg3", 32, Form.HEX
    REG4 = "reg4", 32, Form.HEX
    REG5 = "reg5", 32, Form.HEX
    REG6 = "reg6", 32, Form.HEX
    REG7 = "reg7", 32, Form.HEX
    REG8 = "reg8", 32, Form.HEX
    REG9 = "reg9", 32, Form.HEX
    DP_HASH = "dp_hash", 32, Form.HEX
    CONJ_ID = "conj_id", 32, Form.DECIMAL
    IN_PORT = "in_port", 32, Form.PORT
    TUN_ID = "tun_id", 64, Form.HEX
    TUN_SRC = "tun_src", 32, Form.IPV4
    TUN_DST = "tun_dst", 32, Form.IPV4
    TUN_IPV6_SRC = "tun_ipv6_src", 128, Form.IPV6
    TUN_IPV6_DST = "tun_ipv6_dst", 128, Form.IPV6
    CT_STATE = "ct_state", 32, Form.CT_STATE
    CT_ZONE = "ct_zone", 16, Form.HEX
    CT_MARK = "ct_mark", 32, Form.HEX
    CT_LABEL = "ct_label", 128, Form.HEX
    CT_NW_SRC = "ct_nw_src", 32, Form.IPV4
    CT_NW_DST = "ct_nw_dst", 32, Form.IPV4
    CT_IPV6_SRC = "ct_ipv6_src", 128, Form.IPV6
    CT_IPV6_DST = "ct_ipv6_dst", 128, Form.IPV6
    CT_NW_PROTO = "ct_nw_proto", 8, Form.DECIMAL
    CT_TP_SRC = "ct_tp_src", 16, Form.DECIMAL
    CT_TP_DST = "ct_tp_dst", 16, Form.DECIMAL
    ETH_DST = "eth_dst", 48, Form.MAC
    ETH_SRC = "eth_src", 48, Form.MAC
    ETH_TYPE = "eth_type", 16, Form.HEX
    IP_PROTO = "nw_proto", 8, Form.DECIMAL
    IP_TTL = "nw_ttl", 8, Form.DECIMAL
    IP_FRAG = "ip_frag", 2, Form.DECIMAL
    IPV4_SRC = "nw_src", 32, Form.IPV4
    IPV4_DST = "nw_dst", 32, Form.IPV4
    IPV6_SRC = "ipv6_src", 128, Form.IPV6
    IPV6_DST = "ipv6_dst", 128, Form.IPV6
    TCP_SRC = "tcp_src", 16, Form.DECIMAL
    TCP_DST = "tcp_dst", 16, Form.DECIMAL
    TCP_FLAGS = "tcp_flags", 12, Form.HEX
    UDP_SRC = "udp_src", 16, Form.DECIMAL
    UDP_DST = "udp_dst", 16, Form.DECIMAL
    SCTP_SRC = "sctp_src", 16, Form.DECIMAL
    SCTP_DST = "sctp_dst", 16, Form.DECIMAL
    ICMP_TYPE = "icmp_type", 8, Form.DECIMAL
    ICMP_CODE = "icmp_code", 8, Form.DECIMAL
    ICMPV6_TYPE = "icmpv6_type", 8, Form.DECIMAL
    ICMPV6_CODE = "icmpv6_code", 8, Form.DECIMAL
    ARP_OP = "arp_op", 16, Form.DECIMAL
    ARP_SPA = "arp_spa", 32, Form.IPV4
    ARP_TPA = "arp_tpa", 32, Form.IPV4
    ARP_SHA = "arp_sha", 48, Form.MAC
    ARP_THA = "arp_tha", 48, Form.MAC
    ND_TARGET = "nd_target", 128, Form.IPV6
    ND_SLL = "nd_sll", 48, Form.MAC
    ND_TLL = "nd_tll", 48, Form.MAC

    @property
    def full(self) -> int:
        """The mask that means every bit of the field."""
        return (1 << self.bits) - 1


class EthType(IntEnum):
    """Ethernet types that the pipeline tells apart (IEEE 802 numbers)."""

    IPV4 = 0x0800
    ARP = 0x0806
    IPV6 = 0x86DD


class IpProto(IntEnum):
    """IP protocols that the pipeline tells apart (IANA protocol numbers)."""

    ICMP = 1
    TCP = 6
    UDP = 17
    ICMPV6 = 58
    SCTP = 132


class CtState(IntEnum):
    """Bits of ct_state (ovs-fields(7), section Connection Tracking Fields)."""

    NEW = 0x01
    EST = 0x02
    REL = 0x04
    RPL = 0x08
    INV = 0x10
    TRK = 0x20
    SNAT = 0x40
    DNAT = 0x80
