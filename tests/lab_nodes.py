"""A sandbox's nodes for tests: as places of packets, what of pods is on them, and their plugin."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from lab_api import ApiSide
from places import SECONDS, Place, wait_for

from ovsnet.model import IPNetwork
from ovsnet.names import GATEWAY_OFFSET, RESERVED_PORTS
from ovsnet.sandbox import netns, node, plan
from ovsnet.sandbox.kubelet.sandboxes import Sandbox, Stage, Store, Target
from ovsnet.sandbox.layout import CONTROL, NETNS_DIRECTORY, OUTSIDE


class CommandError(Exception):
    """One of Open vSwitch's commands failed."""


@dataclass(frozen=True)
class Execution:
    """What one execution of the plugin gave."""

    status: int
    output: dict[str, Any]

    @property
    def code(self) -> int:
        return int(self.output["code"])

    @property
    def message(self) -> str:
        return f"{self.output.get('msg')}: {self.output.get('details', '')}"


@dataclass
class NodeSide(ApiSide):
    """One sandbox, by its nodes and the hosts beside them."""

    def host(self, name: str) -> Place:
        """A node, by its side of the pod network."""
        found = next(n for n in self.state.nodes if n.name == name)
        addresses = [r[GATEWAY_OFFSET] for r in self.pod_ranges(name)]
        return Place(name, Path(found.netns), "ovsnet-gw0", *addresses)

    def pod_ranges(self, name: str) -> tuple[IPNetwork, ...]:
        """A node's pod ranges."""
        ranges = self.api("GET", f"/api/v1/nodes/{name}")["spec"]["podCIDRs"]
        return tuple(map(ip_network, ranges))

    def underlay(self, name: str) -> Place:
        """A node, by its addresses on the fabric."""
        found = next(n for n in self.state.nodes if n.name == name)
        addresses = [ip_address(a) for a in found.addresses]
        interface = plan.UNDERLAY_BRIDGE if self.state.userspace else plan.UPLINK
        return Place(name, Path(found.netns), interface, *addresses)

    @property
    def outside(self) -> Place:
        addresses = [ip_address(a) for a in self.state.outside.addresses]
        return Place(OUTSIDE, self.layout.netns(OUTSIDE), plan.UPLINK, *addresses)

    @property
    def control(self) -> Place:
        host = plan.plan(1).control
        return Place(CONTROL, self.layout.netns(CONTROL), plan.UPLINK, host.ipv4, host.ipv6)

    def environment(self, name: str) -> Mapping[str, str]:
        rundir = Path(self.state.node(name).ovs_rundir)
        return os.environ | node.ovs_environment(rundir)

    def ovs(self, name: str, *command: str) -> str:
        """Run one of Open vSwitch's commands on a node's switch."""
        done = subprocess.run(
            command,
            env=dict(self.environment(name)),
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        if done.returncode:
            raise CommandError(f"{name}: {' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def meddle(self, name: str, verb: str, *rest: str) -> None:
        """Change the flows of a node's switch behind the controller's back."""
        self.ovs(name, "ovs-ofctl", "-O", "OpenFlow15", "--names", verb, "br-int", *rest)

    def sandboxes(self, name: str) -> tuple[Sandbox, ...]:
        found = Store(self.layout.node(name).kubelet).all()
        return tuple(s for s in found if s.stage is Stage.READY)

    def pod_ports(self, name: str) -> set[str]:
        listed = self.ovs(name, "ovs-vsctl", "--timeout=10", "list-ports", "br-int").split()
        return set(listed) - RESERVED_PORTS

    def veths(self, name: str) -> set[str]:
        done = subprocess.run(
            ["ip", "-n", self.layout.netns(name).name, "-j", "link", "show", "type", "veth"],
            capture_output=True,
            text=True,
            check=True,
        )
        links = {link["ifname"] for link in json.loads(done.stdout or "[]") if link}
        return links - {plan.UPLINK}

    def wait_for_links(self) -> None:
        """Wait until no link is left of pods that are gone: they go a little later."""
        for name in self.nodes:
            wait_for(
                lambda name=name: self.veths(name) == self.pod_ports(name),
                f"the links of deleted pods of {name} to go",
            )

    def pod_namespaces(self, name: str) -> set[str]:
        prefix = self.layout.netns(f"pod-{name}").name
        return {path.name for path in NETNS_DIRECTORY.glob(f"{prefix}-*")}

    def attachments(self, name: str) -> list[tuple[str, str, str]]:
        """The agent's records: container, state, addresses."""
        path = self.layout.node(name).agent / "agent.db"
        with contextlib.closing(sqlite3.connect(path)) as db:
            return list(db.execute("SELECT container_id, state, addresses FROM attachment"))

    def held_addresses(self, name: str) -> int:
        path = self.layout.node(name).agent / "agent.db"
        with contextlib.closing(sqlite3.connect(path)) as db:
            query = "SELECT count(*) FROM address WHERE container_id IS NOT NULL"
            return int(db.execute(query).fetchone()[0])

    def leftovers(self, name: str) -> dict[str, Any]:
        """Whatever of pods is on a node; every value is empty where there is none."""
        return {
            "ports": self.pod_ports(name),
            "veths": self.veths(name),
            "namespaces": self.pod_namespaces(name),
            "attachments": self.attachments(name),
            "addresses": self.held_addresses(name),
        }

    def container(self, name: str, namespace: str, pod: str, uid: str) -> Target:
        """A container's namespace on a node, that no kubelet knows."""
        identity = os.urandom(32).hex()
        path = self.layout.netns(f"pod-{name}-{identity[:12]}")
        netns.create(path)
        return Target(identity, str(path), namespace, pod, uid)

    def plugin(self, name: str, verb: str, target: Target) -> Execution:
        """Execute the plugin for a container as a runtime does."""
        paths = self.layout.node(name)
        (conflist,) = paths.cni_configuration.glob("*.conflist")
        network = json.loads(conflist.read_text())
        configuration = {**network["plugins"][0], "name": network["name"], "cniVersion": "1.1.0"}
        environment = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": target.container_id,
            "CNI_NETNS": target.netns,
            "CNI_ARGS": target.arguments,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(paths.cni_plugins),
        }
        done = self.underlay(name).within(
            lambda: subprocess.run(
                [paths.cni_plugins / "ovsnet"],
                env=os.environ | environment,
                input=json.dumps(configuration).encode(),
                capture_output=True,
                check=False,
                timeout=60,
            )
        )
        return Execution(done.returncode, json.loads(done.stdout) if done.stdout.strip() else {})
