"""Nodes: their ranges of pod addresses, and what is thought of one that has gone silent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from ovsnet.sandbox.apiserver.kinds import NODE, Object
from ovsnet.sandbox.apiserver.registry import timestamp
from ovsnet.sandbox.apiserver.tables import parse_time
from ovsnet.sandbox.workloads.actions import Action, Patch, Record, set_condition

NODE_PREFIX: Mapping[int, int] = {4: 24, 6: 64}
"""Length of a node's range, by IP version."""

GRACE_SECONDS = 40
"""How long a node may be silent (kube-controller-manager's node-monitor-grace-period)."""

PodRange = IPv4Network | IPv6Network


def free_range(cluster: PodRange, used: Sequence[PodRange]) -> PodRange | None:
    """The first range for a node in the cluster's that overlaps none in use, or None."""
    prefix = max(NODE_PREFIX[cluster.version], cluster.prefixlen)
    size = 1 << (cluster.max_prefixlen - prefix)
    first = int(cluster.network_address)
    taken: set[int] = set()
    for other in used:
        if other.version != cluster.version or not cluster.overlaps(other):
            continue
        low = max(0, (int(other.network_address) - first) // size)
        high = (min(int(other.broadcast_address), int(cluster.broadcast_address)) - first) // size
        taken.update(range(low, high + 1))
    count = 1 << (prefix - cluster.prefixlen)
    index = next((n for n in range(count) if n not in taken), None)
    if index is None:
        return None
    return type(cluster)((first + index * size, prefix))


def allocate_ranges(
    node: Object, others: Iterable[Sequence[str]], cluster: Sequence[PodRange]
) -> list[Action]:
    """Ranges for a node that has none. A creator who chose them is respected."""
    if node.get("spec", {}).get("podCIDRs") or "deletionTimestamp" in node["metadata"]:
        return []
    name = node["metadata"]["name"]
    used = [ip_network(text, strict=False) for texts in others for text in texts]
    ranges = [free_range(network, used) for network in cluster]
    if None in ranges:
        message = f"no range is left in {', '.join(map(str, cluster))}"
        uid = node["metadata"]["uid"]
        return [Record(NODE, ("", name), uid, "CIDRNotAvailable", message, "Warning")]
    texts = [str(network) for network in ranges]
    return [Patch(NODE, ("", name), {"spec": {"podCIDR": texts[0], "podCIDRs": texts}})]


def judge(node: Object, lease: Object | None, now: datetime) -> list[Action]:
    """Unknown, for a node whose lease says that its kubelet has been silent for too long.

    A node without a lease is never judged: it has a creator who speaks for it.
    """
    renewed: Any = (lease or {}).get("spec", {}).get("renewTime")
    if renewed is None or (now - parse_time(renewed)).total_seconds() <= GRACE_SECONDS:
        return []
    conditions = node.get("status", {}).get("conditions", [])
    ready = next((c for c in conditions if c["type"] == "Ready"), None)
    if ready is None or ready["status"] == "Unknown":
        return []
    message = "Kubelet stopped posting node status."
    condition = ready | {"status": "Unknown", "reason": "NodeStatusUnknown", "message": message}
    changed = set_condition(conditions, condition, timestamp(now))
    name, uid = node["metadata"]["name"], node["metadata"]["uid"]
    return [
        Patch(NODE, ("", name), {"status": {"conditions": changed}}, "status"),
        Record(NODE, ("", name), uid, "NodeNotReady", message, "Warning", "node-controller"),
    ]
