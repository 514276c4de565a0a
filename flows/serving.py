"""Flows by which a node takes part in services, whatever services there are: its own addresses,
sources that must be translated, refusals, and the way of answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from ovsnet.flows.fields import CtState, Field
from ovsnet.flows.flow import (
    Action,
    Ct,
    Flow,
    Goto,
    InPort,
    Move,
    Nat,
    NatKind,
    OutputField,
    SetField,
    Term,
    match,
    term,
)
from ovsnet.flows.priorities import AHEAD, BEFORE, FIRST, OTHERWISE, RATHER, SOONER, USUAL
from ovsnet.flows.registers import (
    DESTINATION,
    FOR_NODE,
    INSIDE,
    KEEP_SOURCE,
    MARKS,
    NATTED,
    OUT_PORT,
    Natted,
    Side,
)
from ovsnet.flows.service import (
    EndpointSet,
    Target,
    balance,
    called_otherwise,
    errors_for_a_node,
    in_fragments,
    known_without_an_answer,
    no_endpoint,
    nobody_remembered,
    set_id,
    towards_endpoints,
)
from ovsnet.flows.terms import FAMILIES, REPLY, ct_state, destination, in_port, mac, source
from ovsnet.model import IPAddress, IPNetwork, Node, Protocol
from ovsnet.names import (
    GATEWAY_OFFSET,
    GATEWAY_OFPORT,
    HEALTHY_PORT,
    NODE_PORT_OFFSET,
    POLICY_ZONE,
    REFUSER_MAC,
    SERVICE_OFFSET,
    SERVICE_ZONE,
    SOURCE_ZONE,
    UNHEALTHY_PORT,
    Table,
)

_MARK_IT = Move(NATTED.bits, MARKS)
_FORWARD = ct_state(CtState.TRK, CtState.RPL | CtState.REL | CtState.INV)
_ESTABLISHED = ct_state(CtState.TRK | CtState.EST, CtState.RPL | CtState.REL | CtState.INV)
_NEW = ct_state(CtState.TRK | CtState.NEW)
_FROM_HOST = in_port(GATEWAY_OFPORT)


class Leg(msgspec.Struct, frozen=True):
    """A node's addresses on the pod network, of one family: that of its gateway, the one that
    services' connections seem to come from, and the one that it sends calls of node ports to.
    """

    gateway: IPAddress
    service: IPAddress
    node_port: IPAddress


def legs(node: Node) -> tuple[Leg, ...]:
    """A node's addresses on the pod network, for each of its ranges."""
    offsets = (GATEWAY_OFFSET, SERVICE_OFFSET, NODE_PORT_OFFSET)
    return tuple(Leg(*(network[offset] for offset in offsets)) for network in node.pod_cidrs)


def healthy(version: int) -> EndpointSet:
    """Where health checks of services go that have an endpoint on the node."""
    return EndpointSet(set_id("healthy", str(version)), version, Protocol.TCP)


def unhealthy(version: int) -> EndpointSet:
    """Where health checks of services go that have none."""
    return EndpointSet(set_id("unhealthy", str(version)), version, Protocol.TCP)


def serving(node: Node) -> Iterator[Flow]:
    """Everything that a node's switch needs for services before there is one."""
    yield from in_fragments()
    yield from towards_endpoints()
    yield from known_without_an_answer()
    yield nobody_remembered()
    yield from no_endpoint()
    yield from refusals()
    yield from commit_served()
    yield from commit_otherwise()
    yield from answers()
    yield from out_of_any_port()
    own = legs(node)
    yield from for_the_node((*node.addresses, *(leg.node_port for leg in own)))
    yield from from_the_node((*node.addresses, *(leg.gateway for leg in own)))
    yield from errors_for_a_node()
    for leg in own:
        yield called_otherwise(leg.node_port)
        yield from health_checks(leg)
        yield from from_host_to_host(leg)
        yield from from_host_to_nobody((*node.addresses, leg.gateway), leg)
    for network in node.pod_cidrs:
        yield from_host_to_pod(network)
    for address in node.addresses:
        yield from_client_to_host(address)


def for_the_node(addresses: Iterable[IPAddress]) -> Iterator[Flow]:
    """Packets to one of the node's own addresses, or to its node port address, where the node
    itself sends what comes for node ports: they may be for a node port.
    """
    for address in addresses:
        actions = (FOR_NODE.set(1), Goto(Table.SERVICE))
        yield Flow(Table.NODE_PORT, USUAL, match(*destination(address)), actions)


