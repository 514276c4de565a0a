"""Hypothesis strategies for flows that Open vSwitch accepts.

Prerequisites, masks and the rules for actions are respected (ovs-fields(7), ovs-actions(7)), so
that every generated flow can be added to a real switch. Two worlds of values: `WIDE` uses whole
fields, for printing and encoding; `NARROW` uses few values, so that flows overlap and packets
meet them, for lookups.

    @given(flows())                     one flow
    @given(flow_sets(max_size=40))      flows with distinct keys, in one tuple

Groups 1 to 3 (`GROUPS`) must exist in the switch before flows that name them are added.
"""

from __future__ import annotations

import dataclasses

from hypothesis import strategies as st

from ovsnet.flows.fields import EthType, Field, Form, IpProto
from ovsnet.flows.flow import (
    Conjunction,
    Ct,
    DecTtl,
    Flow,
    Goto,
    Group,
    HashSource,
    InPort,
    Learn,
    Move,
    Nat,
    NatKind,
    Output,
    OutputField,
    Resubmit,
    SetField,
    Subfield,
    Term,
    match,
    term,
    whole,
)
from ovsnet.flows.simulator import Packet
from ovsnet.names import Table

F = Field
LOCAL = 0xFFFFFFFE
GROUPS = (1, 2, 3)
REGISTERS = tuple(Field(n) for n in range(F.REG0, F.REG7 + 1))
TUNNEL = (F.TUN_ID, F.TUN_SRC, F.TUN_DST, F.TUN_IPV6_SRC, F.TUN_IPV6_DST)
ETHERNET = (F.ETH_DST, F.ETH_SRC)
ANY_PACKET = (*REGISTERS, *TUNNEL, F.CT_STATE, F.CT_ZONE, F.CT_MARK, F.CT_LABEL, *ETHERNET)
CT_ONLY = (F.CT_MARK, F.CT_LABEL)

MASKABLE = frozenset(
    {
        *REGISTERS,
        *TUNNEL,
        *ETHERNET,
        *CT_ONLY,
        *(F.CT_STATE, F.CT_NW_SRC, F.CT_NW_DST, F.CT_IPV6_SRC, F.CT_IPV6_DST),
        *(F.CT_TP_SRC, F.CT_TP_DST, F.IPV4_SRC, F.IPV4_DST, F.IPV6_SRC, F.IPV6_DST, F.IP_FRAG),
        *(F.TCP_SRC, F.TCP_DST, F.TCP_FLAGS, F.UDP_SRC, F.UDP_DST, F.SCTP_SRC, F.SCTP_DST),
        *(F.ARP_SPA, F.ARP_TPA, F.ARP_SHA, F.ARP_THA, F.ND_TARGET, F.ND_SLL, F.ND_TLL),
    }
)
"""Fields that a match or set_field may mask."""

READ_ONLY = frozenset(
    {
        *(F.CONJ_ID, F.CT_STATE, F.CT_ZONE, F.CT_NW_SRC, F.CT_NW_DST, F.CT_IPV6_SRC),
        *(F.CT_IPV6_DST, F.CT_NW_PROTO, F.CT_TP_SRC, F.CT_TP_DST),
        *(F.ETH_TYPE, F.IP_PROTO, F.IP_FRAG, F.TCP_FLAGS),
    }
)
"""Fields that no action writes."""

FRAGMENTS = ((0, None), (1, None), (3, None), (1, 1), (0, 2))
"""no, first, later, yes, not_later."""

CT_BITS = 0xFF
VALID_CT = (0x01, 0x02, 0x04, 0x21, 0x22, 0x2A)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of packet: the terms that say so, and the fields that it has beyond everybody's."""

    name: str
    terms: tuple[Term, ...] = ()
    fields: tuple[Field, ...] = ()
    parent: Kind | None = None

    @property
    def family(self) -> int:
        return next((t.value for t in self.terms if t.field is F.ETH_TYPE), 0)

    @property
    def is_ip(self) -> bool:
        return self.family in (EthType.IPV4, EthType.IPV6)

    @property
    def has_ports(self) -> bool:
        return any(f in PORTS for f in self.fields)


