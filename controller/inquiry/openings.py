"""Every way that the first packet of a call may take through its node's switch: one for each
endpoint that it may be led to.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from ovsnet.controller.inquiry.passage import Fabric, Post, Trackers, Way
from ovsnet.flows.fields import EthType
from ovsnet.flows.registers import SLOT
from ovsnet.flows.simulator import Packet
from ovsnet.flows.simulator.conntrack import ends_of
from ovsnet.names import SERVICE_ZONE, Table
from ovsnet.services.world import Endpoint


class Opening(NamedTuple):
    """A way of the first packet, the trackers after it, and the endpoint that it was given; None:
    it was given none.
    """

    way: Way
    trackers: Trackers
    endpoint: Endpoint | None


def openings(fabric: Fabric, at: Post, packet: Packet) -> Iterator[Opening]:
    """The ways of a packet that comes in by a port: one for each flow that its hash may lead to.

    Raises:
        ValueError: as `Fabric.carry`.
    """
    way, trackers = fabric.carry(at, packet, {})
    slots = list(_slots(fabric, at.node, way))
    if not slots:
        yield _opening(way, trackers, at, packet)
    for slot in slots:
        yield _opening(*fabric.carry(at, packet, {}, (slot,)), at, packet)


def _slots(fabric: Fabric, node: str, way: Way) -> Iterator[int]:
    """One slot for each flow of `spread` that the hash may lead to, and one that leads to none."""
    chosen = [h.step.packet for h in way.hops if h.node == node and h.step.table is Table.SPREAD]
    if not chosen or not way.choices:
        return
    table, packet = fabric.table(node, Table.SPREAD), chosen[0]
    met: set[int] = set()
    for slot in range(way.choices[0]):
        action = SLOT.set(slot)
        found = table.lookup(packet.write(action.field, action.value, action.mask).matchable)
        if id(found.flow) not in met:
            met.add(id(found.flow))
            yield slot


def _opening(way: Way, trackers: Trackers, at: Post, packet: Packet) -> Opening:
    known = trackers[at.node].by_ends.get((SERVICE_ZONE, ends_of(packet)))
    if known is None:
        return Opening(way, trackers, None)
    made = IPv4Address if known.reply.ether_type == EthType.IPV4 else IPv6Address
    return Opening(way, trackers, Endpoint(made(known.reply.source), known.reply.source_port))