def from_the_node(addresses: Iterable[IPAddress]) -> Iterator[Flow]:
    """Packets of the node's own processes, not of somebody beyond whom the node forwards for."""
    for address in addresses:
        yield Flow(
            Table.SPOOF_GUARD,
            SOONER,
            match(_FROM_HOST, *source(address)),
            (INSIDE.set(1), Goto(Table.NODE_PORT)),
        )


def health_checks(leg: Leg) -> Iterator[Flow]:
    """Load balancers that ask whether a service has an endpoint here: the agent says so, on one
    port yes and on another no.
    """
    version = leg.gateway.version
    yield from balance(healthy(version), (Target(leg.gateway, HEALTHY_PORT),))
    yield from balance(unhealthy(version), (Target(leg.gateway, UNHEALTHY_PORT),))


def hairpin(address: IPAddress, service: IPAddress) -> Flow:
    """Connections of a pod that a service leads back to the pod itself: it would take the answers
    for its own.
    """
    condition = match(*source(address), destination(address)[1])
    return Flow(Table.SOURCE_NAT, SOONER, condition, _from(service))


def from_host_to_host(leg: Leg) -> Iterator[Flow]:
    """Connections to services that come from the node, or from beyond through it. Answers of all
    endpoints must come back to this switch, and those on the node itself or beyond would not.
    """
    family = next(iter(destination(leg.gateway)))
    to_gateway = match(_FROM_HOST, *destination(leg.gateway))
    yield Flow(Table.SOURCE_NAT, BEFORE, to_gateway, _from(leg.service))
    yield Flow(Table.SOURCE_NAT, OTHERWISE, match(_FROM_HOST, family), _from(leg.service))


def from_host_to_nobody(addresses: Iterable[IPAddress], leg: Leg) -> Iterator[Flow]:
    """Connections of the node's own processes to services without endpoints. Linux does not refuse
    what seems to come from one of its own addresses by ICMP.
    """
    for address in addresses:
        if address.version == leg.service.version:
            refused = match(_FROM_HOST, NATTED.has(Natted.REFUSED), *source(address))
            yield Flow(Table.SOURCE_NAT, FIRST, refused, _from(leg.service))


def from_host_to_pod(own: IPNetwork) -> Flow:
    """The same connections to pods of this node, whose answers come back to this switch anyway:
    the pod sees who calls.
    """
    condition = match(_FROM_HOST, *destination(own))
    return Flow(Table.SOURCE_NAT, USUAL, condition, (Goto(Table.CONNTRACK),))


def from_client_to_host(address: IPAddress) -> Flow:
    """Connections from beyond to an endpoint on the node's own network that is to see the client's
    address (externalTrafficPolicy Local). The node sends its answers back here.
    """
    condition = match(_FROM_HOST, KEEP_SOURCE.matches(1), *destination(address))
    return Flow(Table.SOURCE_NAT, SOONER, condition, (Goto(Table.CONNTRACK),))


def _from(service: IPAddress) -> tuple[Action, ...]:
    """The actions that make the node's service address the source."""
    nat = Nat(NatKind.SOURCE, int(service), 32 if service.version == 4 else 128)
    translate = Ct(SOURCE_ZONE, Table.CONNTRACK, commit=True, nat=nat, then=(_MARK_IT,))
    return (NATTED.add(Natted.SOURCE), translate)


def refusals() -> Iterator[Flow]:
    """Connections to services without endpoints. No policy is asked, as there is no pod at the
    other end: the node gets them, from a MAC that says that it is to refuse them. And its answers.
    """
    refused = NATTED.has(Natted.REFUSED)
    answer = match(REPLY, term(Field.CT_MARK, Natted.REFUSED, Natted.REFUSED))
    for condition in (match(refused), answer):
        yield Flow(Table.CONNTRACK_STATE, BEFORE, condition, (Goto(Table.COMMIT),))


