"""What the kubelet stand-in reports: nodes, pods and events as the API has them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import ip_interface
from typing import Any

import msgspec

Object = dict[str, Any]

KUBELET_VERSION = "v1.34.0-ovsnet-sandbox"
MAX_PODS = "110"
LEASE_SECONDS = 40
_COMPONENT = "kubelet"


def timestamp(moment: datetime) -> str:
    """A moment as the API writes it: RFC 3339, UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(kind: str, true: bool, now: str, reason: str, message: str = "") -> Object:
    """One condition of a node or pod."""
    return {
        "type": kind,
        "status": "True" if true else "False",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
        "reason": reason,
        "message": message,
    }


class Machine(msgspec.Struct, frozen=True):
    """What a node says of the machine that it runs on; `architecture` in Go's words."""

    architecture: str
    cpus: int
    memory_kib: int


def node(name: str, addresses: Sequence[str], machine: Machine) -> Object:
    """The Node that is registered; its conditions come with `node_ready`."""
    resources = {
        "cpu": str(machine.cpus),
        "memory": f"{machine.memory_kib}Ki",
        "pods": MAX_PODS,
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": machine.architecture,
            },
        },
        "status": {
            "addresses": [
                *({"type": "InternalIP", "address": address} for address in addresses),
                {"type": "Hostname", "address": name},
            ],
            "capacity": resources,
            "allocatable": resources,
            "nodeInfo": {
                "kubeletVersion": KUBELET_VERSION,
                "kubeProxyVersion": "",
                "osImage": "network namespace",
                "operatingSystem": "linux",
                "architecture": machine.architecture,
                "containerRuntimeVersion": "ovsnet-sandbox://1",
                "kernelVersion": "",
                "machineID": name,
                "systemUUID": name,
                "bootID": name,
            },
        },
    }


def node_ready(fault: str | None, now: str) -> Object:
    """The status of a node whose network is ready, or is not because of `fault`."""
    if fault is None:
        return {"conditions": [condition("Ready", True, now, "KubeletReady", "network is ready")]}
    message = f"container runtime network not ready: {fault}"
    return {"conditions": [condition("Ready", False, now, "KubeletNotReady", message)]}


def lease(node: str, now: datetime) -> Object:
    """The spec of the Lease by which a kubelet says that it is alive."""
    return {
        "holderIdentity": node,
        "leaseDurationSeconds": LEASE_SECONDS,
        "renewTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }


def addresses_of(result: Mapping[str, Any]) -> tuple[str, ...]:
    """The container's addresses in the order of a CNI result, without their prefix lengths."""
    return tuple(str(ip_interface(entry["address"]).ip) for entry in result.get("ips", ()))


def capabilities_of(pod: Mapping[str, Any]) -> Object:
    """What containerd offers plugins that declare it: port mappings and bandwidth.

    A host port stands for every address of its family unless it names one.
    """
    annotations = pod["metadata"].get("annotations") or {}
    offered: Object = {"io.kubernetes.cri.pod-annotations": annotations}
    mappings = [
        {
            "hostPort": port["hostPort"],
            "containerPort": port["containerPort"],
            "protocol": port.get("protocol", "TCP").lower(),
            "hostIP": port.get("hostIP", ""),
        }
        for container in pod["spec"]["containers"]
        for port in container.get("ports") or ()
        if port.get("hostPort")
    ]
    if mappings:
        offered["portMappings"] = mappings
    bandwidth: Object = {}
    for direction in ("ingress", "egress"):
        rate = annotations.get(f"kubernetes.io/{direction}-bandwidth")
        if rate:
            bandwidth[f"{direction}Rate"] = quantity(rate)
            # containerd allows any burst by naming the largest one there is.
            bandwidth[f"{direction}Burst"] = 0xFFFFFFFF
    if bandwidth:
        offered["bandwidth"] = bandwidth
    return offered


_SUFFIXES = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}


def quantity(text: str) -> int:
    """A whole Kubernetes quantity (`10M`, `1Gi`).

    Raises:
        ValueError: it is none.
    """
    digits = text.rstrip("kMGTi")
    suffix = text[len(digits) :]
    if suffix not in _SUFFIXES or not digits.isdecimal():
        raise ValueError(f"{text!r}: a quantity such as 10M was expected")
    return int(digits) * _SUFFIXES[suffix]


def running(
    pod: Mapping[str, Any],
    addresses: Sequence[str],
    host_addresses: Sequence[str],
    *,
    container_id: str,
    started: str,
) -> Object:
    """The status of a pod whose sandbox is there and whose containers answer."""
    return {
        "phase": "Running",
        "hostIP": host_addresses[0],
        "hostIPs": [{"ip": address} for address in host_addresses],
        "podIP": addresses[0] if addresses else "",
        "podIPs": [{"ip": address} for address in addresses],
        "startTime": started,
        "conditions": _pod_conditions(pod, True, started),
        "containerStatuses": [
            _container(container, container_id, started) for container in pod["spec"]["containers"]
        ],
    }


def waiting(pod: Mapping[str, Any], host_addresses: Sequence[str], now: str) -> Object:
    """The status of a pod that this node has accepted and whose sandbox is not there yet."""
    return {
        "phase": "Pending",
        "hostIP": host_addresses[0],
        "hostIPs": [{"ip": address} for address in host_addresses],
        "startTime": now,
        "conditions": _pod_conditions(pod, False, now),
        "containerStatuses": [
            {
                **_described(container),
                "ready": False,
                "started": False,
                "state": {"waiting": {"reason": "ContainerCreating"}},
            }
            for container in pod["spec"]["containers"]
        ],
    }


def _described(container: Mapping[str, Any]) -> Object:
    return {
        "name": container["name"],
        "image": container.get("image", ""),
        "imageID": "",
        "restartCount": 0,
    }


def _container(container: Mapping[str, Any], container_id: str, started: str) -> Object:
    return {
        **_described(container),
        "containerID": f"ovsnet-sandbox://{container_id}",
        "ready": True,
        "started": True,
        "state": {"running": {"startedAt": started}},
    }


def _pod_conditions(pod: Mapping[str, Any], ready: bool, now: str) -> list[Object]:
    """A pod's conditions; those of others (PodScheduled) stay, for lists are replaced whole."""
    reason = "" if ready else "ContainersNotReady"
    own = {
        "PodReadyToStartContainers": _pod_condition("PodReadyToStartContainers", ready, now),
        "Initialized": _pod_condition("Initialized", True, now),
        "Ready": _pod_condition("Ready", ready, now, reason),
        "ContainersReady": _pod_condition("ContainersReady", ready, now, reason),
    }
    others = [
        entry for entry in pod.get("status", {}).get("conditions") or () if entry["type"] not in own
    ]
    return [*own.values(), *others]


def _pod_condition(kind: str, true: bool, now: str, reason: str = "") -> Object:
    found: Object = {
        "type": kind,
        "status": "True" if true else "False",
        "lastProbeTime": None,
        "lastTransitionTime": now,
    }
    return found | ({"reason": reason} if reason else {})


def event(
    pod: Mapping[str, Any],
    node_name: str,
    *,
    name: str,
    kind: str,
    reason: str,
    message: str,
    now: str,
) -> Object:
    """An event about a pod; `kind` is Normal or Warning."""
    metadata = pod["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
        "reason": reason,
        "message": message[:1024],
        "type": kind,
        "source": {"component": _COMPONENT, "host": node_name},
        "reportingComponent": _COMPONENT,
        "reportingInstance": node_name,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
