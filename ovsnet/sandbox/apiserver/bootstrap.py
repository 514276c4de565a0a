"""What a cluster has from its first second: the system's namespaces and its own service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ovsnet.sandbox.apiserver.kinds import (
    ENDPOINT_SLICE,
    ENDPOINTS,
    NAMESPACE,
    PRIORITY_CLASS,
    SERVICE,
    Object,
)
from ovsnet.sandbox.apiserver.registry import Registry, Write
from ovsnet.sandbox.apiserver.services import ServiceRange

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_PRIORITIES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


_PORT = 6443


class Advertised(NamedTuple):
    """Where the server can be reached from the whole cluster."""

    address: str
    port: int


def bootstrap(
    registry: Registry, ranges: Mapping[str, ServiceRange], advertised: Advertised | None = None
) -> None:
    """Create what real servers create for themselves.

    Its own service has an endpoint only if it is told where that is.
    """
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
            "ports": [
                {
                    "name": "https",
                    "port": 443,
                    "targetPort": _PORT if advertised is None else advertised.port,
                }
            ],
        },
    }
    registry.create(SERVICE, "default", service, write)
    if advertised is not None:
        registry.create(ENDPOINT_SLICE, "default", _slice(advertised), write)
        registry.create(ENDPOINTS, "default", _endpoints(advertised), write)


def _slice(advertised: Advertised) -> Object:
    return {
        "metadata": {
            "name": "kubernetes",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": "IPv6" if ":" in advertised.address else "IPv4",
        "ports": [{"name": "https", "port": advertised.port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [advertised.address], "conditions": {"ready": True}}],
    }


def _endpoints(advertised: Advertised) -> Object:
    return {
        "metadata": {
            "name": "kubernetes",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [
            {
                "addresses": [{"ip": advertised.address}],
                "ports": [{"name": "https", "port": advertised.port, "protocol": "TCP"}],
            }
        ],
    }
