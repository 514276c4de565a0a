"""The application: its manifests, and the pods that they become."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from ovsnet.sandbox.kubelet.sandboxes import Stage, Store
from ovsnet.sandbox.layout import Layout
from ovsnet.sandbox.state import State

MANIFESTS = Path(__file__).parents[3] / "deploy" / "demo"
POLICIES = MANIFESTS / "policies"
"""Not applied with the application: neither kubectl nor `documents` looks below a directory."""

_TCP = "TCP"


class ApplicationError(Exception):
    """The application could not be applied. The text says why."""


class Pod(msgspec.Struct, frozen=True):
    """A running pod; `application` is its label `app`, `ports` are the TCP ports that it declares,
    at least one.
    """

    namespace: str
    name: str
    application: str
    node: str
    host_network: bool
    addresses: tuple[str, ...]
    ports: tuple[int, ...]
    netns: Path

    @property
    def text(self) -> str:
        """`NAMESPACE/NAME`."""
        return f"{self.namespace}/{self.name}"

    @property
    def port(self) -> int:
        """The first of its TCP ports."""
        return self.ports[0]


def documents(directory: Path) -> list[dict[str, Any]]:
    """All objects of a directory of manifests."""
    return [
        document
        for path in sorted(directory.glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
        if document
    ]


def expected_pods(objects: Iterable[Mapping[str, Any]], nodes: int) -> int:
    """How many pods these objects become on so many nodes."""
    count = 0
    for each in objects:
        match each["kind"]:
            case "Deployment" | "StatefulSet" | "ReplicaSet":
                count += each["spec"].get("replicas", 1)
            case "DaemonSet":
                count += nodes
            case "Pod":
                count += 1
    return count


def kubectl(layout: Layout, state: State, *arguments: str) -> str:
    """Run kubectl on the sandbox, its discovery cache inside the sandbox's directory.

    Raises:
        ApplicationError: it is not installed, or it failed; with its own words.
    """
    program = shutil.which("kubectl")
    if program is None:
        raise ApplicationError(
            "kubectl is not installed; on Debian: apt-get install kubernetes-client"
        )
    done = subprocess.run(
        [
            program,
            *("--kubeconfig", state.kubeconfig, "--cache-dir", str(layout.kubectl_cache)),
            *arguments,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ApplicationError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def running_pods(
    layout: Layout, state: State, items: Iterable[Mapping[str, Any]]
) -> tuple[Pod, ...]:
    """The pods among the API's `items` that run and are not being deleted, by name."""
    sandboxes = {
        sandbox.target.uid: Path(sandbox.target.netns)
        for node in state.nodes
        for sandbox in Store(layout.node(node.name).kubelet).all()
        if sandbox.stage is Stage.READY
    }
    found = []
    for item in items:
        metadata, spec, status = item["metadata"], item["spec"], item.get("status", {})
        host_network = bool(spec.get("hostNetwork"))
        netns = (
            Path(state.node(spec["nodeName"]).netns)
            if host_network and spec.get("nodeName")
            else sandboxes.get(metadata["uid"])
        )
        ready = any(
            c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ()
        )
        if not ready or metadata.get("deletionTimestamp") or netns is None:
            continue
        found.append(
            Pod(
                namespace=metadata["namespace"],
                name=metadata["name"],
                application=metadata["labels"]["app"],
                node=spec["nodeName"],
                host_network=host_network,
                addresses=tuple(entry["ip"] for entry in status["podIPs"]),
                ports=tuple(
                    port["containerPort"]
                    for container in spec["containers"]
                    for port in container.get("ports") or ()
                    if port.get("protocol", _TCP) == _TCP
                ),
                netns=netns,
            )
        )
    return tuple(sorted(found, key=lambda pod: (pod.namespace, pod.name)))
