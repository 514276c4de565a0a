"""Reads what `ovs-appctl ofproto/trace` prints, and carries out the datapath actions in it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping

from ovsnet.flows.fields import Field, Form
from ovsnet.flows.simulator import Packet
from ovsnet.flows.text import parse_match
from ovsnet.flows.text.names import SHORTHANDS
from ovsnet.flows.text.values import parse_value, print_match_value

F = Field
UNDERLAY_COOKIE = 0xFADE
"""Cookie of the flows of other bridges that a trace passes on its way out of a tunnel."""

_SECTION = re.compile(r"^={79}\n.*\n(?:.*\n)*?={79}$", re.MULTILINE)
_LOOKUP = re.compile(r"^ *(\d+)\. (?:(No match\.)|.*?priority (\d+)(?:, cookie (0x[0-9a-f]+))?)$")
_NOT_OURS = {
    *("vlan_tci", "nw_tos", "nw_ecn", "ipv6_label", "recirc_id", "eth", "tun_gbp_id", "tun_id"),
    *("tun_gbp_flags", "tun_tos", "tun_ttl", "tun_erspan_ver", "gtpu_flags", "gtpu_msgtype"),
    *("tun_flags", "pkt_mark", "skb_priority", "metadata", "nd_reserved", "nd_options_type"),
}
UNSEEN = frozenset({F.TUN_ID})
"""A field that a trace does not print; the datapath actions show it."""

_TERM = re.compile(r"[^,(]+(?:\([^)]*\))?")


@dataclasses.dataclass(frozen=True)
class Lookup:
    """A table, and the cookie of the flow met there (None: no flow matched)."""

    table: int
    cookie: int | None


@dataclasses.dataclass(frozen=True)
class Section:
    """One pass of a traced packet."""

    lookups: tuple[Lookup, ...]
    after: dict[Field, int]
    actions: str
    failed: bool


def flow_words(packet: Packet) -> str:
    """A packet in the words that ofproto/trace takes: prerequisites first, every field exact."""
    fields = packet.fields
    ether, protocol = packet[F.ETH_TYPE], packet[F.IP_PROTO]
    words = []
    shorthand = SHORTHANDS.get((ether, protocol or None)) if ether else None
    if shorthand:
        words.append(shorthand)
    else:
        words += [f"dl_type={ether:#06x}"] if ether else []
        words += [f"nw_proto={protocol}"] if protocol else []
    for field, value in fields.items():
        if field not in (F.ETH_TYPE, F.IP_PROTO):
            words.append(f"{field.text}={print_match_value(field, value, None, {})}")
    return ",".join(words)


def read_trace(text: str) -> list[Section]:
    """The passes of a trace, in order."""
    return [_section(part) for part in _SECTION.split(text)]


def _section(text: str) -> Section:
    lines = text.splitlines()
    named = {}
    lookups = []
    for line in lines:
        found = _LOOKUP.match(line)
        if found:
            cookie = None if found[2] else int(found[4] or "0", 16)
            if cookie != UNDERLAY_COOKIE:
                lookups.append(Lookup(int(found[1]), cookie))
        name, colon, value = line.partition(": ")
        if colon and name in ("Flow", "Final flow", "Datapath actions"):
            named[name] = value
    final = named["Final flow"]
    return Section(
        tuple(lookups),
        read_fields(named["Flow"] if final == "unchanged" else final),
        named["Datapath actions"],
        "Translation failed" in text,
    )


def read_fields(text: str) -> dict[Field, int]:
    """The fields of a flow that are not zero, without those in `UNSEEN`."""
    words = [w for w in _TERM.findall(text) if w.partition("=")[0] not in _NOT_OURS]
    return {term.field: term.value for term in parse_match(",".join(words)) if term.value}


_KEYS = {
    "eth": {"src": F.ETH_SRC, "dst": F.ETH_DST},
    "ipv4": {"src": F.IPV4_SRC, "dst": F.IPV4_DST, "ttl": F.IP_TTL},
    "ipv6": {"src": F.IPV6_SRC, "dst": F.IPV6_DST, "hlimit": F.IP_TTL},
    "tcp": {"src": F.TCP_SRC, "dst": F.TCP_DST},
    "udp": {"src": F.UDP_SRC, "dst": F.UDP_DST},
    "sctp": {"src": F.SCTP_SRC, "dst": F.SCTP_DST},
    "icmp": {"type": F.ICMP_TYPE, "code": F.ICMP_CODE},
    "icmpv6": {"type": F.ICMPV6_TYPE, "code": F.ICMPV6_CODE},
    "arp": {
        "sip": F.ARP_SPA,
        "tip": F.ARP_TPA,
        "op": F.ARP_OP,
        "sha": F.ARP_SHA,
        "tha": F.ARP_THA,
    },
    "nd": {"target": F.ND_TARGET, "sll": F.ND_SLL, "tll": F.ND_TLL},
}
_CALL = re.compile(r"(\w+)\((.*)\)")
_VNI = re.compile(r"vxlan\(flags=\w+,vni=(\w+)\)")
_OUTER = re.compile(r"ipv([46])\(src=[^,]*,dst=([^,]*),")


@dataclasses.dataclass(frozen=True)
class Sent:
    """A packet that the datapath sends: port, fields, and where a tunnel takes it."""

    port: int
    fields: tuple[tuple[Field, int], ...]
    tunnel: tuple[int, str] | None = None


def carry_out(
    actions: str, packet: Packet, ports: Mapping[int, int], tunnel_port: int
) -> list[Sent]:
    """What leaves when the datapath does this to a packet.

    `ports` has the OpenFlow number of each datapath port. Other actions than writing and sending
    (ct, recirc, userspace) send nothing.
    """
    sent = []
    pushed = False
    for action in _flattened(actions):
        call = _CALL.fullmatch(action)
        if pushed:
            # The port that the packet takes in its new header.
            assert action.isdecimal()
            pushed = False
        elif action.isdecimal():
            sent.append(Sent(ports[int(action)], _seen(packet)))
        elif call and call[1] == "set":
            packet = _set(call[2], packet)
        elif call and call[1] == "tnl_push":
            vni, outer = _VNI.search(call[2]), _OUTER.search(call[2])
            assert vni is not None
            assert outer is not None
            sent.append(Sent(tunnel_port, _seen(packet), (int(vni[1], 16), outer[2])))
            pushed = True
        else:
            known = ("drop", "ct", "recirc", "userspace", "ct_clear")
            assert (call[1] if call else action) in known, f"unknown datapath action {action}"
    return sent


def _flattened(actions: str) -> Iterator[str]:
    """The actions, with those of clones in their place: clones write nothing that lasts."""
    for action in _split(actions):
        call = _CALL.fullmatch(action)
        if call and call[1] == "clone":
            assert "set(" not in call[2]
            yield from _split(call[2])
        else:
            yield action


_METADATA = frozenset(range(F.REG0, F.ETH_DST))


def _seen(packet: Packet) -> tuple[tuple[Field, int], ...]:
    """The fields of the packet itself; metadata do not leave with it."""
    return tuple((f, v) for f, v in packet.fields.items() if f not in _METADATA)


def _set(text: str, packet: Packet) -> Packet:
    call = _CALL.fullmatch(text)
    assert call is not None
    for part in _split(call[2]):
        name, _, value = part.partition("=")
        field = _KEYS[call[1]].get(name)
        if field is None:
            assert name in ("frag", "tos", "proto", "label", "tclass"), f"unknown key {part}"
            continue
        number, mask = _number(field, value)
        old = packet[field]
        packet = packet.replace(
            {field: number if mask is None else old & ~mask & field.full | number & mask}
        )
    return packet


def _number(field: Field, text: str) -> tuple[int, int | None]:
    if field.form in (Form.MAC, Form.IPV4, Form.IPV6):
        return parse_value(field, text, {})
    value, _, mask = text.partition("/")
    return int(value, 0), int(mask, 0) if mask else None


def _split(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for place, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]