PORTS = frozenset({F.TCP_SRC, F.TCP_DST, F.UDP_SRC, F.UDP_DST, F.SCTP_SRC, F.SCTP_DST})


def _kind(name, terms, fields=(), parent=None):
    base = parent.terms if parent else ()
    more = parent.fields if parent else ()
    return Kind(name, (*base, *terms), (*more, *fields), parent)


def _protocol(number):
    return (Term(F.IP_PROTO, number),)


ANY = Kind("any")
LLDP = _kind("lldp", (Term(F.ETH_TYPE, 0x88CC),))
ARP = _kind(
    "arp",
    (Term(F.ETH_TYPE, EthType.ARP),),
    (F.ARP_OP, F.ARP_SPA, F.ARP_TPA, F.ARP_SHA, F.ARP_THA),
)
IP = _kind("ip", (Term(F.ETH_TYPE, EthType.IPV4),), (F.IP_TTL, F.IP_FRAG, F.IPV4_SRC, F.IPV4_DST))
IPV6 = _kind(
    "ipv6", (Term(F.ETH_TYPE, EthType.IPV6),), (F.IP_TTL, F.IP_FRAG, F.IPV6_SRC, F.IPV6_DST)
)
_TCP = (F.TCP_SRC, F.TCP_DST, F.TCP_FLAGS)
_UDP = (F.UDP_SRC, F.UDP_DST)
_SCTP = (F.SCTP_SRC, F.SCTP_DST)
TCP = _kind("tcp", _protocol(IpProto.TCP), _TCP, IP)
TCP6 = _kind("tcp6", _protocol(IpProto.TCP), _TCP, IPV6)
UDP = _kind("udp", _protocol(IpProto.UDP), _UDP, IP)
UDP6 = _kind("udp6", _protocol(IpProto.UDP), _UDP, IPV6)
SCTP = _kind("sctp", _protocol(IpProto.SCTP), _SCTP, IP)
SCTP6 = _kind("sctp6", _protocol(IpProto.SCTP), _SCTP, IPV6)
ICMP = _kind("icmp", _protocol(IpProto.ICMP), (F.ICMP_TYPE, F.ICMP_CODE), IP)
ICMP6 = _kind("icmp6", _protocol(IpProto.ICMPV6), (F.ICMPV6_TYPE, F.ICMPV6_CODE), IPV6)
SOLICITATION = Kind(
    "ns",
    (*ICMP6.terms, Term(F.ICMPV6_TYPE, 135), Term(F.ICMPV6_CODE, 0)),
    (*ICMP6.fields, F.ND_TARGET, F.ND_SLL),
    IPV6,
)
ADVERTISEMENT = Kind(
    "na",
    (*ICMP6.terms, Term(F.ICMPV6_TYPE, 136), Term(F.ICMPV6_CODE, 0)),
    (*ICMP6.fields, F.ND_TARGET, F.ND_TLL),
    IPV6,
)
ESP = _kind("esp", _protocol(50), (), IP)
ESP6 = _kind("esp6", _protocol(50), (), IPV6)
ICMPV6_IN_IPV4 = _kind("58", _protocol(58), (), IP)

KINDS = (
    *(ANY, LLDP, ARP, IP, IPV6, TCP, TCP6, UDP, UDP6, SCTP, SCTP6),
    *(ICMP, ICMP6, SOLICITATION, ADVERTISEMENT, ESP, ESP6, ICMPV6_IN_IPV4),
)


class Wide:
    """Values from all over a field, flows in every table."""

    kinds = KINDS
    tables = tuple(Table)
    priorities = st.integers(0, 0xFFFF)
    ports = st.one_of(st.integers(1, 0xFEFF), st.just(LOCAL))

    def value(self, field):
        if field is F.IN_PORT:
            return self.ports
        if field is F.ARP_OP:
            # Open vSwitch keeps eight bits of it.
            return st.integers(0, 255)
        return st.one_of(
            st.integers(0, field.full), st.integers(0, min(field.full, 255)), st.just(field.full)
        )

    def mask(self, field):
        bits = field.bits
        prefix = st.integers(1, bits - 1).map(lambda n: field.full ^ field.full >> n)
        low = st.integers(1, bits - 1).map(lambda n: (1 << n) - 1)
        some = st.one_of(low, st.integers(1, field.full - 1))
        if field.form is Form.IPV6:
            # ovs-ofctl takes a mask that begins with a digit for the length of a prefix.
            some = some.map(lambda mask: mask | 0xF << 124).filter(lambda m: m != field.full)
        return st.one_of(prefix, some)


