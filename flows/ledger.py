"""The ledger of one node: which flows its blocks add up to, and what a change of blocks changes.

Several owners may want a flow of the same key: conjunctions of several rules on one address do.
The ledger merges them into the one flow that the switch can hold. However the blocks came in,
the result is that of putting them all in at once; tests hold it to that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType

import msgspec

from ovsnet.flows.flow import Block, Flow, FlowKey, Owner, add_up, is_conjunctive

_DIGEST_BITS = (1 << 64) - 1


class Delta(msgspec.Struct, frozen=True):
    """What a switch must be sent, and the state that it then has.

    `adds` includes flows whose actions or cookie change. `digest` is that of all desired flows
    afterwards, never zero; `revision` counts the changes of this node's desired flows.
    """

    adds: tuple[Flow, ...]
    deletes: tuple[Flow, ...]
    digest: int
    revision: int

    def __bool__(self) -> bool:
        return bool(self.adds or self.deletes)


class Conflict(msgspec.Struct, frozen=True, order=True):
    """Two owners want different actions for packets of one match. The first one has its way."""

    winner: Owner
    loser: Owner


class Ledger:
    """The desired flows of one node.

    `fingerprint` maps a flow to 64 bits that depend on all of it and on nothing else; the digest
    is their sum, so that one flow's change costs one flow's work.

    Nearly every key is wanted by one owner alone. For those the ledger keeps the flow and nothing
    more: a controller of a thousand nodes has millions of them.
    """

    def __init__(self, fingerprint: Callable[[Flow], int]) -> None:
        self._fingerprint = fingerprint
        self._blocks: dict[Owner, tuple[Flow, ...]] = {}
        self._owner_of_cookie: dict[int, Owner] = {}
        self._flows: dict[FlowKey, Flow] = {}
        self._merged: dict[FlowKey, dict[Owner, Flow]] = {}
        self._sum = 0
        self.revision = 0

    @property
    def flows(self) -> Mapping[FlowKey, Flow]:
        """All desired flows by their keys; a view that follows the ledger."""
        return MappingProxyType(self._flows)

    @property
    def digest(self) -> int:
        """64 bits over all desired flows, never zero."""
        return self._sum or 1

    @property
    def owners(self) -> Iterable[Owner]:
        """The owners that have a block here."""
        return self._blocks.keys()

    def conflicts(self) -> tuple[Conflict, ...]:
        """Owners that contradict each other, in order."""
        found = {c for wanted in self._merged.values() for c in _conflicts(wanted)}
        return tuple(sorted(found))

    def update(self, blocks: Iterable[Block] = (), gone: Iterable[Owner] = ()) -> Delta:
        """Replace the blocks of their owners, drop those of the owners in `gone`.

        An unknown owner in `gone` is passed over. The delta is empty, and the revision stays,
        where nothing changes in sum.
        """
        before: dict[FlowKey, Flow | None] = {}
        for owner in gone:
            self._withdraw(owner, before)
        for new in blocks:
            if self._blocks.get(new.owner) != new.flows:
                self._withdraw(new.owner, before)
                self._enter(new, before)
        return self._settle(before)

    def _withdraw(self, owner: Owner, before: dict[FlowKey, Flow | None]) -> None:
        for flow in self._blocks.pop(owner, ()):
            key = flow.key
            before.setdefault(key, self._flows[key])
            wanted = self._merged.get(key)
            if wanted is None:
                del self._flows[key]
            else:
                del wanted[owner]
                self._rewrite(key, wanted)
        self._owner_of_cookie.pop(owner.cookie, None)

    def _enter(self, new: Block, before: dict[FlowKey, Flow | None]) -> None:
        self._blocks[new.owner] = new.flows
        self._owner_of_cookie[new.owner.cookie] = new.owner
        for flow in new.flows:
            key = flow.key
            present = self._flows.get(key)
            before.setdefault(key, present)
            if present is None:
                self._flows[key] = flow
                continue
            wanted = self._merged.get(key)
            if wanted is None:
                wanted = {self._owner_of_cookie[present.cookie]: present}
            wanted[new.owner] = flow
            self._rewrite(key, wanted)

    def _rewrite(self, key: FlowKey, wanted: dict[Owner, Flow]) -> None:
        if len(wanted) > 1:
            self._flows[key] = add_up([wanted[owner] for owner in sorted(wanted)])
            self._merged[key] = wanted
        else:
            (self._flows[key],) = wanted.values()
            del self._merged[key]

    def _settle(self, before: Mapping[FlowKey, Flow | None]) -> Delta:
        adds: list[Flow] = []
        deletes: list[Flow] = []
        for key, old in before.items():
            new = self._flows.get(key)
            if old == new:
                continue
            if old is not None:
                self._sum = self._sum - self._fingerprint(old) & _DIGEST_BITS
            if new is not None:
                self._sum = self._sum + self._fingerprint(new) & _DIGEST_BITS
                adds.append(new)
            elif old is not None:
                deletes.append(old)
        if adds or deletes:
            self.revision += 1
        return Delta(tuple(adds), tuple(deletes), self.digest, self.revision)


def _conflicts(wanted: Mapping[Owner, Flow]) -> Iterator[Conflict]:
    winner, *others = sorted(wanted)
    first = wanted[winner]
    for owner in others:
        flow = wanted[owner]
        additive = is_conjunctive(first) and is_conjunctive(flow)
        if flow.actions != first.actions and not additive:
            yield Conflict(winner, owner)
