"""What the controllers see: the store, with the indexes that they ask by. Follows every write."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from ovsnet.sandbox.apiserver.kinds import NODE, POD, SERVICE, Kind, Object
from ovsnet.sandbox.apiserver.selectors import Selector, from_label_selector
from ovsnet.sandbox.apiserver.store import Change, Key, Store, Stored
from ovsnet.sandbox.workloads.objects import Node, Pod, decode_node, decode_pod

Reference = tuple[Kind, Key]


class View:
    """The state of the cluster, indexed."""

    def __init__(self, store: Store, kinds: Iterable[Kind]) -> None:
        self._store = store
        self._pods: dict[Key, Pod] = {}
        self._nodes: dict[str, Node] = {}
        self._on_node: dict[str, dict[Key, Pod]] = defaultdict(dict)
        self._owned: dict[str, dict[Reference, None]] = defaultdict(dict)
        self._alive: dict[str, Reference] = {}
        self._unscheduled: dict[Key, Pod] = {}
        self._unsociable = 0
        self._selectors: dict[str, dict[Key, Selector]] = defaultdict(dict)
        for kind in kinds:
            for item in store[kind].items():
                self.observe(kind, Change(item.revision, None, item, deleted=False))

    def observe(self, kind: Kind, change: Change) -> None:
        """Take note of a write."""
        key = change.after.key
        if change.before is not None:
            self._alive.pop(change.before.uid, None)
            for uid in change.before.owners:
                self._owned[uid].pop((kind, key), None)
                if not self._owned[uid]:
                    del self._owned[uid]
        if not change.deleted:
            self._alive[change.after.uid] = (kind, key)
            for uid in change.after.owners:
                self._owned[uid][kind, key] = None
        if kind is POD:
            self._observe_pod(key, None if change.deleted else decode_pod(change.after.body))
        elif kind is NODE:
            self._nodes.pop(key[1], None)
            if not change.deleted:
                self._nodes[key[1]] = decode_node(change.after.body)

        elif kind is SERVICE:
            self._selectors[key[0]].pop(key, None)
            labels = change.after.decode().get("spec", {}).get("selector")
            if labels and not change.deleted:
                self._selectors[key[0]][key] = from_label_selector({"matchLabels": labels})

    def _observe_pod(self, key: Key, pod: Pod | None) -> None:
        before = self._pods.pop(key, None)
        if before is not None and before.spec.node_name:
            self._on_node[before.spec.node_name].pop(key, None)
            self._unsociable -= "podAntiAffinity" in before.spec.affinity
        self._unscheduled.pop(key, None)
        if pod is None:
            return
        self._pods[key] = pod
        if pod.spec.node_name:
            self._on_node[pod.spec.node_name][key] = pod
            self._unsociable += "podAntiAffinity" in pod.spec.affinity
        else:
            self._unscheduled[key] = pod

    def get(self, kind: Kind, key: Key) -> Object | None:
        """An object, the caller's to keep, or None."""
        stored = self._store[kind].get(key)
        return stored.decode() if stored is not None else None

    def stored(self, kind: Kind, key: Key) -> Stored | None:
        """An object as the store keeps it, or None."""
        return self._store[kind].get(key)

    def objects(self, kind: Kind, namespace: str | None = None) -> Iterator[Object]:
        """The objects of a kind, in the order of their keys."""
        for stored in self._store[kind].items(namespace):
            yield stored.decode()

    def keys(self, kind: Kind, namespace: str | None = None) -> list[Key]:
        """The keys of the objects of a kind."""
        return [stored.key for stored in self._store[kind].items(namespace)]

    def exists(self, uid: str) -> bool:
        """Whether any object has this uid."""
        return uid in self._alive

    def reference(self, uid: str) -> Reference | None:
        """Which object has this uid."""
        return self._alive.get(uid)

    def uid(self, kind: Kind, key: Key) -> str | None:
        """The uid of an object, or None if it is not there."""
        stored = self._store[kind].get(key)
        return stored.uid if stored is not None else None

    def owned(self, uid: str) -> list[Reference]:
        """What names the object with this uid among its owners."""
        return list(self._owned.get(uid, ()))

    def pods_of(self, uid: str) -> list[Pod]:
        """The pods that an object controls, in the order of their names."""
        pods = [self._pods[key] for kind, key in self.owned(uid) if kind is POD]
        controlled = [
            pod
            for pod in pods
            if any(o.controller and o.uid == uid for o in pod.metadata.owner_references)
        ]
        return sorted(controlled, key=lambda pod: pod.metadata.name)

    def pod(self, key: Key) -> Pod | None:
        """A pod, or None."""
        return self._pods.get(key)

    def pods(self, namespace: str) -> list[Pod]:
        """The pods of a namespace."""
        return [self._pods[item.key] for item in self._store[POD].items(namespace)]

    def service_selectors(self, namespace: str) -> Mapping[Key, Selector]:
        """The selectors of the services of a namespace that have one."""
        return self._selectors.get(namespace, {})

    def pods_on(self, node: str) -> Mapping[Key, Pod]:
        """The pods that are scheduled to a node."""
        return self._on_node.get(node, {})

    @property
    def has_anti_affinity(self) -> bool:
        """Whether any scheduled pod keeps others away."""
        return self._unsociable > 0

    @property
    def unscheduled(self) -> Mapping[Key, Pod]:
        """The pods that no node has."""
        return self._unscheduled

    @property
    def nodes(self) -> Mapping[str, Node]:
        """The nodes by name."""
        return self._nodes
