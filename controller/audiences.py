"""The flows about other nodes, kept once for all nodes that reach others alike: one audience."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import NamedTuple

from ovsnet.flows.channel import Channel
from ovsnet.flows.commons import Change, Commons
from ovsnet.flows.flow import Flow
from ovsnet.flows.peer import peer_block, peer_owner
from ovsnet.model import Node


class _Shared(NamedTuple):
    """What nodes of one audience share; `like` is one of them, now or formerly."""

    like: Node
    commons: Commons


class Audiences:
    """The commons of every audience that there has been. `fingerprint` is that of `Ledger`."""

    def __init__(self, fingerprint: Callable[[Flow], int], channel: Channel) -> None:
        self._fingerprint = fingerprint
        self._channel = channel
        self._shared: dict[Hashable, _Shared] = {}

    @property
    def all_commons(self) -> Iterator[Commons]:
        """The commons of all audiences."""
        return (shared.commons for shared in self._shared.values())

    def of(self, node: Node) -> Hashable:
        """The audience that a node is in."""
        return self._channel.audience(node)

    def commons(self, this: Node, nodes: Mapping[str, Node]) -> Commons:
        """The flows about other nodes that `this` shares; `nodes` are all there are."""
        audience = self.of(this)
        shared = self._shared.get(audience)
        if shared is None:
            shared = self._shared[audience] = _Shared(this, Commons(self._fingerprint))
            self._change(shared, nodes, nodes)
        return shared.commons

    def change(
        self, names: frozenset[str], nodes: Mapping[str, Node]
    ) -> Mapping[Hashable, list[Change]]:
        """The nodes of these names have changed; `nodes` are all there are.

        Returns what that changes, by audience.
        """
        return {
            audience: self._change(shared, names, nodes)
            for audience, shared in self._shared.items()
        }

    def _change(
        self, shared: _Shared, changed: Iterable[str], nodes: Mapping[str, Node]
    ) -> list[Change]:
        names = frozenset(changed)
        return shared.commons.update(
            [peer_block(shared.like, nodes[n], self._channel) for n in names & nodes.keys()],
            [peer_owner(name) for name in names - nodes.keys()],
        )
