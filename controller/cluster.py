"""What the API server says: nodes and pods, with the indexes that port names are looked up in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from ovsnet.model import Node, Pod, PodRef
from ovsnet.names import port_names


class Cluster:
    """The objects as they were last seen. Every change says which nodes it concerns."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._pods: dict[PodRef, Pod] = {}
        self._by_port_name: dict[str, tuple[PodRef, ...]] = {}

    @property
    def nodes(self) -> Mapping[str, Node]:
        """All nodes by name."""
        return MappingProxyType(self._nodes)

    @property
    def pods(self) -> Mapping[PodRef, Pod]:
        """All pods by namespace and name."""
        return MappingProxyType(self._pods)

    def pods_of_port(self, port: str) -> tuple[Pod, ...]:
        """The pods whose port may have this name, on whichever node. Hardly ever more than one."""
        return tuple(self._pods[ref] for ref in self._by_port_name.get(port, ()))

    def put_node(self, node: Node) -> bool:
        """Take in a node as it is now; returns whether anything that matters changed."""
        if self._nodes.get(node.name) == node:
            return False
        self._nodes[node.name] = node
        return True

    def drop_node(self, name: str) -> bool:
        """Forget a node; returns whether it was known."""
        return self._nodes.pop(name, None) is not None

    def replace_nodes(self, nodes: Iterable[Node]) -> frozenset[str]:
        """Make these all the nodes there are; returns the names of those that changed."""
        present = {node.name: node for node in nodes}
        changed = {name for name, node in present.items() if self._nodes.get(name) != node}
        changed |= self._nodes.keys() - present.keys()
        self._nodes = present
        return frozenset(changed)

    def put_pod(self, pod: Pod) -> frozenset[str]:
        """Take in a pod as it is now; returns the nodes whose pods changed."""
        before = self._pods.get(pod.ref)
        if before == pod:
            return frozenset()
        if before is None or before.uid != pod.uid:
            self._unindex(before)
            self._index(pod)
        self._pods[pod.ref] = pod
        return _nodes_of(before, pod)

    def drop_pod(self, ref: PodRef, uid: str = "") -> frozenset[str]:
        """Forget a pod; returns the node that it was on.

        With a uid, only that one: a late deletion says nothing about a later pod of that name.
        """
        before = self._pods.get(ref)
        if before is None or (uid and before.uid != uid):
            return frozenset()
        self._unindex(before)
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

    def _index(self, pod: Pod) -> None:
        for name in port_names(pod.namespace, pod.name, pod.uid):
            self._by_port_name[name] = (*self._by_port_name.get(name, ()), pod.ref)

    def _unindex(self, pod: Pod | None) -> None:
        if pod is None:
            return
        for name in port_names(pod.namespace, pod.name, pod.uid):
            others = tuple(ref for ref in self._by_port_name[name] if ref != pod.ref)
            if others:
                self._by_port_name[name] = others
            else:
                del self._by_port_name[name]


def _nodes_of(*pods: Pod | None) -> frozenset[str]:
    return frozenset(pod.node for pod in pods if pod is not None and pod.node)
