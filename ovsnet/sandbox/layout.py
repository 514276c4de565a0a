"""Where a sandbox keeps what: one directory below /run, names with one prefix."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

INSTANCE_VARIABLE = "OVSNET_SANDBOX"
"""Environment variable that names another sandbox than the usual one, for tests beside it."""

PROGRAMS_VARIABLE = "OVSNET_SANDBOX_APISERVER"
"""Environment variable that names a directory with Kubernetes' programs, to run a sandbox on."""

RUN_DIRECTORY = Path("/run/ovsnet")
NETNS_DIRECTORY = Path("/run/netns")
DEFAULT_INSTANCE = "sandbox"

CONTROL = "control"
FABRIC = "fabric"
OUTSIDE = "outside"

_INSTANCE = re.compile(r"[a-z][a-z0-9]{0,15}")


class LayoutError(Exception):
    """A sandbox cannot have the name that was asked for."""


class NodePaths(msgspec.Struct, frozen=True):
    """The directories of one node, below the sandbox's own."""

    root: Path

    @property
    def ovs(self) -> Path:
        """OVS_RUNDIR of the node: database, control sockets, bridges' management sockets."""
        return self.root / "ovs"

    @property
    def cni_configuration(self) -> Path:
        """What /etc/cni/net.d is on a real node."""
        return self.root / "cni" / "net.d"

    @property
    def cni_plugins(self) -> Path:
        """What /opt/cni/bin is on a real node."""
        return self.root / "cni" / "bin"

    @property
    def agent(self) -> Path:
        """State, socket and configuration of the node agent."""
        return self.root / "agent"

    @property
    def kubelet(self) -> Path:
        """What the kubelet stand-in must remember over a restart."""
        return self.root / "kubelet"


class Layout(msgspec.Struct, frozen=True):
    """The files and names of one sandbox.

    Everything lies below `root`. Every network namespace is /run/netns/`prefix`-SOMETHING.
    """

    root: Path
    prefix: str

    @property
    def state(self) -> Path:
        """What runs where; see `state.State`."""
        return self.root / "state.json"

    @property
    def processes(self) -> Path:
        """One file a process: how it was started and which process it is."""
        return self.root / "processes"

    @property
    def logs(self) -> Path:
        """One file a process: what it printed."""
        return self.root / "log"

    @property
    def kubeconfig(self) -> Path:
        """For clients on this machine: the API server on 127.0.0.1."""
        return self.root / "kubeconfig"

    @property
    def inner_kubeconfig(self) -> Path:
        """For clients inside the sandbox: the API server's address on the fabric."""
        return self.root / "kubeconfig-inside"

    @property
    def control_plane(self) -> Path:
        """Keys, data and logs of Kubernetes' own API server; not there with the embedded one."""
        return self.root / "control-plane"

    @property
    def audit_log(self) -> Path:
        """What service accounts asked of Kubernetes' own API server, if they had rights given."""
        return self.control_plane / "log" / "audit.log"

    @property
    def made_rundir(self) -> Path:
        """Exists if Open vSwitch's usual directory did not before, and must go with the sandbox."""
        return self.root / "made-openvswitch-rundir"

    @property
    def kubectl_cache(self) -> Path:
        """Where kubectl may keep what it has discovered."""
        return self.root / "kubectl-cache"

    def netns(self, name: str) -> Path:
        """The file of the network namespace of this sandbox that is called `name`."""
        return NETNS_DIRECTORY / f"{self.prefix}-{name}"

    def node(self, name: str) -> NodePaths:
        """The directories of a node."""
        return NodePaths(self.root / "nodes" / name)


def layout(instance: str = DEFAULT_INSTANCE) -> Layout:
    """The layout of the sandbox called `instance`.

    Two sandboxes share no name: the prefix of one is never the start of a name of another.

    Raises:
        LayoutError: `instance` is not a lower-case word of at most 16 letters and digits.
    """
    if not _INSTANCE.fullmatch(instance):
        raise LayoutError(
            f"{instance!r} cannot name a sandbox: "
            "a lower-case letter and up to 15 letters or digits were expected"
        )
    prefix = "ovsnet" if instance == DEFAULT_INSTANCE else f"ovsnet.{instance}"
    return Layout(RUN_DIRECTORY / instance, prefix)


def from_environment(environment: Mapping[str, str] = os.environ) -> Layout:
    """The layout of the sandbox that `INSTANCE_VARIABLE` names, or of the usual one."""
    return layout(environment.get(INSTANCE_VARIABLE, DEFAULT_INSTANCE))


def node_names(count: int) -> tuple[str, ...]:
    """The names of a sandbox's nodes: node1, node2 and so on."""
    return tuple(f"node{number}" for number in range(1, count + 1))
