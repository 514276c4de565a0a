"""The ledger of one node: which flows its blocks add up to, and what a change of blocks changes.

It stands on what nodes have in common, of which it leaves out the block about the node itself.

Several owners may want a flow of the same key: conjunctions of several rules on one address do.
The ledger merges them into the one flow that the switch can hold. However blocks and flows came in,
the result is that of putting them all in at once; tests hold it to that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain

import msgspec

from ovsnet.flows.commons import Change, Commons
from ovsnet.flows.flow import Block, Flow, FlowKey, Owner, add_up, is_conjunctive, spread
from ovsnet.flows.registers import NEVER_WRITTEN

_DIGEST_BITS = (1 << 64) - 1
MOST_CLAUSES = 2048
"""Clauses of conjunctions that one flow carries at most: the message that brings it must stay below
64 KiB, and a clause has 16 octets.
"""


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

    def then(self, later: Delta) -> Delta:
        """This change and a later one that is about other keys, as one."""
        return Delta(
            self.adds + later.adds, self.deletes + later.deletes, later.digest, later.revision
        )


class Conflict(msgspec.Struct, frozen=True, order=True):
    """Two owners want different actions for packets of one match. The first one has its way."""

    winner: Owner
    loser: Owner


class Ledger:
    """The desired flows of one node: its own, and those of all `commons` that are not about itself
    (that is, owned by `itself`). No key may be in two of them, or in one and its own; but a flow of
    its own may have the key of one about itself.

    `fingerprint` maps a flow to 64 bits that depend on all of it and on nothing else; the digest
    is their sum, so that one flow's change costs one flow's work.

    Nearly every key is wanted by one owner alone. For those the ledger keeps the flow and nothing
    more: a controller of a thousand nodes has millions of them.
    """

    def __init__(
        self, fingerprint: Callable[[Flow], int], commons: tuple[Commons, ...], itself: Owner
    ) -> None:
        self._fingerprint = fingerprint
        self._commons = commons
        self._itself = itself
        self._blocks: dict[Owner, tuple[Flow, ...]] = {}
        self._owner_of_cookie: dict[int, Owner] = {}
        self._flows: dict[FlowKey, Flow] = {}
        self._merged: dict[FlowKey, dict[int, Flow]] = {}
        self._overflow: dict[FlowKey, tuple[FlowKey, ...]] = {}
        self._sum = 0
        self.revision = 0

    @property
    def flows(self) -> Mapping[FlowKey, Flow]:
        """All desired flows by their keys; a view, to be taken anew after a change."""
        return _Together(self._flows, self._commons, self._itself)

    @property
    def digest(self) -> int:
        """64 bits over all desired flows, never zero."""
        shared = sum(commons.sum_without(self._itself) for commons in self._commons)
        return (self._sum + shared & _DIGEST_BITS) or 1

    @property
    def own_owners(self) -> Iterable[Owner]:
        """The owners that have a block of this node's own."""
        return self._blocks.keys()

    @property
    def owners(self) -> Iterable[Owner]:
        """The owners that have a block here."""
        shared = chain.from_iterable(commons.owners for commons in self._commons)
        return (*self._blocks, *(owner for owner in shared if owner != self._itself))

    def conflicts(self) -> tuple[Conflict, ...]:
        """Owners that contradict each other, in order."""
        found = {c for wanted in self._merged.values() for c in self._conflicts(wanted)}
        return tuple(sorted(found))

    def update(
        self,
        blocks: Iterable[Block] = (),
        gone: Iterable[Owner] = (),
        leaving: Iterable[Flow] = (),
        entering: Iterable[Flow] = (),
    ) -> Delta:
        """Replace the blocks of their owners, drop those of the owners in `gone`; take out and put
        in single flows of owners that have too many of them for a block.

        An unknown owner in `gone` is passed over. A flow in `leaving` must be there, one in
        `entering` must not, unless it is in `leaving` too; owners that have blocks have no single
        flows. The delta is empty, and the revision stays, where nothing changes in sum.
        """
        before: dict[FlowKey, Flow | None] = {}
        for owner in gone:
            self._withdraw(owner, before)
        for flow in leaving:
            self._take_out(flow, before)
        for new in blocks:
            if self._blocks.get(new.owner) != new.flows:
                self._withdraw(new.owner, before)
                self._enter(new, before)
        for flow in entering:
            self._put_in(flow, before)
        return self._settle(before)

    def follow(self, changes: Iterable[Change]) -> Delta:
        """What changes of the commons, which have happened already, mean for this node."""
        others = [change for change in changes if change.owner != self._itself]
        adds = {flow.key: flow for change in others for flow in change.adds}
        deletes = (flow for change in others for flow in change.deletes)
        return self._delta(tuple(adds.values()), tuple(f for f in deletes if f.key not in adds))

    def move(self, commons: tuple[Commons, ...]) -> None:
        """Stand on these commons from now on."""
        self._commons = commons

    def since(self, before: Mapping[FlowKey, Flow]) -> Delta:
        """What has changed since the flows were those of `before`, over several steps."""
        now = self.flows
        adds = tuple(flow for key, flow in now.items() if before.get(key) != flow)
        deletes = tuple(flow for key, flow in before.items() if key not in now)
        return self._delta(adds, deletes)

    def _withdraw(self, owner: Owner, before: dict[FlowKey, Flow | None]) -> None:
        for flow in self._blocks.pop(owner, ()):
            self._take_out(flow, before)
        self._owner_of_cookie.pop(owner.cookie, None)

    def _enter(self, new: Block, before: dict[FlowKey, Flow | None]) -> None:
        self._blocks[new.owner] = new.flows
        self._owner_of_cookie[new.owner.cookie] = new.owner
        for flow in new.flows:
            self._put_in(flow, before)

    def _take_out(self, flow: Flow, before: dict[FlowKey, Flow | None]) -> None:
        key = flow.key
        wanted = self._merged.get(key)
        if wanted is None:
            before.setdefault(key, self._flows.pop(key))
        else:
            del wanted[flow.cookie]
            self._rewrite(key, wanted, before)

    def _put_in(self, flow: Flow, before: dict[FlowKey, Flow | None]) -> None:
        key = flow.key
        present = self._flows.get(key)
        if present is None:
            before.setdefault(key, None)
            self._flows[key] = flow
            return
        wanted = self._merged.get(key)
        if wanted is None:
            wanted = {present.cookie: present}
        wanted[flow.cookie] = flow
        self._rewrite(key, wanted, before)

    def _rewrite(
        self, key: FlowKey, wanted: dict[int, Flow], before: dict[FlowKey, Flow | None]
    ) -> None:
        """Bring the flows of a key to what several owners want of it, or only one does now."""
        if len(wanted) > 1:
            self._merged[key] = wanted
            together = add_up(sorted(wanted.values(), key=self._standing))
            found = spread(together, MOST_CLAUSES, NEVER_WRITTEN.has_none_of)
        else:
            self._merged.pop(key, None)
            found = tuple(wanted.values())
        for old in self._overflow.pop(key, ()):
            before.setdefault(old, self._flows.pop(old))
        before.setdefault(key, self._flows.get(key))
        self._flows[key] = found[0]
        for flow in found[1:]:
            before.setdefault(flow.key, None)
            self._flows[flow.key] = flow
        if len(found) > 1:
            self._overflow[key] = tuple(flow.key for flow in found[1:])

    def _standing(self, flow: Flow) -> tuple[bool, Owner | int]:
        """Owners of blocks have their way in their own order, before those of single flows."""
        owner = self._owner_of_cookie.get(flow.cookie)
        return (True, flow.cookie) if owner is None else (False, owner)

    def _conflicts(self, wanted: Mapping[int, Flow]) -> Iterator[Conflict]:
        known = [
            (self._owner_of_cookie[flow.cookie], flow)
            for flow in sorted(wanted.values(), key=self._standing)
            if flow.cookie in self._owner_of_cookie
        ]
        if not known:
            return
        winner, first = known[0]
        for owner, flow in known[1:]:
            additive = is_conjunctive(first) and is_conjunctive(flow)
            if flow.actions != first.actions and not additive:
                yield Conflict(winner, owner)

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
        return self._delta(tuple(adds), tuple(deletes))

    def _delta(self, adds: tuple[Flow, ...], deletes: tuple[Flow, ...]) -> Delta:
        if adds or deletes:
            self.revision += 1
        return Delta(adds, deletes, self.digest, self.revision)


class _Together(Mapping[FlowKey, Flow]):
    """A node's own flows and the commons without the block about itself, as one mapping."""

    def __init__(
        self, own: Mapping[FlowKey, Flow], commons: tuple[Commons, ...], itself: Owner
    ) -> None:
        self._own = own
        self._shared = tuple(each.flows for each in commons)
        about_itself = (flow.key for each in commons for flow in each.flows_of(itself))
        self._left_out = frozenset(about_itself)

    def __getitem__(self, key: FlowKey) -> Flow:
        flow = self._own.get(key)
        if flow is not None:
            return flow
        if key not in self._left_out:
            for flows in self._shared:
                flow = flows.get(key)
                if flow is not None:
                    return flow
        raise KeyError(key)

    def __iter__(self) -> Iterator[FlowKey]:
        shared = chain.from_iterable(self._shared)
        return chain(self._own, (key for key in shared if key not in self._left_out))

    def __len__(self) -> int:
        return len(self._own) + sum(map(len, self._shared)) - len(self._left_out)
