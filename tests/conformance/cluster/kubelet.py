"""containerd and kubelet on a machine: their configuration, and how they are started."""

from __future__ import annotations

from typing import Any

import yaml

PAUSE = "registry.k8s.io/pause:3.10"
CONTAINERD_FILE = "/etc/containerd/config.toml"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
DOMAIN = "cluster.local"
MANIFESTS = "/etc/kubernetes/manifests"
"""The directory of static pods."""


def containerd() -> tuple[str, ...]:
    """The command line of containerd."""
    return ("containerd", "--config", CONTAINERD_FILE)


def kubelet(node: str, addresses: tuple[str, ...]) -> tuple[str, ...]:
    """The command line of kubelet. Each node is a zone of its own."""
    return (
        "/opt/kubernetes/kubelet",
        *("--kubeconfig", "/etc/kubernetes/kubelet.conf"),
        *("--config", "/etc/kubernetes/kubelet.yaml"),
        *("--hostname-override", node),
        *("--node-ip", ",".join(addresses)),
        *("--node-labels", f"topology.kubernetes.io/zone=zone-{node}"),
        "--fail-swap-on=false",
    )


CONTAINERD_CONFIGURATION = f"""\
version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
restrict_oom_score_adj = true
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/opt/cni/bin"
conf_dir = "/etc/cni/net.d"
"""
"""restrict_oom_score_adj: where CAP_SYS_RESOURCE is missing runc may not lower a score."""


def kubelet_configuration(cgroup: str, dns: str) -> str:
    """kubelet's configuration file (kubelet.config.k8s.io/v1beta1)."""
    configuration: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "failCgroupV1": False,
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        "clusterDNS": [dns],
        "clusterDomain": DOMAIN,
        "resolvConf": "/etc/kubernetes/resolv.conf",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": "/etc/kubernetes/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "staticPodPath": MANIFESTS,
        "maxPods": 110,
        "serializeImagePulls": False,
        "syncFrequency": "10s",
        "evictionHard": {"memory.available": "50Mi"},
        "imageGCHighThresholdPercent": 100,
        "logging": {"verbosity": 1},
    }
    return yaml.safe_dump(configuration, sort_keys=False)


def files(kubeconfig: str, authority: bytes, cgroup: str, dns: str) -> dict[str, bytes]:
    """The files that kubelet needs, by their paths on the machine."""
    return {
        "/etc/kubernetes/kubelet.conf": kubeconfig.encode(),
        "/etc/kubernetes/kubelet.yaml": kubelet_configuration(cgroup, dns).encode(),
        "/etc/kubernetes/ca.crt": authority,
        "/etc/kubernetes/resolv.conf": b"",
        f"{MANIFESTS}/.keep": b"",
    }
