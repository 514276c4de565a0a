"""Flows of services: from a service's address to one of its endpoints, and back.

A connection to a service passes the tracker in a zone of its own (`SERVICE_ZONE`), which translates
its destination, and only then in the zone of the policies: so policies see the endpoint. Where the
answers would not come back to this switch, a third zone (`SOURCE_ZONE`) translates the source, too.
Traffic that is for no service never meets the two.

A *set* of endpoints is what a service's port comes to for some traffic. It has an id of 64 bits, a
hash of its name, so that it is the same after every restart and in every order of events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from ipaddress import IPv4Address, ip_address

import msgspec

from ovsnet.flows.balance import choose_among, choose_by_source
from ovsnet.flows.fields import CtState, Field, IpProto
from ovsnet.flows.flow import (
    Action,
    Ct,
    Flow,
    Goto,
    Learn,
    Match,
    Move,
    Nat,
    NatKind,
    Owner,
    OwnerKind,
    Resubmit,
    SetField,
    Subfield,
    Term,
    match,
)
from ovsnet.flows.learnt import LEARNT_COOKIE, MOST_LEARNT
from ovsnet.flows.policy import PROTOCOLS
from ovsnet.flows.priorities import BEFORE, ELSE, FIRST, LAST, OTHERWISE, SOONER, USUAL
from ovsnet.flows.registers import (
    AFFINE,
    FOR_NODE,
    INDEX,
    INSIDE,
    KEEP_SOURCE,
    LOCAL_ONLY,
    NATTED,
    REMEMBERED,
    SERVICE_HIGH,
    SERVICE_LOW,
    Natted,
)
from ovsnet.flows.terms import (
    FAMILIES,
    IPV4,
    IPV6,
    ct_state,
    destination,
    icmp,
    icmpv6,
    source,
)
from ovsnet.model import IPAddress, IPNetwork, Protocol
from ovsnet.names import SERVICE_ZONE, Table

_PORTS = {
    Protocol.TCP: Field.TCP_DST,
    Protocol.UDP: Field.UDP_DST,
    Protocol.SCTP: Field.SCTP_DST,
}
_ERRORS = (3, 11, 12)
"""Types of ICMP messages that quote the packet that they are about (RFC 792); redirects are none of
the network's.
"""
_ERRORS6 = (1, 2, 3, 4)
"""The same of ICMPv6 (RFC 4443, section 3)."""

_LOW = (1 << 32) - 1
_ACK = 0x10
_MARKED = 1 << 31
_NOWHERE = (ip_address("192.0.2.1"), ip_address("2001:db8::1"))
_KEPT = Subfield(Field.CT_LABEL, 0, 1)
_KEEP_AS_BEFORE = Move(_KEPT, KEEP_SOURCE.bits)
_ANY = 1
"""The bit of ip_frag that all fragments have (ovs-fields(7))."""
_THROUGH_THE_TRACKER = Ct(SERVICE_ZONE, Table.SERVICE_STATE, nat=Nat())

_CHOOSING = (Field.REG2, Field.REG3, Field.REG4, Field.REG5, Field.REG8)
_FLAGS = LOCAL_ONLY.mask | AFFINE.mask | FOR_NODE.mask | NATTED.mask


def settled(natted: int) -> tuple[SetField, ...]:
    """The actions that say what becomes of a connection, and clear what led there. The switch's
    cache keeps packets apart by what their registers hold when they come out of the tracker.
    """
    flags = NATTED.set(natted)
    cleared = (SetField(field, 0) for field in _CHOOSING)
    return (*cleared, SetField(flags.field, flags.value, _FLAGS))


class EndpointSet(msgspec.Struct, frozen=True):
    """A set of endpoints: its id, and of which family and protocol they are.

    With `affinity` clients keep their endpoint for so many seconds; 0: they do not. With `keeping`
    some of its connections keep the client's address towards endpoints on the node's own network.
    """

    id: int
    version: int
    protocol: Protocol
    affinity: int = 0
    keeping: bool = False

    @property
    def traffic(self) -> tuple[Term, Term]:
        """The condition that a packet is of its family and protocol."""
        family = IPV4 if self.version == 4 else IPV6
        return family, Term(Field.IP_PROTO, PROTOCOLS[self.protocol])

    @property
    def chosen(self) -> tuple[Term, Term]:
        """The condition that an endpoint of this set is looked for."""
        return SERVICE_HIGH.matches(self.id >> 32), SERVICE_LOW.matches(self.id & _LOW)

    @property
    def choose(self) -> tuple[Action, Action]:
        """The actions that say that an endpoint of this set is looked for."""
        return SERVICE_HIGH.set(self.id >> 32), SERVICE_LOW.set(self.id & _LOW)


class Target(msgspec.Struct, frozen=True, order=True):
    """Where an endpoint takes connections."""

    address: IPAddress
    port: int


class Door(msgspec.Struct, frozen=True):
    """An address and port by which a service is called; without an address, a node's port."""

    version: int
    protocol: Protocol
    port: int
    address: IPAddress | None = None

    @property
    def condition(self) -> Match:
        """The condition that a packet is for it."""
        protocol = Term(Field.IP_PROTO, PROTOCOLS[self.protocol])
        port = (protocol, Term(_PORTS[self.protocol], self.port))
        if self.address is not None:
            return match(*destination(self.address), *port)
        return match(FOR_NODE.matches(1), IPV4 if self.version == 4 else IPV6, *port)


