"""Flows that many nodes have in common: those about other nodes.

Every node has a few flows for every other one. Kept per node they would be the square of the
cluster's size: six million for a thousand nodes. So they are kept once, for all nodes that reach
others alike, and a node's ledger leaves out the block about itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import msgspec

from ovsnet.flows.flow import Block, Flow, FlowKey, Owner


class Change(msgspec.Struct, frozen=True):
    """What one owner's block became: flows to add or replace, flows to delete."""

    owner: Owner
    adds: tuple[Flow, ...]
    deletes: tuple[Flow, ...]


class Commons:
    """Blocks whose flows never share a key with another's. `fingerprint` is that of `Ledger`."""

    def __init__(self, fingerprint: Callable[[Flow], int]) -> None:
        self._fingerprint = fingerprint
        self._blocks: dict[Owner, tuple[Flow, ...]] = {}
        self._sums: dict[Owner, int] = {}
        self._flows: dict[FlowKey, Flow] = {}
        self._total = 0

    @property
    def flows(self) -> Mapping[FlowKey, Flow]:
        """All flows of all blocks."""
        return MappingProxyType(self._flows)

    @property
    def owners(self) -> Iterable[Owner]:
        """The owners that have a block here."""
        return self._blocks.keys()

    def flows_of(self, owner: Owner) -> tuple[Flow, ...]:
        """The flows of one owner's block; none if it has no block."""
        return self._blocks.get(owner, ())

    def sum_without(self, owner: Owner) -> int:
        """The sum of the fingerprints of all flows but this owner's."""
        return self._total - self._sums.get(owner, 0)

    def update(self, blocks: Iterable[Block] = (), gone: Iterable[Owner] = ()) -> list[Change]:
        """Replace the blocks of their owners, drop those of the owners in `gone`.

        A key may pass from one owner to another within one update.
        """
        wanted = dict.fromkeys(gone, ()) | {new.owner: new.flows for new in blocks}
        changes = [
            _change(owner, before, flows)
            for owner, flows in wanted.items()
            if (before := self._blocks.get(owner, ())) != flows
        ]
        for change in changes:
            for flow in change.deletes:
                del self._flows[flow.key]
        for change in changes:
            self._flows.update((flow.key, flow) for flow in change.adds)
            self._remember(change.owner, wanted[change.owner])
        return changes

    def _remember(self, owner: Owner, flows: tuple[Flow, ...]) -> None:
        total = sum(map(self._fingerprint, flows))
        self._total += total - self._sums.pop(owner, 0)
        self._blocks.pop(owner, None)
        if flows:
            self._blocks[owner], self._sums[owner] = flows, total


def _change(owner: Owner, before: tuple[Flow, ...], after: tuple[Flow, ...]) -> Change:
    old = {flow.key: flow for flow in before}
    new = {flow.key: flow for flow in after}
    return Change(
        owner,
        tuple(flow for key, flow in new.items() if old.get(key) != flow),
        tuple(flow for key, flow in old.items() if key not in new),
    )
