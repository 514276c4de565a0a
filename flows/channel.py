"""How a packet leaves for another node: one replaceable function of (this node, that node).

The rest of the pipeline does not know which channel is in use. A new one (routed, hybrid) is
another class with the same two methods.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

from ovsnet.flows.fields import Field
from ovsnet.flows.flow import Action, SetField
from ovsnet.flows.registers import DESTINATION, OUT_PORT, Side
from ovsnet.flows.terms import set_tunnel_destination
from ovsnet.model import IPAddress, Node
from ovsnet.names import TUNNEL_KEY, TUNNEL_OFPORT


class Channel(Protocol):
    """A way between nodes."""

    def audience(self, this: Node) -> Hashable:
        """What `way`, and the underlay addresses that `this` can reach, depend on in `this`.

        Nodes of one audience share their flows about other nodes.
        """
        ...

    def way(self, this: Node, that: Node) -> tuple[Action, ...] | None:
        """The actions that send a packet from `this` to `that`; None if there is no way."""
        ...


class Overlay:
    """Through the tunnel, to the other node's underlay address."""

    def audience(self, this: Node) -> Hashable:
        """The families of the node's underlay addresses."""
        return frozenset(address.version for address in this.addresses)

    def way(self, this: Node, that: Node) -> tuple[Action, ...] | None:
        """The tunnel port with its key and destination set for this packet."""
        outer = underlay_between(this, that)
        if outer is None:
            return None
        return (
            SetField(Field.TUN_ID, TUNNEL_KEY),
            set_tunnel_destination(outer),
            DESTINATION.set(Side.TUNNEL),
            OUT_PORT.set(TUNNEL_OFPORT),
        )


def underlay_between(this: Node, that: Node) -> IPAddress | None:
    """The address by which `this` reaches `that`, and by which it knows that node's packets.

    IPv4 where both have it, otherwise IPv6: both sides must choose the same family, whatever
    the order in which they name their addresses.
    """
    for version in (4, 6):
        outer = next((a for a in that.addresses if a.version == version), None)
        if outer is not None and any(a.version == version for a in this.addresses):
            return outer
    return None
