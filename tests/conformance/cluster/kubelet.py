"""containerd and kubelet on a machine: their configuration, and how they are started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

PAUSE = "registry.k8s.io/pause:3.10"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
DOMAIN = "cluster.local"


def containerd() -> tuple[str, ...]:
    """The command line of containerd."""
    return ("containerd", "--config", "/etc/containerd/config.toml")


def kubelet(node: str, addresses: tuple[str, ...]) -> tuple[str, ...]:
    """The command line of kubelet."""
    return (
        "/opt/kubernetes/kubelet",
        *("--kubeconfig", "/etc/kubernetes/kubelet.conf"),
        *("--config", "/etc/kubernetes/kubelet.yaml"),
        *("--hostname-override", node),
        *("--node-ip", ",".join(addresses)),
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
        "staticPodPath": "/etc/kubernetes/manifests",
        "maxPods": 110,
        "serializeImagePulls": False,
        "syncFrequency": "10s",
        "evictionHard": {"memory.available": "50Mi"},
        "imageGCHighThresholdPercent": 100,
        "logging": {"verbosity": 1},
    }
    return yaml.safe_dump(configuration, sort_keys=False)


def write(root: Path, kubeconfig: str, authority: bytes, cgroup: str, dns: str) -> None:
    """Write what both need into a machine's root file system."""
    files = {
        "etc/containerd/config.toml": CONTAINERD_CONFIGURATION.encode(),
        "etc/kubernetes/kubelet.conf": kubeconfig.encode(),
        "etc/kubernetes/kubelet.yaml": kubelet_configuration(cgroup, dns).encode(),
        "etc/kubernetes/ca.crt": authority,
        "etc/kubernetes/resolv.conf": b"",
    }
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o600)
    (root / "etc/kubernetes/manifests").mkdir(exist_ok=True)
