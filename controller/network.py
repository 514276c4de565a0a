"""The network as a whole: API objects and switch ports in, the change of every node's flows out.

An event recomputes only the blocks that it touches. Whatever the order of events, the ledgers end
up as if everything had been known from the start; tests hold it to that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import msgspec

from ovsnet.controller.belief import Beliefs, Port, examine
from ovsnet.controller.cluster import Cluster
from ovsnet.flows.channel import Channel, overlay
from ovsnet.flows.flow import Block, Flow, Owner
from ovsnet.flows.ledger import Delta, Ledger
from ovsnet.flows.node import node_block
from ovsnet.flows.peer import peer_block, peer_owner
from ovsnet.flows.pod import pod_block, pod_owner
from ovsnet.model import Node, Pod, PodRef
from ovsnet.names import port_names

Deltas = Mapping[str, Delta]
"""What changed, by node. A node that is not in it has nothing to do."""

_NOTHING_BELIEVED = Beliefs({}, ())


class NodeView(msgspec.Struct, frozen=True):
    """One node as the controller sees it at this moment."""

    node: Node
    ports: frozenset[Port]
    beliefs: Beliefs


class Network:
    """The desired flows of all nodes. `fingerprint` is that of `Ledger`."""

    def __init__(self, fingerprint: Callable[[Flow], int], channel: Channel = overlay) -> None:
        self._fingerprint = fingerprint
        self._channel = channel
        self._cluster = Cluster()
        self._views: dict[str, NodeView] = {}
        self._ledgers: dict[str, Ledger] = {}
        self._refusing: dict[str, frozenset[str]] = {}

    @property
    def nodes(self) -> Mapping[str, NodeView]:
        """Every node of the cluster, by name."""
        return MappingProxyType(self._views)

    @property
    def pods(self) -> Mapping[PodRef, Pod]:
        """Every pod of the cluster."""
        return self._cluster.pods

    def ledger(self, node: str) -> Ledger:
        """The desired flows of a node.

        Raises:
            KeyError: no such node.
        """
        return self._ledgers[node]

    def set_nodes(self, nodes: Iterable[Node]) -> Deltas:
        """These are all the nodes there are."""
        return self._nodes_changed(self._cluster.replace_nodes(nodes))

    def put_node(self, node: Node) -> Deltas:
        """A node as it is now."""
        return self._nodes_changed({node.name} if self._cluster.put_node(node) else ())

    def drop_node(self, name: str) -> Deltas:
        """A node is gone. Its ledger goes with it; other nodes forget the way to it."""
        return self._nodes_changed({name} if self._cluster.drop_node(name) else ())

    def set_pods(self, pods: Iterable[Pod]) -> Deltas:
        """These are all the pods there are."""
        names = self._cluster.replace_pods(pods)
        return self._pods_changed(names.union(*self._refusing.values()))

    def put_pod(self, pod: Pod) -> Deltas:
        """A pod as it is now."""
        refusing = self._refusing_ports_of(self._cluster.pods.get(pod.ref), pod)
        return self._pods_changed(self._cluster.put_pod(pod) | refusing)

    def drop_pod(self, ref: PodRef, uid: str = "") -> Deltas:
        """A pod is gone."""
        refusing = self._refusing_ports_of(self._cluster.pods.get(ref))
        return self._pods_changed(self._cluster.drop_pod(ref, uid) | refusing)

    def set_ports(self, node: str, ports: Iterable[Port]) -> Deltas:
        """These are all the ports of a node's switch. An unknown node has none."""
        view = self._views.get(node)
        if view is None or view.ports == (new := frozenset(ports)):
            return {}
        self._views[node] = msgspec.structs.replace(view, ports=new)
        return self._deltas({node: self._blocks_of_ports(node)})

    def _refusing_ports_of(self, *pods: Pod | None) -> frozenset[str]:
        """Nodes that refuse a port for reasons which these pods may change, wherever they run."""
        if not self._refusing:
            return frozenset()
        names = (
            name
            for pod in pods
            if pod is not None
            for name in port_names(pod.namespace, pod.name, pod.uid)
        )
        return frozenset().union(*(self._refusing.get(name, ()) for name in names))

    def _pods_changed(self, names: Iterable[str]) -> Deltas:
        return self._deltas({n: self._blocks_of_ports(n) for n in names if n in self._views})

    def _nodes_changed(self, names: Iterable[str]) -> Deltas:
        changed = frozenset(names)
        present = self._cluster.nodes
        for name in changed - present.keys():
            view = self._views.pop(name, None)
            if view is not None:
                self._note_refusals(name, view.beliefs, _NOTHING_BELIEVED)
                del self._ledgers[name]
        work: dict[str, tuple[list[Block], list[Owner]]] = {}
        for name in present:
            if name in changed:
                work[name] = self._blocks_of_node(name)
            else:
                work[name] = self._blocks_of_peers(name, changed)
        return self._deltas(work)

    def _blocks_of_node(self, name: str) -> tuple[list[Block], list[Owner]]:
        """All blocks of a node that is new or has changed itself."""
        node = self._cluster.nodes[name]
        before = self._views.get(name)
        if before is None:
            self._views[name] = NodeView(node, frozenset(), _NOTHING_BELIEVED)
            self._ledgers[name] = Ledger(self._fingerprint)
        else:
            self._views[name] = msgspec.structs.replace(before, node=node)
        blocks, gone = self._blocks_of_ports(name)
        others, strangers = self._blocks_of_peers(name, self._cluster.nodes.keys())
        return [node_block(node), *blocks, *others], gone + strangers

    def _blocks_of_peers(
        self, name: str, changed: Iterable[str]
    ) -> tuple[list[Block], list[Owner]]:
        this = self._cluster.nodes[name]
        blocks: list[Block] = []
        gone: list[Owner] = []
        for other in changed:
            that = self._cluster.nodes.get(other)
            if that is None:
                gone.append(peer_owner(other))
            elif that is not this:
                blocks.append(peer_block(this, that, self._channel))
        return blocks, gone

    def _blocks_of_ports(self, name: str) -> tuple[list[Block], list[Owner]]:
        """The blocks of those pods of a node whose endpoints are not what they were."""
        view = self._views[name]
        before = view.beliefs.endpoints
        beliefs = examine(view.node, view.ports, self._cluster.pods_of_port)
        self._views[name] = msgspec.structs.replace(view, beliefs=beliefs)
        self._note_refusals(name, view.beliefs, beliefs)
        now = beliefs.endpoints
        blocks = [pod_block(new) for ref, new in now.items() if before.get(ref) != new]
        gone = [pod_owner(ref) for ref in before.keys() - now.keys()]
        return blocks, gone

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

    def _deltas(self, work: Mapping[str, tuple[list[Block], list[Owner]]]) -> Deltas:
        deltas = {n: self._ledgers[n].update(*change) for n, change in work.items()}
        return {name: delta for name, delta in deltas.items() if delta}