def refused_by_the_node(gateway_mac: int) -> Iterator[Flow]:
    """Connections to services without endpoints, on their way out: to the node, from the MAC that
    says that it is to refuse them. What the node led here for others goes back at once, as its
    refusal finds the way without the switch.
    """
    to_node = _to_be_refused(gateway_mac)
    out = (DESTINATION.set(Side.GATEWAY), OUT_PORT.set(GATEWAY_OFPORT), Goto(Table.OUTPUT))
    for family in FAMILIES:
        refused = match(NATTED.has(Natted.REFUSED), family)
        yield Flow(Table.ROUTE, FIRST, refused, (*to_node, *out))
        from_host = match(_FROM_HOST, *refused)
        yield Flow(Table.SOURCE_NAT, AHEAD, from_host, (*to_node, InPort()))


def nobody_there(gateway_mac: int) -> Iterator[Flow]:
    """Packets that the node led here though they are for nobody: to an address of a service range
    that no service has, above all. The node would lead them here again, so it is to refuse them.
    """
    for family in FAMILIES:
        condition = match(_FROM_HOST, NATTED.matches(0), family)
        actions = (*_to_be_refused(gateway_mac), InPort())
        yield Flow(Table.ROUTE, RATHER, condition, actions)


def _to_be_refused(gateway_mac: int) -> tuple[Action, ...]:
    """The actions that address a packet to the node, from the MAC that asks it to refuse."""
    return SetField(Field.ETH_SRC, mac(REFUSER_MAC)), SetField(Field.ETH_DST, gateway_mac)


def commit_served() -> Iterator[Flow]:
    """The first packets of connections to services, which both policies have admitted: their entry
    remembers what to undo in answers.
    """
    for family in FAMILIES:
        for what in (Natted.SERVED, Natted.REFUSED):
            commit = Ct(POLICY_ZONE, commit=True, then=(_MARK_IT,))
            condition = match(_NEW, NATTED.has(what), family)
            yield Flow(Table.COMMIT, SOONER, condition, (commit, Goto(Table.ANSWER)))


def commit_otherwise() -> Iterator[Flow]:
    """Packets that a client sends to an endpoint by the service, after it has called it by itself
    from the same port, or the other way round. To the policies' zone these are one connection, and
    its answers are for the way that was taken last.
    """
    commit = Ct(POLICY_ZONE, commit=True, then=(_MARK_IT,))
    served = term(Field.CT_MARK, Natted.SERVED, Natted.SERVED)
    not_served = term(Field.CT_MARK, 0, Natted.SERVED)
    for family in FAMILIES:
        for condition in (
            match(_FORWARD, NATTED.has_none_of(sum(Natted)), served, family),
            match(_ESTABLISHED, NATTED.has(Natted.SERVED), not_served, family),
        ):
            yield Flow(Table.COMMIT, SOONER, condition, (commit, Goto(Table.ANSWER)))


def answers() -> Iterator[Flow]:
    """Answers of endpoints, errors about connections to them, and refusals: what was translated on
    the way there is translated back, the source first.
    """
    served, source_too, refused = Natted.SERVED, Natted.SOURCE, Natted.REFUSED
    for family in FAMILIES:
        plain = match(REPLY, _marked(served), family)
        yield Flow(Table.ANSWER, USUAL, plain, (NATTED.set(served), Goto(Table.ANSWER_SERVICE)))
        both = match(REPLY, _marked(served | source_too), family)
        undo = Ct(SOURCE_ZONE, Table.ANSWER_SERVICE, nat=Nat())
        yield Flow(Table.ANSWER, USUAL, both, (NATTED.set(served | source_too), undo))
        no = match(REPLY, _marked(refused | source_too), family)
        undo = Ct(SOURCE_ZONE, Table.ROUTE, nat=Nat())
        yield Flow(Table.ANSWER, USUAL, no, (NATTED.set(source_too), undo))
        undo = Ct(SERVICE_ZONE, Table.ROUTE, nat=Nat())
        yield Flow(Table.ANSWER_SERVICE, USUAL, match(family), (undo,))


def out_of_any_port() -> Iterator[Flow]:
    """Packets of services' connections may leave by the port that they came in by: a pod that calls
    itself, a node whose endpoint is on its own network.
    """
    for what in (Natted.SERVED, Natted.SOURCE):
        actions = (SetField(Field.IN_PORT, 0), OutputField(OUT_PORT.bits))
        yield Flow(Table.OUTPUT, SOONER, match(NATTED.has(what)), actions)


def _marked(marks: int) -> Term:
    """The condition that of the marks of the connection exactly these are set."""
    return term(Field.CT_MARK, marks, (1 << MARKS.bits) - 1)