POOLS = {
    F.IN_PORT: (1, 3, 4),
    F.CONJ_ID: (1, 2, 3),
    F.IPV4_SRC: (0x0A000001, 0x0A000002, 0x0A010001),
    F.IPV4_DST: (0x0A000001, 0x0A000002, 0x0A010001),
    F.IPV6_SRC: (0xFD << 120 | 1, 0xFD << 120 | 2, 0xFD01 << 112 | 1),
    F.IPV6_DST: (0xFD << 120 | 1, 0xFD << 120 | 2, 0xFD01 << 112 | 1),
    F.ETH_SRC: (0x0A580A000001, 0x0A580A000002),
    F.ETH_DST: (0x0A580A000001, 0x0A580A000002),
    F.IP_TTL: (1, 2, 64),
    F.TCP_FLAGS: (0x02, 0x10, 0x12),
    F.ARP_OP: (1, 2),
    F.TUN_DST: (0, 0xC0A80702, 0xC0A80703),
    F.TUN_IPV6_DST: (0, 0xFDAA << 112 | 2),
}


class Narrow:
    """Few values of each field, few tables and priorities, so that flows overlap and packets meet
    them. Connection tracking leads to later tables only: no packet goes round for ever.
    """

    kinds = (ANY, ANY, ANY, *KINDS)
    tables = tuple(Table)[:6]
    priorities = st.integers(0, 7)
    ports = st.sampled_from((1, 2, 3, 4, 5))

    def value(self, field):
        pool = POOLS.get(field)
        if pool is None:
            pool = (0, 1, 2, 3) if field.bits < 32 else (0, 1, 2, 5)
        return st.sampled_from(pool)

    def mask(self, field):
        bits = field.bits
        pool = {1, 2, 3, field.full ^ 1, field.full ^ field.full >> bits // 2}
        return st.sampled_from(sorted(m for m in pool if 0 < m < field.full))


WIDE = Wide()
NARROW = Narrow()


@st.composite
def terms(draw, field, world=WIDE):
    """A term for one field, masked at times where the field can be masked."""
    if field is F.IP_FRAG:
        return term(field, *draw(st.sampled_from(FRAGMENTS)))
    if field is F.CT_STATE:
        mask = draw(st.integers(1, CT_BITS))
        return term(field, draw(st.integers(0, CT_BITS)) & mask, mask)
    value = draw(world.value(field))
    if field in MASKABLE and draw(st.booleans()):
        return term(field, value, draw(world.mask(field)))
    return term(field, value)


def _ct_tuple(kind):
    family = {
        EthType.IPV4: (F.CT_NW_SRC, F.CT_NW_DST),
        EthType.IPV6: (F.CT_IPV6_SRC, F.CT_IPV6_DST),
    }
    return family[EthType(kind.family)]


@st.composite
def _kinds_and_matches(draw, world, max_fields):
    """A kind of packet, the match of a flow for it, and the fields its actions may name."""
    kind = draw(st.sampled_from(world.kinds))
    found = {t.field: t for t in kind.terms}
    optional = [f for f in (*ANY_PACKET, *kind.fields, F.IN_PORT) if f not in found]
    for field in draw(st.lists(st.sampled_from(optional), max_size=max_fields, unique=True)):
        found[field] = draw(terms(field, world))
    later = found.get(F.IP_FRAG) == Term(F.IP_FRAG, 3)
    if later and kind.parent:
        # Only the first fragment has ports and types; terms of the kind beyond IP's would be
        # refused, except for the protocol.
        gone = set(kind.fields) - set(kind.parent.fields)
        found = {f: t for f, t in found.items() if f not in gone}
        kind = kind.parent
    fields = [*ANY_PACKET, *kind.fields]
    if kind.is_ip and draw(st.integers(0, 4)) == 0:
        bits = draw(st.sampled_from(VALID_CT))
        found[F.CT_STATE] = term(F.CT_STATE, bits, bits)
        found[F.CT_NW_PROTO] = term(F.CT_NW_PROTO, draw(st.sampled_from((6, 17))))
        originals = (*_ct_tuple(kind), F.CT_TP_SRC, F.CT_TP_DST)
        for field in draw(st.lists(st.sampled_from(originals), max_size=3, unique=True)):
            found[field] = draw(terms(field, world))
        fields += [*originals, F.CT_NW_PROTO]
    return kind, match(*found.values()), tuple(fields)


@st.composite
def subfields(draw, field, bits=None):
    """Some bits of a field, 64 at most (which is what output can take); or exactly `bits`."""
    if bits is None:
        most = min(field.bits, 64)
        if field.bits == most and draw(st.booleans()):
            return whole(field)
        bits = draw(st.integers(1, most))
    return Subfield(field, draw(st.integers(0, field.bits - bits)), bits)


@st.composite
def set_fields(draw, fields, world=WIDE):
    """Writes a constant to one of the fields, masked at times."""
    field = draw(st.sampled_from(fields))
    made = draw(terms(field, world))
    return SetField(field, made.value, made.mask)


@st.composite
def moves(draw, sources, targets):
    """Copies bits of one of the sources to one of the targets."""
    source, target = draw(st.sampled_from(sources)), draw(st.sampled_from(targets))
    most = min(source.bits, target.bits)
    bits = draw(st.one_of(st.just(most), st.integers(1, most)))
    return Move(draw(subfields(source, bits)), draw(subfields(target, bits)))


@st.composite
def source_hashes(draw, targets):
    """Writes a hash of the source address to one of the targets."""
    target = draw(st.sampled_from(targets))
    bits = draw(st.integers(1, min(target.bits, 16)))
    of = draw(st.one_of(st.just(1 << bits), st.integers(1, 1 << bits)))
    return HashSource(draw(subfields(target, bits)), of, draw(st.integers(0, 0xFFFF)))


@st.composite
def nats(draw, kind, commit, world=WIDE):
    """The NAT of a ct action for this kind of packet."""
    if not commit or draw(st.booleans()):
        return Nat()
    which = draw(st.sampled_from((NatKind.SOURCE, NatKind.DESTINATION)))
    if kind.family == EthType.IPV4:
        bits, field = 32, F.IPV4_DST
    else:
        bits, field = 128, F.IPV6_DST
    # All zeroes mean "no address" to Open vSwitch.
    address = draw(world.value(field).filter(bool))
    port = draw(st.one_of(st.none(), st.integers(1, 0xFFFF))) if kind.has_ports else None
    return Nat(which, address, bits, port)


@st.composite
def cts(draw, kind, fields, tables, world=WIDE):
    """A ct action for this kind of packet, to one of these tables or none."""
    commit = draw(st.booleans())
    then = ()
    if commit:
        one = st.one_of(set_fields(CT_ONLY, world), moves(fields, CT_ONLY))
        then = tuple(draw(st.lists(one, max_size=2)))
    return Ct(
        zone=draw(world.value(F.CT_ZONE)),
        table=draw(st.one_of(st.none(), st.sampled_from(tables))) if tables else None,
        commit=commit,
        force=commit and draw(st.booleans()),
        nat=draw(st.one_of(st.none(), nats(kind, commit, world))),
        then=then,
    )


@st.composite
def learns(draw, kind, fields, world=WIDE):
    """Has the switch learn a flow for packets of this kind."""
    where = {t.field: t for t in kind.terms}
    for field in draw(st.lists(st.sampled_from((*fields, F.IN_PORT)), max_size=3)):
        where.setdefault(field, Term(field, draw(world.value(field))))
    same = [f for f in (*fields, F.IN_PORT) if f not in where]
    target = draw(st.sampled_from(fields).flatmap(subfields))
    return Learn(
        table=draw(st.sampled_from(world.tables)),
        priority=draw(st.one_of(st.integers(0, 0xFFFF), st.just(0x8000))),
        same=tuple(draw(st.lists(st.sampled_from(same), max_size=3, unique=True))),
        where=tuple(where.values()),
        target=target,
        value=draw(st.integers(0, (1 << target.bits) - 1)),
        idle=draw(st.integers(0, 0xFFFF)),
        limit=draw(st.integers(1, 0xFFFFFFFF)),
        cookie=draw(st.integers(0, (1 << 64) - 1)),
    )


def conjunctions():
    """What a flow that is part of conjunctions does: nothing else."""

    def clause(of):
        ids = st.integers(0, 0xFFFFFFFF)
        return st.builds(Conjunction, ids, st.integers(1, of), st.just(of))

    return st.lists(st.integers(2, 64).flatmap(clause), min_size=1, max_size=4).map(tuple)


@st.composite
def _actions(draw, table, kind, fields, world):
    if draw(st.integers(0, 9)) == 0:
        return draw(conjunctions())
    targets = tuple(f for f in fields if f not in READ_ONLY and f not in CT_ONLY)
    one = [
        set_fields(targets, world),
        set_fields(targets, world),
        moves(fields, targets),
        st.builds(Output, world.ports),
        st.sampled_from(fields).flatmap(subfields).map(OutputField),
        st.just(InPort()),
        st.builds(Resubmit, st.sampled_from(world.tables)),
        st.builds(Group, st.sampled_from(GROUPS)),
        st.builds(SetField, st.just(F.IN_PORT), st.one_of(st.just(0), world.ports)),
        learns(kind, targets, world),
        source_hashes(targets),
    ]
    if kind.is_ip:
        targets = world.tables if world is WIDE else tuple(t for t in world.tables if t > table)
        one += [st.just(DecTtl()), cts(kind, fields, targets, world)]
    found = draw(st.lists(st.one_of(one), max_size=5))
    later = [t for t in world.tables if t > table]
    if later and draw(st.booleans()):
        found.append(Goto(draw(st.sampled_from(later))))
    return tuple(found)


@st.composite
def flows(draw, world=WIDE, max_fields=4):
    """One flow that Open vSwitch accepts."""
    table = draw(st.sampled_from(world.tables))
    kind, conditions, fields = draw(_kinds_and_matches(world, max_fields))
    if draw(st.integers(0, 9)) == 0:
        conditions = match(*conditions, Term(F.CONJ_ID, draw(world.value(F.CONJ_ID))))
    return Flow(
        table=table,
        priority=draw(world.priorities),
        match=conditions,
        actions=draw(_actions(table, kind, fields, world)),
        cookie=draw(st.integers(0, (1 << 64) - 1)),
    )


def flow_sets(world=WIDE, max_size=30, max_fields=4):
    """Flows with distinct keys: what one table set of a switch can hold."""
    return st.lists(
        flows(world, max_fields), max_size=max_size, unique_by=lambda flow: flow.key
    ).map(tuple)


@st.composite
def packets(draw, world=NARROW):
    """A packet of any kind as it comes in by one of the ports."""
    kind = draw(st.sampled_from(KINDS[1:]))
    values = {term.field: term.value for term in kind.terms}
    for field in (*ETHERNET, *kind.fields):
        if field in (F.IP_FRAG, *values):
            continue
        values[field] = draw(world.value(field))
    if kind.is_ip and draw(st.integers(0, 5)) == 0:
        values[F.IP_FRAG] = draw(st.sampled_from((1, 3)))
    if values.get(F.IP_FRAG) == 3 and kind.parent:
        values = {f: v for f, v in values.items() if f in kind.parent.fields or f in ETHERNET} | {
            term.field: term.value for term in kind.terms if term.field in (F.ETH_TYPE, F.IP_PROTO)
        }
    values[F.IN_PORT] = draw(st.sampled_from((1, 3, 4)))
    if draw(st.integers(0, 5)) == 0:
        values |= {F.TUN_ID: 1, F.TUN_SRC: 0xC0A80702, F.TUN_DST: 0xC0A80701, F.IN_PORT: 2}
    return Packet().replace(values)
