"""What is seen on a packet's way, in words: flows of switches, ports, and where it was dropped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ovsnet.controller.inquiry.passage import Drop, Fabric, Post, Way
from ovsnet.controller.inquiry.why import Reading
from ovsnet.flows.flow import Flow
from ovsnet.flows.text import print_flow
from ovsnet.flows.words import owner_words, words
from ovsnet.names import GATEWAY_OFPORT, TUNNEL_OFPORT

_NAMES: Final = {GATEWAY_OFPORT: "the node", TUNNEL_OFPORT: "the tunnel"}


class Reader:
    """Reads out what is met on the way.

    `owners` has the names of flows' owners by cookie, `sets` whose endpoints sets are by their ids,
    `names` who is at a port.
    """

    def __init__(
        self,
        fabric: Fabric,
        owners: Mapping[int, str],
        sets: Mapping[int, str],
        names: Mapping[Post, str],
    ) -> None:
        self._fabric = fabric
        self._owners = owners
        self._sets = sets
        self._names = names

    def post(self, post: Post) -> str:
        """Who is at a port of a switch."""
        known = self._names.get(post)
        if known is not None:
            return known
        if not post.node:
            return "a tunnel to no known node"
        name = _NAMES.get(post.port) or f"port {self._port_names(post.node).get(post.port)}"
        return f"{name} of {post.node}"

    def arrival(self, way: Way) -> str:
        """Where a packet comes out."""
        return "arrives at " + " and at ".join(map(self.post, way.arrivals))

    def flow(self, node: str, flow: Flow | None) -> Reading | None:
        """A flow of a node's switch."""
        if flow is None:
            return None
        ports = self._port_names(node)
        said = words(flow, ports, self._sets)
        return Reading(
            node=node,
            table=flow.table.text,
            flow=print_flow(flow, ports),
            packets=said.packets,
            outcome=said.outcome,
            owner=owner_words(flow, self._owners),
        )

    def _port_names(self, node: str) -> Mapping[int, str]:
        return self._fabric.ports(node) if node in self._fabric.nodes else {}


def drop_words(drop: Drop) -> str:
    """Where a packet has come to nothing, and why if no flow says so."""
    where = f"is dropped on {drop.node} in {drop.table.text}"
    return f"{where}: {drop.reason}" if drop.flow is None or drop.flow.actions else where


def doubts(way: Way) -> Iterator[str]:
    """Why nobody can say where a switch would have sent the packet."""
    for node, foreign in way.unread:
        yield (
            f"{node} holds a flow in table {foreign.table} that ovsnet cannot follow "
            f"({foreign.reason})"
        )
    for hop in way.hops:
        taken = hop.step.flow
        # Several rules that allow one connection are rivals that do the same.
        if any(r is None or taken is None or r.actions != taken.actions for r in hop.step.rivals):
            table = hop.step.table.text
            yield f"{hop.node} holds flows in {table} of which any may take the packet"
