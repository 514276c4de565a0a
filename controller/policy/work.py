"""What one event changes of nodes' flows, gathered before it is entered into their ledgers."""

from __future__ import annotations

from collections.abc import Iterator

from ovsnet.flows.flow import Block, Flow, Owner


class NodeWork:
    """The changes of one node: blocks to replace, owners whose blocks go, single flows.

    A single flow may come and go several times; what counts is the sum.
    """

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.gone: list[Owner] = []
        # By identity: whoever makes a flow come and go keeps it meanwhile.
        self._flows: dict[int, tuple[Flow, int]] = {}

    def comes(self, flow: Flow) -> None:
        """A single flow is wanted."""
        self._add(flow, 1)

    def goes(self, flow: Flow) -> None:
        """A single flow is wanted no more."""
        self._add(flow, -1)

    @property
    def entering(self) -> Iterator[Flow]:
        """The single flows that have come."""
        return (flow for flow, count in self._flows.values() if count > 0)

    @property
    def leaving(self) -> Iterator[Flow]:
        """The single flows that have gone."""
        return (flow for flow, count in self._flows.values() if count < 0)

    def _add(self, flow: Flow, count: int) -> None:
        known = self._flows.get(id(flow))
        self._flows[id(flow)] = flow, count if known is None else known[1] + count


class Work:
    """The changes of all nodes."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeWork] = {}

    def on(self, node: str) -> NodeWork:
        """The changes of a node, to be added to."""
        found = self._nodes.get(node)
        if found is None:
            found = self._nodes[node] = NodeWork()
        return found

    def __iter__(self) -> Iterator[tuple[str, NodeWork]]:
        return iter(self._nodes.items())