def set_id(*name: str) -> int:
    """The id of the set of endpoints that is named so: 64 bits, never 0."""
    digest = blake2b("\0".join(name).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") or 1


def mark_of(endpoints: EndpointSet, target: Target) -> int:
    """The mark of an endpoint in a set, 32 bits of which the highest is always set. The connections
    to it bear it.
    """
    text = f"{endpoints.id}\0{target.address}\0{target.port}"
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big") | _MARKED


def service_owner(name: str) -> Owner:
    """The owner of a service's flows, or of some of them."""
    return Owner(OwnerKind.SERVICE, name)


# --- to the service ---


class Terms(msgspec.Struct, frozen=True):
    """On what terms a door leads to endpoints. With `local_only` a packet is dropped where the node
    has none; with `keep_source` endpoints on the node's own network see the client's address.
    """

    local_only: bool = False
    keep_source: bool = False


def called(door: Door, endpoints: EndpointSet, terms: Terms = Terms()) -> Flow:  # noqa: B008 frozen
    """Packets to a service, by one of its addresses or a node port."""
    return Flow(Table.SERVICE, USUAL, door.condition, _looked_up(endpoints, terms))


def called_from_inside(door: Door, endpoints: EndpointSet) -> Flow:
    """The same from pods and the node itself, where those are served otherwise than the outside:
    traffic policy Local is for what comes from outside (KEP-1669).
    """
    condition = match(INSIDE.matches(1), *door.condition)
    return Flow(Table.SERVICE, SOONER, condition, _looked_up(endpoints, Terms()))


def healthy_here(door: Door, endpoints: EndpointSet) -> Flow:
    """Health checks of a service that has an endpoint on this node."""
    return Flow(Table.SERVICE, SOONER, door.condition, _looked_up(endpoints, Terms()))


def called_by_the_few(
    door: Door, endpoints: EndpointSet, sources: Iterable[IPNetwork], terms: Terms
) -> Iterator[Flow]:
    """Packets to a load balancer's address from those who may (loadBalancerSourceRanges); those of
    all others are dropped.
    """
    for network in sources:
        condition = match(*source(network), *_without_family(door.condition))
        yield Flow(Table.SERVICE, USUAL, condition, _looked_up(endpoints, terms))
    yield Flow(Table.SERVICE, OTHERWISE, door.condition)


def inside_by_the_few(
    door: Door, endpoints: EndpointSet, sources: Iterable[IPNetwork]
) -> Iterator[Flow]:
    """The same from pods and the node itself, where those are served otherwise than the outside."""
    for network in sources:
        condition = match(INSIDE.matches(1), *source(network), *_without_family(door.condition))
        yield Flow(Table.SERVICE, SOONER, condition, _looked_up(endpoints, Terms()))


def called_otherwise(address: IPAddress) -> Flow:
    """Everything else to a service's address: errors about its connections are translated as they
    are, and all other is refused.
    """
    return Flow(Table.SERVICE, ELSE, match(*destination(address)), (_THROUGH_THE_TRACKER,))


def errors_for_a_node(address: IPAddress | None = None) -> Iterator[Flow]:
    """Errors about connections to services that were called by a node's own address: this node's,
    or one that a service has as well. All other that is sent there stays the node's, errors about
    its own connections among it.
    """
    for family, errors in ((IPV4, map(icmp, _ERRORS)), (IPV6, map(icmpv6, _ERRORS6))):
        where = (family, FOR_NODE.matches(1)) if address is None else destination(address)
        if family not in where:
            continue
        for error in errors:
            actions = (FOR_NODE.set(1), _THROUGH_THE_TRACKER)
            yield Flow(Table.SERVICE, OTHERWISE, match(*where, *error[1:]), actions)


def _looked_up(endpoints: EndpointSet, terms: Terms) -> tuple[Action, ...]:
    flags: list[Action] = []
    if terms.local_only:
        flags.append(LOCAL_ONLY.set(1))
    if terms.keep_source:
        flags.append(KEEP_SOURCE.set(1))
    if endpoints.affinity:
        flags.append(AFFINE.set(1))
    return (*endpoints.choose, *flags, _THROUGH_THE_TRACKER)


def _without_family(condition: Match) -> Match:
    return tuple(term for term in condition if term.field is not Field.ETH_TYPE)


# --- to an endpoint ---


def balance(endpoints: EndpointSet, targets: tuple[Target, ...]) -> Iterator[Flow]:
    """New connections to a set of endpoints: the only endpoint, or one of several."""
    yield from balance_instead(endpoints, endpoints, targets, USUAL)


def balance_instead(
    called: EndpointSet, instead: EndpointSet, targets: tuple[Target, ...], priority: int
) -> Iterator[Flow]:
    """New connections to a set, of which only some endpoints will do here: those are a set of their
    own, by which they are numbered. Clients are remembered under the set that they call.
    """
    condition = match(*called.chosen, *called.traffic)
    if len(targets) == 1:
        yield Flow(Table.BALANCE, priority, condition, _served(called, targets[0]))
        return
    if targets:
        other = instead.choose if instead is not called else ()
        choose = choose_by_source if called.affinity else choose_among
        actions = (*other, *choose(len(targets)))
        yield Flow(Table.BALANCE, priority, condition, actions)
    for index, target in enumerate(targets):
        numbered = match(INDEX.matches(index), *instead.chosen, *instead.traffic)
        yield Flow(Table.ENDPOINT, USUAL, numbered, _served(called, target))


def sticky(
    endpoints: EndpointSet, targets: Iterable[Target], priority: int = USUAL
) -> Iterator[Flow]:
    """New connections of clients that had this endpoint last, or have just been given it."""
    for target in targets:
        condition = _had_last(endpoints, target)
        yield Flow(Table.STICKY, priority, condition, _translated(endpoints, target))


def forgotten(endpoints: EndpointSet, targets: Iterable[Target], priority: int) -> Iterator[Flow]:
    """New connections of clients whose last endpoint is meant for others now: they get another."""
    for target in targets:
        condition = _had_last(endpoints, target)
        yield Flow(Table.STICKY, priority, condition, (Goto(Table.BALANCE),))


def _had_last(endpoints: EndpointSet, target: Target) -> Match:
    mark = REMEMBERED.matches(mark_of(endpoints, target))
    return match(mark, *endpoints.chosen, *endpoints.traffic)


def _served(called: EndpointSet, target: Target) -> tuple[Action, ...]:
    if not called.affinity:
        return _translated(called, target)
    return (
        *called.choose,
        REMEMBERED.set(mark_of(called, target)),
        _remembering(called, target),
        Resubmit(Table.STICKY),
    )


def _translated(endpoints: EndpointSet, target: Target) -> tuple[Action, ...]:
    bits = 32 if isinstance(target.address, IPv4Address) else 128
    nat = Nat(NatKind.DESTINATION, int(target.address), bits, target.port)
    mark = SetField(Field.CT_MARK, mark_of(endpoints, target))
    # Whether the source is kept is settled with the first packet, too.
    then = (mark, Move(KEEP_SOURCE.bits, _KEPT)) if endpoints.keeping else (mark,)
    translate = Ct(SERVICE_ZONE, Table.SOURCE_NAT, commit=True, nat=nat, then=then)
    return (*settled(Natted.SERVED), translate)


def _remembering(called: EndpointSet, target: Target) -> Learn:
    """The switch remembers which endpoint this client has, as long as it comes back in time."""
    family, _ = called.traffic
    return Learn(
        table=Table.AFFINITY,
        priority=USUAL,
        same=(Field.IPV4_SRC if called.version == 4 else Field.IPV6_SRC,),
        where=(*called.chosen, family),
        target=REMEMBERED.bits,
        value=mark_of(called, target),
        idle=called.affinity,
        limit=MOST_LEARNT,
        cookie=LEARNT_COOKIE,
    )


# --- the same for all services ---


def in_fragments() -> Iterator[Flow]:
    """Fragments of packets, which have no ports. The kernel's datapath goes on with the whole
    packet, the userspace one with fragments that know their connection, but not its ports. What the
    node sends the kernel has tracked already, in zone 0, which is none of the switch's.
    """
    untracked = (ct_state(0, CtState.TRK),)
    by_the_node = (ct_state(CtState.TRK), Term(Field.CT_ZONE, 0))
    for family in FAMILIES:
        for tracked in (untracked, by_the_node):
            condition = match(*tracked, family, Term(Field.IP_FRAG, _ANY, _ANY))
            yield Flow(Table.SERVICE, FIRST, condition, (Ct(SERVICE_ZONE, Table.SERVICE),))


def towards_endpoints() -> Iterator[Flow]:
    """Packets to services, after the tracker: those of connections that have an endpoint already
    (also errors about them) are translated by now; others get one.

    To the node itself come other packets, too: answers to connections that it began, from a port
    whose number is that of a node port, and errors about its connections. Those that it has through
    a service with a pod of its own are translated back by now, and no policy judges them.
    """
    untranslated = ct_state(CtState.TRK, CtState.DNAT | CtState.RPL)
    answer = (Term(Field.IP_PROTO, IpProto.TCP), Term(Field.TCP_FLAGS, _ACK, _ACK))
    no_service: tuple[Action, ...] = (*settled(0), Goto(Table.CONNTRACK))
    for family in FAMILIES:
        condition = match(untranslated, FOR_NODE.matches(1), family, *answer)
        yield Flow(Table.SERVICE_STATE, FIRST, condition, no_service)
    unknown = match(ct_state(CtState.TRK | CtState.INV, CtState.RPL), FOR_NODE.matches(1))
    yield Flow(Table.SERVICE_STATE, FIRST, unknown, no_service)
    back = match(ct_state(CtState.TRK | CtState.RPL, CtState.INV), FOR_NODE.matches(1))
    yield Flow(Table.SERVICE_STATE, FIRST, back, (*settled(0), Goto(Table.ROUTE)))
    yield Flow(Table.SERVICE_STATE, BEFORE, match(ct_state(CtState.TRK | CtState.INV)))
    known = match(ct_state(CtState.TRK | CtState.DNAT, CtState.INV))
    onward: tuple[Action, ...] = (*settled(Natted.SERVED), _KEEP_AS_BEFORE, Goto(Table.SOURCE_NAT))
    yield Flow(Table.SERVICE_STATE, SOONER, known, onward)
    yield Flow(
        Table.SERVICE_STATE,
        USUAL,
        match(AFFINE.matches(1)),
        (Resubmit(Table.AFFINITY), Goto(Table.STICKY)),
    )
    yield Flow(Table.SERVICE_STATE, LAST, (), (Goto(Table.BALANCE),))


def known_without_an_answer() -> Iterator[Flow]:
    """Packets of connections that have an endpoint and had no answer yet. The kernel's tracker
    calls each of them new, and translates it only when told to commit. Where to it knows: the
    address here, one of those for documentation (RFC 5737, RFC 3849), is never used.
    """
    known = match(
        ct_state(CtState.TRK, CtState.DNAT | CtState.INV),
        Term(Field.CT_MARK, _MARKED, _MARKED),
    )
    for family, nowhere in zip(FAMILIES, _NOWHERE, strict=True):
        bits = nowhere.max_prefixlen
        nat = Nat(NatKind.DESTINATION, int(nowhere), bits)
        translate = Ct(SERVICE_ZONE, Table.SOURCE_NAT, commit=True, nat=nat)
        actions: tuple[Action, ...] = (*settled(Natted.SERVED), _KEEP_AS_BEFORE, translate)
        yield Flow(Table.SERVICE_STATE, SOONER, match(*known, family), actions)


def nobody_remembered() -> Flow:
    """Connections of clients that have no endpoint yet, or whose endpoint is gone."""
    return Flow(Table.STICKY, LAST, (), (Goto(Table.BALANCE),))


def no_endpoint() -> Iterator[Flow]:
    """Connections for which there is no endpoint: refused, or dropped where others have one and
    only this node has not (traffic policy Local).
    """
    yield Flow(Table.BALANCE, OTHERWISE, match(LOCAL_ONLY.matches(1)))
    refused: tuple[Action, ...] = (*settled(Natted.REFUSED), Goto(Table.SOURCE_NAT))
    yield Flow(Table.BALANCE, LAST, (), refused)
