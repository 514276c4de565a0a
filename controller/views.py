"""What is known of every node: its object, its switch's ports, and which of them are believed to be
which pod's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

import msgspec

from ovsnet.controller.belief import (
    Beliefs,
    Port,
    Reason,
    Refusal,
    examine,
    without_newcomers,
)
from ovsnet.controller.cluster import Cluster
from ovsnet.controller.policy.selection import Member
from ovsnet.model import Node, Pod, PodRef
from ovsnet.names import port_names

_NOTHING_BELIEVED = Beliefs({}, ())


class NodeView(msgspec.Struct, frozen=True):
    """One node as the controller sees it at this moment.

    `seen` means that its switch has told its ports at least once. `port_names` are their names.
    """

    node: Node
    ports: frozenset[Port]
    beliefs: Beliefs
    seen: bool = False
    port_names: frozenset[str] = frozenset()


class Views:
    """The views of all nodes, by name. `cluster` says which pods there are."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._views: dict[str, NodeView] = {}
        self._refusing: dict[str, frozenset[str]] = {}
        self._closed = False

    @property
    def all(self) -> Mapping[str, NodeView]:
        """Every node, by name."""
        return MappingProxyType(self._views)

    @property
    def refusing(self) -> frozenset[str]:
        """The nodes that refuse a port."""
        return frozenset().union(*self._refusing.values())

    def refusals(self) -> Iterator[tuple[str, Refusal]]:
        """Every refused port, with its node."""
        for node in sorted(self.refusing):
            yield from ((node, refusal) for refusal in self._views[node].beliefs.refusals)

    def begin(self, node: Node) -> None:
        """A node is new. Nothing is known of its ports."""
        self._views[node.name] = NodeView(node, frozenset(), _NOTHING_BELIEVED)

    def change(self, node: Node) -> None:
        """A node as it is now; what is believed of its ports is still to be examined."""
        self._views[node.name] = msgspec.structs.replace(self._views[node.name], node=node)

    def forget(self, name: str) -> bool:
        """A node is gone. Returns whether there was one."""
        view = self._views.pop(name, None)
        if view is None:
            return False
        self._note_refusals(name, view.beliefs, _NOTHING_BELIEVED)
        return True

    def see(self, name: str, ports: Iterable[Port]) -> bool:
        """These are all the ports of a node's switch; what is believed of them is still to be
        examined. Returns whether that is news. An unknown node has none.
        """
        view = self._views.get(name)
        new = frozenset(ports)
        if view is None or (view.seen and view.ports == new):
            return False
        names = frozenset(port.name for port in new)
        self._views[name] = msgspec.structs.replace(view, ports=new, seen=True, port_names=names)
        return True

    def close_to_newcomers(self, closed: bool) -> frozenset[str]:
        """Believe from now on no pod's port that is not believed already, or again all that there
        are reasons to. Returns the nodes that have such ports waiting, and are to be examined.
        """
        if self._closed == closed:
            return frozenset()
        self._closed = closed
        if closed:
            return frozenset()
        return frozenset(n for n, refusal in self.refusals() if refusal.reason is Reason.NO_NEWS)

    def concerned(self, nodes: Iterable[str], *pods: Pod | None) -> frozenset[str]:
        """Nodes whose beliefs these pods may change: with a port that is named as theirs. They are
        some of `nodes`, and all that refuse such a port.
        """
        names = {
            name
            for pod in pods
            if pod is not None
            for name in port_names(pod.namespace, pod.name, pod.uid_on_node)
        }
        here = frozenset(
            name
            for name in self._views.keys() & set(nodes)
            if not names.isdisjoint(self._views[name].port_names)
        )
        return here.union(*(self._refusing.get(name, ()) for name in names))

    def examine(self, name: str) -> tuple[list[PodRef], list[PodRef]]:
        """Believe of a node's ports what there are reasons to.

        Returns the pods whose endpoints are not what they were, and those that have none any more.
        """
        view = self._views[name]
        before = view.beliefs.endpoints
        beliefs = examine(view.node, view.ports, self._cluster.pods_of_port)
        if self._closed:
            beliefs = without_newcomers(beliefs, before, view.ports)
        self._views[name] = msgspec.structs.replace(view, beliefs=beliefs)
        self._note_refusals(name, view.beliefs, beliefs)
        now = beliefs.endpoints
        new = [ref for ref, endpoint in now.items() if before.get(ref) != endpoint]
        return new, [*(before.keys() - now.keys())]

    def member(self, ref: PodRef) -> Member | None:
        """A pod as policies see it: with the addresses of its port if its node's switch is known,
        until then with those that kubelet reported, as far as they are of its node's ranges.
        """
        pod = self._cluster.pods.get(ref)
        if pod is None or pod.host_network or pod.terminated:
            return None
        view = self._views.get(pod.node)
        if view is None:
            return None
        if view.seen:
            endpoint = view.beliefs.endpoints.get(ref)
            if endpoint is None:
                return None
            return Member(ref, pod.labels, endpoint.addresses, pod.node, pod.ports)
        ranges = view.node.pod_cidrs
        addresses = tuple(a for a in pod.addresses if any(a in r for r in ranges))
        return Member(ref, pod.labels, addresses, "", pod.ports) if addresses else None

    def _note_refusals(self, node: str, before: Beliefs, now: Beliefs) -> None:
        for refusal in before.refusals:
            port = refusal.port.name
            others = self._refusing.get(port, frozenset()) - {node}
            if others:
                self._refusing[port] = others
            else:
                self._refusing.pop(port, None)
        for refusal in now.refusals:
            port = refusal.port.name
            self._refusing[port] = self._refusing.get(port, frozenset()) | {node}
