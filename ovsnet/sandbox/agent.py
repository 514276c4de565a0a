"""The node agent of one node: its configuration file and its process."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

import msgspec

from ovsnet.sandbox import identities, node, plan, process
from ovsnet.sandbox.layout import Layout
from ovsnet.sandbox.process import Spec


class Controller(msgspec.Struct, frozen=True):
    """How agents and switches reach the controller: an OVSDB target, and a URL."""

    target: str
    agents_url: str


class Datapath(msgspec.Struct, frozen=True):
    """What carries packets: Open vSwitch in userspace or the kernel, and the sort of tunnel."""

    userspace: bool
    tunnel: str


def options(
    layout: Layout, host: plan.Host, controller: Controller, datapath: Datapath
) -> dict[str, object]:
    """What a node's agent is told; everything else is as by default."""
    paths = layout.node(host.name)
    return {
        "node": host.name,
        "kubeconfig": str(identities.agent(layout)),
        "cluster_cidrs": list(plan.POD_CIDRS),
        "services": list(plan.SERVICE_CIDRS),
        "external": list(plan.EXTERNAL_CIDRS),
        "controllers": [controller.target],
        "agents_urls": [controller.agents_url],
        "ovsdb": str(paths.ovs / "db.sock"),
        "ovs_rundir": str(paths.ovs),
        "datapath": "netdev" if datapath.userspace else "system",
        "underlay": plan.UNDERLAY_BRIDGE if datapath.userspace else plan.UPLINK,
        "tunnel_type": datapath.tunnel,
        "cni_conf_dir": str(paths.cni_configuration),
        "cni_bin_dir": str(paths.cni_plugins),
        "socket": str(paths.agent / "agent.sock"),
        "state_dir": str(paths.agent),
    }


def toml(values: Mapping[str, object]) -> str:
    """A flat TOML file; strings, numbers and lists of them are written as JSON writes them."""
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())


def start(layout: Layout, host: plan.Host, controller: Controller, datapath: Datapath) -> None:
    """Write the agent's configuration and start it in the node's namespace.

    Raises:
        ProcessError, OSError: it cannot be started.
    """
    directory = layout.node(host.name).agent
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "agent.toml"
    file.write_text(toml(options(layout, host, controller, datapath)))
    command = (sys.executable, "-m", "ovsnet.cni.agent", "--config", str(file))
    process.start(
        layout,
        Spec(node.process_name(node.AGENT, host.name), command, str(layout.netns(host.name))),
    )
