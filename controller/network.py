"""The network as a whole: API objects and switch ports in, the change of every node's flows out.

An event recomputes only the blocks that it touches. Whatever the order of events, the ledgers end
up as if everything had been known from the start; tests hold it to that.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from ovsnet.controller.belief import Beliefs, Port, Refusal, examine
from ovsnet.controller.cluster import Cluster, Overlap
from ovsnet.flows.channel import Channel, Overlay
from ovsnet.flows.commons import Change, Commons
from ovsnet.flows.flow import Block, Flow, FlowKey, Owner
from ovsnet.flows.ledger import Delta, Ledger
from ovsnet.flows.node import node_block
from ovsnet.flows.peer import peer_block, peer_owner
from ovsnet.flows.pod import pod_block, pod_owner
from ovsnet.model import Namespace, Node, Pod, PodRef
from ovsnet.names import port_names

Deltas = Mapping[str, Delta]
"""What changed, by node. A node that is not in it has nothing to do, or is new: a switch that
connects is compared with its whole ledger.
"""

_NOTHING_BELIEVED = Beliefs({}, ())


class NodeView(msgspec.Struct, frozen=True):
    """One node as the controller sees it at this moment."""

    node: Node
    ports: frozenset[Port]
    beliefs: Beliefs


class _Shared(NamedTuple):
    """What nodes of one audience share; `like` is one of them, now or formerly."""

    like: Node
    commons: Commons


class Network:
    """The desired flows of all nodes. `fingerprint` is that of `Ledger`."""

    def __init__(self, fingerprint: Callable[[Flow], int], channel: Channel | None = None) -> None:
        self._fingerprint = fingerprint
        self._channel = channel or Overlay()
        self._cluster = Cluster()
        self._views: dict[str, NodeView] = {}
        self._ledgers: dict[str, Ledger] = {}
        self._refusing: dict[str, frozenset[str]] = {}
        self._commons: dict[Hashable, _Shared] = {}

    @property
    def nodes(self) -> Mapping[str, NodeView]:
        """Every node of the cluster, by name."""
        return MappingProxyType(self._views)

    @property
    def overlaps(self) -> tuple[Overlap, ...]:
        """Pod ranges of nodes that are not believed."""
        return self._cluster.overlaps

    @property
    def pods(self) -> Mapping[PodRef, Pod]:
        """Every pod of the cluster."""
        return self._cluster.pods

    @property
    def namespaces(self) -> Mapping[str, Namespace]:
        """Every namespace of the cluster."""
        return self._cluster.namespaces

    def refusals(self) -> Iterator[tuple[str, Refusal]]:
        """Every refused port, with its node."""
        for node in sorted(frozenset().union(*self._refusing.values())):
            yield from ((node, refusal) for refusal in self._views[node].beliefs.refusals)

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
        return self._nodes_changed(self._cluster.put_node(node))

    def drop_node(self, name: str) -> Deltas:
        """A node is gone. Its ledger goes with it; other nodes forget the way to it."""
        return self._nodes_changed(self._cluster.drop_node(name))

    def set_namespaces(self, namespaces: Iterable[Namespace]) -> Deltas:
        """These are all the namespaces there are."""
        self._cluster.replace_namespaces(namespaces)
        return {}

    def put_namespace(self, namespace: Namespace) -> Deltas:
        """A namespace as it is now."""
        self._cluster.put_namespace(namespace)
        return {}

    def drop_namespace(self, name: str) -> Deltas:
        """A namespace is gone."""
        self._cluster.drop_namespace(name)
        return {}

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
            self._forget(name)
        before = {n: dict(self._ledgers[n].flows) for n in changed & self._ledgers.keys()}
        changes = {
            audience: self._change_shared(shared, changed)
            for audience, shared in self._commons.items()
        }
        deltas: dict[str, Delta] = {}
        for name, node in present.items():
            if name not in self._ledgers:
                self._begin(node)
            elif name in changed:
                deltas[name] = self._change_node(node, before[name])
            else:
                deltas[name] = self._ledgers[name].follow(changes[self._channel.audience(node)])
        return {name: delta for name, delta in deltas.items() if delta}

    def _forget(self, name: str) -> None:
        view = self._views.pop(name, None)
        if view is not None:
            self._note_refusals(name, view.beliefs, _NOTHING_BELIEVED)
            del self._ledgers[name]

    def _begin(self, node: Node) -> None:
        self._views[node.name] = NodeView(node, frozenset(), _NOTHING_BELIEVED)
        commons = self._commons_for(node)
        ledger = Ledger(self._fingerprint, commons, peer_owner(node.name))
        ledger.update([node_block(node)])
        self._ledgers[node.name] = ledger

    def _change_node(self, node: Node, before: Mapping[FlowKey, Flow]) -> Delta:
        ledger = self._ledgers[node.name]
        self._views[node.name] = msgspec.structs.replace(self._views[node.name], node=node)
        ledger.move(self._commons_for(node))
        blocks, gone = self._blocks_of_ports(node.name)
        ledger.update([node_block(node), *blocks], gone)
        return ledger.since(before)

    def _commons_for(self, this: Node) -> Commons:
        """The flows about other nodes that `this` shares with all nodes of its audience."""
        audience = self._channel.audience(this)
        shared = self._commons.get(audience)
        if shared is None:
            shared = self._commons[audience] = _Shared(this, Commons(self._fingerprint))
            self._change_shared(shared, self._cluster.nodes)
        return shared.commons

    def _change_shared(self, shared: _Shared, changed: Iterable[str]) -> list[Change]:
        present = self._cluster.nodes
        names = frozenset(changed)
        return shared.commons.update(
            [peer_block(shared.like, present[n], self._channel) for n in names & present.keys()],
            [peer_owner(name) for name in names - present.keys()],
        )

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
