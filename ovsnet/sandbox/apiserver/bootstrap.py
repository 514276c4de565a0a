"""What a cluster has from its first second: the system's namespaces and its own service."""

from __future__ import annotations

from collections.abc import Mapping

from ovsnet.sandbox.apiserver.kinds import NAMESPACE, PRIORITY_CLASS, SERVICE
from ovsnet.sandbox.apiserver.registry import Registry, Write
from ovsnet.sandbox.apiserver.services import ServiceRange

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_PRIORITIES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


def bootstrap(registry: Registry, ranges: Mapping[str, ServiceRange]) -> None:
    """Create what real servers create for themselves."""
    write = Write(manager="kube-apiserver")
    for name in NAMESPACES:
        registry.create(NAMESPACE, "", {"metadata": {"name": name}}, write)
    for name, value in _PRIORITIES.items():
        registry.create(PRIORITY_CLASS, "", {"metadata": {"name": name}, "value": value}, write)
    service = {
        "metadata": {
            "name": "kubernetes",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "clusterIP": str(next(iter(ranges.values()))[1]),
            "ports": [{"name": "https", "port": 443, "targetPort": 6443}],
        },
    }
    registry.create(SERVICE, "default", service, write)
