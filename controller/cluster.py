"""What the API server says: nodes and pods, with the indexes that port names are looked up in."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping, Set
from types import MappingProxyType

import msgspec

from ovsnet.model import IPNetwork, Namespace, Node, Pod, PodRef
from ovsnet.names import port_names


class Overlap(msgspec.Struct, frozen=True, order=True):
    """A node's pod range that is not believed, because an older node's overlaps it."""

    node: str
    range: str
    holder: str


class Cluster:
    """The objects as they were last seen. Every change says which nodes it concerns."""

    def __init__(self) -> None:
        self._stated: dict[str, Node] = {}
        self._nodes: dict[str, Node] = {}
        self.overlaps: tuple[Overlap, ...] = ()
        self._pods: dict[PodRef, Pod] = {}
        self._namespaces: dict[str, Namespace] = {}
        self._by_port_name: dict[str, tuple[PodRef, ...]] = {}
        self._by_node: dict[str, set[PodRef]] = {}

    @property
    def nodes(self) -> Mapping[str, Node]:
        """All nodes by name, without ranges that overlap an older node's."""
        return MappingProxyType(self._nodes)

    @property
    def pods(self) -> Mapping[PodRef, Pod]:
        """All pods by namespace and name."""
        return MappingProxyType(self._pods)

    def pods_of_port(self, port: str) -> tuple[Pod, ...]:
        """The pods whose port may have this name, on whichever node. Hardly ever more than one."""
        return tuple(self._pods[ref] for ref in self._by_port_name.get(port, ()))

    def pods_on(self, node: str) -> Set[PodRef]:
        """The pods that are scheduled to a node."""
        return self._by_node.get(node, frozenset())

    @property
    def namespaces(self) -> Mapping[str, Namespace]:
        """All namespaces by name."""
        return MappingProxyType(self._namespaces)

    def put_namespace(self, namespace: Namespace) -> None:
        """Take in a namespace as it is now."""
        self._namespaces[namespace.name] = namespace

    def drop_namespace(self, name: str) -> None:
        """Forget a namespace."""
        self._namespaces.pop(name, None)

    def replace_namespaces(self, namespaces: Iterable[Namespace]) -> None:
        """Make these all the namespaces there are."""
        self._namespaces = {namespace.name: namespace for namespace in namespaces}

    def put_node(self, node: Node) -> frozenset[str]:
        """Take in a node as it is now; returns the names of the nodes that changed."""
        if self._stated.get(node.name) == node:
            return frozenset()
        return self.replace_nodes([*(self._stated | {node.name: node}).values()])

    def drop_node(self, name: str) -> frozenset[str]:
        """Forget a node; returns the names of the nodes that changed."""
        if name not in self._stated:
            return frozenset()
        return self.replace_nodes([n for n in self._stated.values() if n.name != name])

    def replace_nodes(self, nodes: Iterable[Node]) -> frozenset[str]:
        """Make these all the nodes there are; returns the names of those that changed."""
        self._stated = {node.name: node for node in nodes}
        before = self._nodes
        self._nodes, self.overlaps = disjoint(self._stated.values())
        changed = {name for name, node in self._nodes.items() if before.get(name) != node}
        return frozenset(changed | before.keys() - self._nodes.keys())

    def put_pod(self, pod: Pod) -> frozenset[str]:
        """Take in a pod as it is now; returns the nodes whose pods changed."""
        ref = pod.ref
        before = self._pods.get(ref)
        if before == pod:
            return frozenset()
        if before is None or before.uid_on_node != pod.uid_on_node:
            self._unindex(before)
            self._index(pod)
        if before is not None and before.node != pod.node:
            self._leave_node(before)
        if pod.node:
            self._by_node.setdefault(pod.node, set()).add(ref)
        self._pods[ref] = pod
        return _nodes_of(before, pod)

    def drop_pod(self, ref: PodRef, uid: str = "") -> frozenset[str]:
        """Forget a pod; returns the node that it was on.

        With a uid, only that one: a late deletion says nothing about a later pod of that name.
        """
        before = self._pods.get(ref)
        if before is None or (uid and before.uid != uid):
            return frozenset()
        self._unindex(before)
        self._leave_node(before)
        del self._pods[ref]
        return _nodes_of(before)

    def replace_pods(self, pods: Iterable[Pod]) -> frozenset[str]:
        """Make these all the pods there are; returns the nodes whose pods changed."""
        present = {pod.ref: pod for pod in pods}
        changed: set[str] = set()
        for ref in self._pods.keys() - present.keys():
            changed |= self.drop_pod(ref)
        for pod in present.values():
            changed |= self.put_pod(pod)
        return frozenset(changed)

    def _leave_node(self, pod: Pod) -> None:
        here = self._by_node.get(pod.node)
        if here is not None:
            here.discard(pod.ref)
            if not here:
                del self._by_node[pod.node]

    def _index(self, pod: Pod) -> None:
        alone = (pod.ref,)
        for name in port_names(pod.namespace, pod.name, pod.uid_on_node):
            others = self._by_port_name.get(name)
            self._by_port_name[name] = alone if others is None else others + alone

    def _unindex(self, pod: Pod | None) -> None:
        if pod is None:
            return
        for name in port_names(pod.namespace, pod.name, pod.uid_on_node):
            others = tuple(ref for ref in self._by_port_name[name] if ref != pod.ref)
            if others:
                self._by_port_name[name] = others
            else:
                del self._by_port_name[name]


def disjoint(nodes: Iterable[Node]) -> tuple[dict[str, Node], tuple[Overlap, ...]]:
    """The nodes with such ranges only as overlap no older node's, and what was left out.

    With one range on two nodes, packets for either's pods would go astray. Age is the time of
    creation, then the name.
    """
    believed: dict[str, Node] = {}
    overlaps: list[Overlap] = []
    taken: list[tuple[int, int, int, str]] = []
    for node in sorted(nodes, key=lambda node: (node.created, node.name)):
        kept: list[IPNetwork] = []
        for network in node.pod_cidrs:
            span = (network.version, int(network.network_address), int(network.broadcast_address))
            place = bisect.bisect(taken, (*span, ""))
            holder = _holder(taken[max(0, place - 1) : place + 1], span)
            if holder is None:
                taken.insert(place, (*span, node.name))
                kept.append(network)
            else:
                overlaps.append(Overlap(node.name, str(network), holder))
        whole = len(kept) == len(node.pod_cidrs)
        believed[node.name] = (
            node if whole else msgspec.structs.replace(node, pod_cidrs=tuple(kept))
        )
    return believed, tuple(sorted(overlaps))


def _holder(
    neighbours: Iterable[tuple[int, int, int, str]], span: tuple[int, int, int]
) -> str | None:
    """Whose of these ranges overlaps the span, if any: only the nearest ones can."""
    version, first, last = span
    return next(
        (
            name
            for v, start, end, name in neighbours
            if v == version and start <= last and first <= end
        ),
        None,
    )


def _nodes_of(*pods: Pod | None) -> frozenset[str]:
    return frozenset(pod.node for pod in pods if pod is not None and pod.node)
