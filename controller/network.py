"""The network as a whole: API objects and switch ports in, the change of every node's flows out.

An event recomputes only the blocks that it touches. Whatever the order of events, the ledgers end
up as if everything had been known from the start; tests hold it to that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from types import MappingProxyType

from ovsnet.controller.audiences import Audiences
from ovsnet.controller.belief import Port, Refusal
from ovsnet.controller.cluster import Cluster, Overlap
from ovsnet.controller.policy.enforcement import Enforcement
from ovsnet.controller.services.board import Board
from ovsnet.controller.views import NodeView, Views
from ovsnet.flows.channel import Channel, Overlay
from ovsnet.flows.commons import Commons
from ovsnet.flows.flow import Block, Flow, Owner
from ovsnet.flows.ledger import Delta, Ledger
from ovsnet.flows.node import node_block
from ovsnet.flows.peer import peer_owner
from ovsnet.flows.pod import pod_block, pod_owner
from ovsnet.flows.serving import legs
from ovsnet.model import (
    EndpointSlice,
    IPAddress,
    IPNetwork,
    Namespace,
    NetworkPolicy,
    Node,
    Pod,
    PodRef,
    PolicyRef,
    Service,
    ServiceRef,
    SliceRef,
)
from ovsnet.names import NODE_PORTS, PortRange

Deltas = Mapping[str, Delta]
"""What changed, by node. A node that is not in it has nothing to do, or is new: a switch that
connects is compared with its whole ledger.
"""


class Network:
    """The desired flows of all nodes. `fingerprint` is that of `Ledger`, `service_ranges` and
    `node_ports` those of `Board`.
    """

    def __init__(
        self,
        fingerprint: Callable[[Flow], int],
        channel: Channel | None = None,
        service_ranges: Iterable[IPNetwork] = (),
        node_ports: PortRange = NODE_PORTS,
    ) -> None:
        self._fingerprint = fingerprint
        self._cluster = Cluster()
        self._views = Views(self._cluster)
        self._audiences = Audiences(fingerprint, channel or Overlay())
        self._ledgers: dict[str, Ledger] = {}
        self._enforcement = Enforcement()
        self._board = Board(fingerprint, service_ranges, node_ports)

    @property
    def nodes(self) -> Mapping[str, NodeView]:
        """Every node of the cluster, by name."""
        return self._views.all

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

    @property
    def policies(self) -> Mapping[PolicyRef, NetworkPolicy]:
        """Every policy of the cluster."""
        return self._enforcement.policies

    @property
    def enforcement(self) -> Enforcement:
        """What the policies come to, for reading."""
        return self._enforcement

    @property
    def board(self) -> Board:
        """What the services come to, for reading."""
        return self._board

    def addresses_of(self, ref: PodRef) -> tuple[IPAddress, ...]:
        """The addresses that a pod is believed to have on the network; none if it is not on it."""
        member = self._enforcement.member(ref)
        return () if member is None else member.addresses

    def refusals(self) -> Iterator[tuple[str, Refusal]]:
        """Every refused port, with its node."""
        return self._views.refusals()

    def ledger(self, node: str) -> Ledger:
        """The desired flows of a node.

        Raises:
            KeyError: no such node.
        """
        return self._ledgers[node]

    @property
    def owners(self) -> frozenset[Owner]:
        """The owners of the blocks of all nodes."""
        shared = (*self._audiences.all_commons, *self._board.all_commons)
        own = (ledger.own_owners for ledger in self._ledgers.values())
        return frozenset(chain(*own, *(commons.owners for commons in shared)))

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
        before = self._cluster.namespaces.keys()
        self._cluster.replace_namespaces(namespaces)
        present = self._cluster.namespaces
        return self._namespaces_changed(before | present.keys())

    def put_namespace(self, namespace: Namespace) -> Deltas:
        """A namespace as it is now."""
        self._cluster.put_namespace(namespace)
        return self._namespaces_changed([namespace.name])

    def drop_namespace(self, name: str) -> Deltas:
        """A namespace is gone."""
        self._cluster.drop_namespace(name)
        return self._namespaces_changed([name])

    def set_policies(self, policies: Iterable[NetworkPolicy]) -> Deltas:
        """These are all the policies there are."""
        present = {policy.ref: policy for policy in policies}
        for ref in self._enforcement.policies.keys() - present.keys():
            self._enforcement.drop_policy(ref)
        for policy in present.values():
            self._enforcement.put_policy(policy)
        return self._enforced()

    def put_policy(self, policy: NetworkPolicy) -> Deltas:
        """A policy as it is now."""
        self._enforcement.put_policy(policy)
        return self._enforced()

    def drop_policy(self, ref: PolicyRef, uid: str = "") -> Deltas:
        """A policy is gone. With a uid, only that one and no later one of its name."""
        self._enforcement.drop_policy(ref, uid)
        return self._enforced()

    def set_services(self, services: Iterable[Service]) -> Deltas:
        """These are all the services there are."""
        self._board.set_services(services)
        return self._served()

    def put_service(self, service: Service) -> Deltas:
        """A service as it is now."""
        self._board.put_service(service)
        return self._served()

    def drop_service(self, ref: ServiceRef, uid: str = "") -> Deltas:
        """A service is gone. With a uid, only that one and no later one of its name."""
        self._board.drop_service(ref, uid)
        return self._served()

    def set_slices(self, slices: Iterable[EndpointSlice]) -> Deltas:
        """These are all the slices of endpoints there are."""
        self._board.set_slices(slices)
        return self._served()

    def put_slice(self, part: EndpointSlice) -> Deltas:
        """A slice of endpoints as it is now."""
        self._board.put_slice(part)
        return self._served()

    def drop_slice(self, ref: SliceRef, uid: str = "") -> Deltas:
        """A slice of endpoints is gone. With a uid, only that one and no later one of its name."""
        self._board.drop_slice(ref, uid)
        return self._served()

    def close_to_newcomers(self, closed: bool) -> Deltas:
        """Let no pod in that is not in already, or let in who has waited.

        To be closed while policies may have changed unheard: a pod never runs outside its policies.
        """
        return self._pods_changed(self._views.close_to_newcomers(closed), ())

    def set_pods(self, pods: Iterable[Pod]) -> Deltas:
        """These are all the pods there are."""
        before = self._cluster.pods.keys()
        names = self._cluster.replace_pods(pods)
        return self._pods_changed(names | self._views.refusing, before | self._cluster.pods.keys())

    def put_pod(self, pod: Pod) -> Deltas:
        """A pod as it is now."""
        before = self._cluster.pods.get(pod.ref)
        nodes = self._cluster.put_pod(pod)
        return self._pods_changed(self._views.concerned(nodes, before, pod), [pod.ref])

    def drop_pod(self, ref: PodRef, uid: str = "") -> Deltas:
        """A pod is gone."""
        before = self._cluster.pods.get(ref)
        nodes = self._cluster.drop_pod(ref, uid)
        return self._pods_changed(self._views.concerned(nodes, before), [ref])

    def set_ports(self, node: str, ports: Iterable[Port]) -> Deltas:
        """These are all the ports of a node's switch. An unknown node has none."""
        view = self._views.all.get(node)
        if not self._views.see(node, ports):
            return {}
        # What kubelet reports of pods counts only until the switch has told its ports.
        first = view is not None and not view.seen
        return self._pods_changed([node], self._cluster.pods_on(node) if first else ())

    def _pods_changed(self, nodes: Iterable[str], pods: Iterable[PodRef]) -> Deltas:
        """Pods have changed, and ports of nodes may be believed otherwise than before."""
        present = self._views.all.keys() & set(nodes)
        work = {name: self._blocks_of_ports(name) for name in present}
        others = (ref for _, _, refs in work.values() for ref in refs)
        self._refresh({*pods, *others})
        return self._enforced({name: (blocks, gone) for name, (blocks, gone, _) in work.items()})

    def _namespaces_changed(self, names: Iterable[str]) -> Deltas:
        for name in names:
            namespace = self._cluster.namespaces.get(name)
            labels = None if namespace is None else namespace.labels
            self._enforcement.set_namespace(name, labels)
        return self._enforced()

    def _refresh(self, pods: Iterable[PodRef]) -> None:
        """Tell the policies of these pods as they are now."""
        for ref in pods:
            member = self._views.member(ref)
            if member is None:
                self._enforcement.drop_member(ref)
            else:
                self._enforcement.put_member(member)

    def _nodes_changed(self, names: Iterable[str]) -> Deltas:
        changed = frozenset(names)
        present = self._cluster.nodes
        for name in changed - present.keys():
            self._forget(name)
        before = {n: dict(self._ledgers[n].flows) for n in changed & self._ledgers.keys()}
        changes = self._audiences.change(changed, present)
        deltas: dict[str, Delta] = {}
        for name, node in present.items():
            if name not in self._ledgers:
                self._begin(node)
            elif name in changed:
                self._change_node(node)
            else:
                deltas[name] = self._ledgers[name].follow(changes[self._audiences.of(node)])
        self._board.set_pod_ranges(r for node in present.values() for r in node.pod_cidrs)
        self._board.set_node_addresses(a for node in present.values() for a in node.addresses)
        for name, delta in self._served().items():
            deltas[name] = deltas[name].then(delta) if name in deltas else delta
        self._refresh({ref for name in changed for ref in self._cluster.pods_on(name)})
        for name, delta in self._enforced().items():
            deltas[name] = deltas[name].then(delta) if name in deltas else delta
        for name, flows in before.items():
            deltas[name] = self._ledgers[name].since(flows)
        return {
            n: delta for n, delta in deltas.items() if delta and n not in changed - before.keys()
        }

    def _forget(self, name: str) -> None:
        if self._views.forget(name):
            del self._ledgers[name]

    def _begin(self, node: Node) -> None:
        self._views.begin(node)
        ledger = Ledger(self._fingerprint, self._commons_for(node), peer_owner(node.name))
        ledger.update([node_block(node), *self._board.blocks_on(node.name)])
        self._ledgers[node.name] = ledger

    def _change_node(self, node: Node) -> None:
        ledger = self._ledgers[node.name]
        self._views.change(node)
        ledger.move(self._commons_for(node))
        blocks, gone, _ = self._blocks_of_ports(node.name)
        ledger.update([node_block(node), *blocks], gone)

    def _commons_for(self, this: Node) -> tuple[Commons, ...]:
        """The flows that `this` shares: about other nodes with all nodes of its audience, about
        services with all nodes and with those of its zone.
        """
        peers = self._audiences.commons(this, self._cluster.nodes)
        return peers, *self._board.commons(this.zone)

    def _blocks_of_ports(self, name: str) -> tuple[list[Block], list[Owner], list[PodRef]]:
        """The blocks of those pods of a node whose endpoints are not what they were, the owners of
        blocks that go, and all these pods.
        """
        new, old = self._views.examine(name)
        view = self._views.all[name]
        endpoints = view.beliefs.endpoints
        services = [leg.service for leg in legs(view.node)]
        return (
            [pod_block(endpoints[ref], services) for ref in new],
            [pod_owner(ref) for ref in old],
            [*new, *old],
        )

    def _served(self) -> Deltas:
        """Enter what has changed of services."""
        changes = self._board.take_changes()
        deltas: dict[str, Delta] = {}
        for name, ledger in self._ledgers.items():
            zone = changes.zones.get(self._views.all[name].node.zone, ())
            here = changes.nodes.get(name)
            if not (changes.everywhere or zone or here):
                continue
            delta = ledger.follow([*changes.everywhere, *zone])
            if here is not None:
                delta = delta.then(ledger.update(*here))
            if delta:
                deltas[name] = delta
        return deltas

    def _enforced(
        self, more: Mapping[str, tuple[Iterable[Block], Iterable[Owner]]] = MappingProxyType({})
    ) -> Deltas:
        """Enter what has changed of policies, and `more` blocks, as one change of each node."""
        work = self._enforcement.take_work()
        for name, (blocks, gone) in more.items():
            here = work.on(name)
            here.blocks += blocks
            here.gone += gone
        deltas = {
            name: self._ledgers[name].update(here.blocks, here.gone, here.leaving, here.entering)
            for name, here in work
            if name in self._ledgers
        }
        return {name: delta for name, delta in deltas.items() if delta}
