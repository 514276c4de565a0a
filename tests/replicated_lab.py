"""A sandbox with several controllers, which agents find behind a service, for tests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import urllib.error
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lab_api import ApiRefusalError
from lab_processes import WITHOUT_PROXY
from places import wait_for
from sandbox_lab import Lab
from secure_lab import SecureLab, restart_agent

from ovsnet.sandbox import cluster, plan, process, state

SYSTEM, NAME = "ovsnet-system", "ovsnet-controller"
LEASE = f"{SYSTEM}/{NAME}"
_SLICES = f"/apis/discovery.k8s.io/v1/namespaces/{SYSTEM}/endpointslices"
_LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/{NAME}"
_APART = 10
"""The ports of two controllers are that far apart, as they share an address."""


class ReplicatedLab:
    """What tests do to it. `replicas` are the names of the controllers' processes, which speak TLS
    if it is to be `secure`.
    """

    def __init__(self, lab: Lab, count: int, *, secure: bool = False) -> None:
        self.lab = lab
        self.secure = secure
        self.control = plan.plan(1).control.ipv4
        numbered = [f"{state.CONTROLLER}-{number}" for number in range(2, count + 1)]
        self.replicas = (state.CONTROLLER, *numbered)

    def replicate(self) -> None:
        """Have several controllers in the place of one, and agents that follow the service."""
        lab = self.lab
        self.publish_all()
        if self.secure:
            SecureLab(lab).register_agents()
        lab.restart_with(state.CONTROLLER, *self._command(state.CONTROLLER))
        where = str(lab.layout.netns("control"))
        for replica in self.replicas[1:]:
            process.start(lab.layout, process.Spec(replica, self._command(replica), where))
        for name in lab.nodes:
            self._follow(name)

    def publish_all(self) -> None:
        """Make the service, with all controllers as its endpoints."""
        lab = self.lab
        lab.ensure("/api/v1/namespaces", {"metadata": {"name": SYSTEM}})
        ports = {"openflow": cluster.OPENFLOW_PORT, "agents": cluster.AGENTS_PORT}
        spec = {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "ports": [{"name": name, "port": port} for name, port in ports.items()],
        }
        body = {"metadata": {"name": NAME}, "spec": spec}
        lab.api("POST", f"/api/v1/namespaces/{SYSTEM}/services", body)
        for replica in self.replicas:
            self.publish(replica)

    def publish(self, replica: str) -> None:
        """Let a controller be one of the service's endpoints."""
        apart = _APART * self.replicas.index(replica)
        ports = {
            "openflow": cluster.OPENFLOW_PORT + apart,
            "agents": cluster.AGENTS_PORT + apart,
        }
        slice_ = {
            "metadata": {
                "name": f"{NAME}-{replica}",
                "labels": {
                    "kubernetes.io/service-name": NAME,
                    "endpointslice.kubernetes.io/managed-by": "tests",
                    "service.kubernetes.io/headless": "",
                },
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [str(self.control)], "conditions": {"ready": False}}],
            "ports": [{"name": n, "port": p, "protocol": "TCP"} for n, p in ports.items()],
        }
        self.lab.api("POST", _SLICES, slice_)

    def withdraw(self, replica: str) -> None:
        """Let a controller be an endpoint no more."""
        self.lab.api("DELETE", f"{_SLICES}/{NAME}-{replica}")

    def target(self, replica: str) -> str:
        """By what switches know a controller."""
        apart = _APART * self.replicas.index(replica)
        return f"{'ssl' if self.secure else 'tcp'}:{self.control}:{cluster.OPENFLOW_PORT + apart}"

    def _command(self, replica: str) -> Sequence[str]:
        plain = {"--plain"} if self.secure else set()
        words = [word for word in self.lab.command(state.CONTROLLER) if word not in plain]
        apart = _APART * self.replicas.index(replica)
        changed = {
            "--listen": f"{self.control}:{cluster.OPENFLOW_PORT + apart}",
            "--agents": f"{self.control}:{cluster.AGENTS_PORT + apart}",
            "--http": f"127.0.0.1:{state.CONTROLLER_HTTP_PORT + apart}",
        }
        for option, value in changed.items():
            words[words.index(option) + 1] = value
        if "--lease" in words:
            words = words[: words.index("--lease")]
        return (*words, "--lease", LEASE, "--pod", replica, "--pod-address", str(self.control))

    def _follow(self, name: str) -> None:
        service = {"controller_service": LEASE}
        if self.secure:
            SecureLab(self.lab).start_agent(name, service)
        else:
            restart_agent(self.lab, name, service | {"plain": True})
        self.lab.wait_for_agent(name)

    # --- what is asked ---

    def get(self, replica: str, path: str) -> tuple[int, bytes]:
        """What a controller answers: the HTTP status, and the body."""
        apart = _APART * self.replicas.index(replica)
        url = f"http://127.0.0.1:{state.CONTROLLER_HTTP_PORT + apart}{path}"

        def ask() -> tuple[int, bytes]:
            try:
                with WITHOUT_PROXY.open(url, timeout=5) as answer:
                    return answer.status, answer.read()
            except urllib.error.HTTPError as error:
                return error.code, error.read()

        return self.lab.control.within(ask)

    def status(self, replica: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.get(replica, "/status")[1])
        return document

    def metric(self, replica: str, sample: str) -> float:
        lines = self.get(replica, "/metrics")[1].decode().splitlines()
        found = [line.rpartition(" ")[2] for line in lines if line.startswith(f"{sample} ")]
        return float(found[0]) if found else 0.0

    def leaders(self) -> list[str]:
        """All that say that they lead; those that do not answer do not."""
        found = []
        for replica in self.replicas:
            with contextlib.suppress(OSError, ValueError):
                if self.lab.alive(replica) and self.status(replica)["leadership"]["leads"]:
                    found.append(replica)
        return found

    def wait_for_leader(self, *others_than: str) -> str:
        """The one that leads all switches, and has confirmed that they are as they should be."""

        def serving() -> str:
            for replica in set(self.replicas) - set(others_than):
                with contextlib.suppress(OSError, ValueError):
                    document = self.status(replica)
                    if document["leadership"]["leads"] and self._serves(document):
                        return replica
            return ""

        return wait_for(serving, lambda: f"a leader; {self.statuses()}", 60)

    def _serves(self, document: dict[str, Any]) -> bool:
        nodes = [node for node in document["nodes"] if node["name"] in self.lab.nodes]
        return len(nodes) == len(self.lab.nodes) and all(
            node["session"] == "steady"
            and node["revision"]["acknowledged"] == node["revision"]["desired"]
            for node in nodes
        )

    def wait_until_warm(self, replica: str) -> None:
        """Wait until one that stands by knows of all switches."""

        def warm() -> bool:
            with contextlib.suppress(OSError, ValueError):
                document = self.status(replica)
                nodes = [node for node in document["nodes"] if node["name"] in self.lab.nodes]
                return not document["leadership"]["leads"] and all(
                    node["session"] == "standing_by" for node in nodes
                )
            return False

        wait_for(warm, lambda: f"{replica} to be warm; {self.statuses()}", 60)

    def statuses(self) -> dict[str, Any]:
        """Everybody's leadership and sessions, for people."""
        found: dict[str, Any] = {}
        for replica in self.replicas:
            try:
                document = self.status(replica)
            except (OSError, ValueError) as error:
                found[replica] = repr(error)
            else:
                sessions = {node["name"]: node["session"] for node in document["nodes"]}
                found[replica] = document["leadership"], sessions
        return found

    def roles(self, name: str) -> dict[str, str]:
        """What each controller is to a switch, by its target; empty while it is not connected."""
        text = self.lab.ovs(
            name, "ovs-vsctl", "--format=json", "--columns=target,role,is_connected",
            "list", "Controller",
        )  # fmt: skip
        return {
            target: role if connected and isinstance(role, str) else ""
            for target, role, connected in json.loads(text)["data"]
        }

    def lease(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.lab.api("GET", _LEASE)["spec"]
        return spec

    def delete_lease(self) -> None:
        self.lab.api("DELETE", _LEASE)

    # --- what is done ---

    @contextlib.contextmanager
    def paused(self, name: str) -> Iterator[None]:
        """A process is stopped, as by SIGSTOP, for as long as this lasts."""
        # A real API server is more than one process.
        family = _family(process.known(self.lab.layout, name).pid)
        for pid in family:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in family:
                os.kill(pid, signal.SIGCONT)

    def end_gracefully(self, replica: str) -> None:
        self.lab.kill(replica, signal.SIGTERM)
        wait_for(lambda: not self.lab.alive(replica), f"{replica} to end")

    def mend(self) -> None:
        """Start every controller that has ended, and wait until one leads and the rest are warm."""
        for replica in self.replicas:
            if not self.lab.alive(replica):
                self.lab.start(replica)
            with contextlib.suppress(ApiRefusalError):
                self.publish(replica)
        leader = self.wait_for_leader()
        for replica in set(self.replicas) - {leader}:
            self.wait_until_warm(replica)


def _family(pid: int) -> list[int]:
    """A process and all that it has started, and these (proc(5), /proc/PID/task/TID/children)."""
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(word) for each in listed for word in each.read_text().split()]
    return [pid, *(one for child in children for one in _family(child))]
