"""A registry with a clock and names that tests choose, and a cluster simulated in one thread."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from itertools import count

from ovsnet.sandbox.apiserver.admission import Admission
from ovsnet.sandbox.apiserver.bootstrap import bootstrap
from ovsnet.sandbox.apiserver.deletion import Deletion
from ovsnet.sandbox.apiserver.kinds import NODE, POD, Kind, Object
from ovsnet.sandbox.apiserver.registry import Registry, Sources, Write, new_store
from ovsnet.sandbox.apiserver.services import by_family
from ovsnet.sandbox.apiserver.store import Key
from ovsnet.sandbox.workloads.controllers import controllers
from ovsnet.sandbox.workloads.runner import Runner

SERVICE_RANGES = (ip_network("10.96.0.0/24"), ip_network("fd00:96::/120"))
POD_RANGES = (ip_network("10.244.0.0/16"), ip_network("fd00:244::/56"))


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def sources(clock: Clock) -> Sources:
    numbers = count(1)
    suffixes: Iterator[int] = count(1)
    return Sources(
        now=lambda: clock.now,
        uid=lambda: f"uid-{next(numbers)}",
        suffix=lambda n: f"{next(suffixes):0{n}d}",
    )


def registry(clock: Clock | None = None, history: int = 10_000) -> Registry:
    """A registry with the system's namespaces."""
    store = new_store(history)
    made = Registry(store, sources(clock or Clock()), Admission(store, SERVICE_RANGES))
    bootstrap(made, by_family(SERVICE_RANGES))
    return made


def pod(name: str = "p", **spec: object) -> Object:
    """A pod that is valid."""
    return {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]} | spec,
    }


def workload(name: str, replicas: int | None = None, image: str = "i:1", **spec: object) -> Object:
    """A Deployment, ReplicaSet, StatefulSet or DaemonSet that is valid."""
    labels = {"app": name}
    body: Object = {
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "c", "image": image}]},
        },
    }
    if replicas is not None:
        body["replicas"] = replicas
    return {"metadata": {"name": name}, "spec": body | spec}


class Cluster:
    """API objects, controllers and kubelets, each of which takes a step when it is told to."""

    def __init__(self, nodes: int = 3) -> None:
        self.clock = Clock()
        self.registry = registry(self.clock)
        self.runner = Runner(self.registry, controllers(POD_RANGES))
        self.runner.start()
        self.write = Write(manager="test")
        for number in range(nodes):
            self.add_node(f"n{number}")
        self.settle()

    def add_node(self, name: str, **spec: object) -> None:
        conditions = [{"type": "Ready", "status": "True"}]
        node = {
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "spec": spec,
            "status": {"conditions": conditions},
        }
        self.registry.create(NODE, "", node, self.write)

    def create(self, kind: Kind, obj: Object, namespace: str = "default") -> None:
        self.registry.create(kind, namespace, obj, self.write)

    def change(self, kind: Kind, key: Key, patch: Object, subresource: str = "") -> None:
        def merged(obj: Object) -> Object:
            return _merge(obj, patch)

        self.registry.change(kind, key, merged, self.write, subresource)

    def delete(self, kind: Kind, key: Key, propagation: str = "Background") -> None:
        self.registry.delete(kind, key, Deletion(propagation=propagation), self.write)

    def get(self, kind: Kind, key: Key) -> Object | None:
        stored = self.registry.store[kind].get(key)
        return stored.decode() if stored is not None else None

    def objects(self, kind: Kind, namespace: str | None = "default") -> list[Object]:
        return [item.decode() for item in self.registry.store[kind].items(namespace)]

    def work(self) -> None:
        """Let the controllers do all that they can do now."""
        for _ in range(20_000):
            if not self.runner.work():
                return
        raise AssertionError("the controllers never come to rest")

    def kubelet(self, key: Key) -> bool:
        """Let the kubelet of a pod's node take its step; False if it has nothing to do."""
        found = self.get(POD, key)
        if found is None or not found["spec"].get("nodeName"):
            return False
        if "deletionTimestamp" in found["metadata"]:
            self.registry.delete(POD, key, Deletion(grace=0), self.write)
            return True
        if found["status"]["phase"] != "Pending":
            return False
        ready = [{"type": "Ready", "status": "True"}]
        status = {"phase": "Running", "podIPs": [{"ip": "10.244.0.9"}], "conditions": ready}
        self.change(POD, key, {"status": status}, "status")
        return True

    def settle(self) -> None:
        """Let everybody work until nobody has anything to do."""
        for _ in range(1000):
            self.work()
            stepped = sum(self.kubelet(item.key) for item in list(self.registry.store[POD].items()))
            if not stepped:
                return
        raise AssertionError("the cluster never comes to rest")


def _merge(obj: Object, patch: Object) -> Object:
    merged = dict(obj)
    for name, value in patch.items():
        merged[name] = _merge(merged.get(name, {}), value) if isinstance(value, dict) else value
    return merged
