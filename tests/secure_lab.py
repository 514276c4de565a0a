"""A sandbox whose controller and nodes speak TLS, after they have spoken plain TCP."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

from lab_api import ApiRefusalError
from places import wait_for
from sandbox_lab import Lab

from ovsnet.cni.credentials import Files
from ovsnet.cni.exchange import Exchange
from ovsnet.cni.identity import client_context
from ovsnet.names import AUDIENCE, AUTHORITY
from ovsnet.sandbox import agent, cluster, identities, plan, process
from ovsnet.sandbox.state import CONTROLLER

SYSTEM = "ovsnet-system"
ACCOUNT = "ovsnet-node"
_ALL = f"/api/v1/namespaces/{SYSTEM}"
SECRET, CONFIG_MAP = f"{_ALL}/secrets/{AUTHORITY}", f"{_ALL}/configmaps/{AUTHORITY}"
SECOND = "controller-2"
SECOND_OPENFLOW, SECOND_AGENTS, SECOND_HTTP = 6663, 9106, 9105


class SecureLab:
    """What tests do to it. The agents' pods are there in the API alone, for the tokens' sake."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.control = plan.plan(1).control.ipv4
        self._command: tuple[str, ...] = ()

    def secure(self, *options: str) -> None:
        """Have controller and agents speak TLS from now on."""
        self.register_agents()
        self.start_controller(*options)
        for name in self.lab.nodes:
            self.secure_agent(name)

    def register_agents(self) -> None:
        """Make the agents' account, and the pods whose tokens they show."""
        lab = self.lab
        lab.ensure("/api/v1/namespaces", {"metadata": {"name": SYSTEM}})
        for account in (ACCOUNT, "somebody"):
            lab.ensure(f"{_ALL}/serviceaccounts", {"metadata": {"name": account}})
        for name in lab.nodes:
            self.post_pod(f"{ACCOUNT}-{name}", name)

    def start_controller(self, *options: str) -> None:
        if not self._command:
            plain = self.lab.command(CONTROLLER)
            self._command = tuple(word for word in plain if word != "--plain")
        self.lab.restart_with(CONTROLLER, *self._command, *options)

    def start_second(self, *options: str) -> None:
        """A second controller, to which no switch connects by itself."""
        command = (
            *(sys.executable, "-m", "ovsnet.controller"),
            *("--kubeconfig", str(identities.controller(self.lab.layout))),
            *("--listen", f"{self.control}:{SECOND_OPENFLOW}"),
            *("--agents", f"{self.control}:{SECOND_AGENTS}"),
            *("--http", f"127.0.0.1:{SECOND_HTTP}"),
        )
        where = self.lab.layout.netns("control")
        process.start(self.lab.layout, process.Spec(SECOND, (*command, *options), str(where)))

    def secure_agent(self, name: str, *, both: bool = False) -> None:
        """Start a node's agent so that it speaks TLS, with one controller or with both."""
        ports = [(cluster.OPENFLOW_PORT, cluster.AGENTS_PORT)]
        if both:
            ports.append((SECOND_OPENFLOW, SECOND_AGENTS))
        options: dict[str, Any] = {
            "controllers": [f"ssl:{self.control}:{openflow}" for openflow, _ in ports],
            "agents_urls": [self.url(agents) for _, agents in ports],
        }
        self.start_agent(name, options)

    def discover(self, name: str) -> None:
        """Have a node's agent find the controller by its Service, which says TLS by itself."""
        service = {"metadata": {"name": "ovsnet-controller"}}
        ports = [
            {"name": "openflow", "port": cluster.OPENFLOW_PORT},
            {"name": "agents", "port": cluster.AGENTS_PORT},
        ]
        self.lab.ensure(
            f"{_ALL}/services", service | {"spec": {"clusterIP": "None", "ports": ports}}
        )
        metadata = {
            "name": "ovsnet-controller-1",
            "labels": {"kubernetes.io/service-name": "ovsnet-controller"},
        }
        found = {
            "metadata": metadata,
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": [{"addresses": [str(self.control)]}],
        }
        path = f"/apis/discovery.k8s.io/v1/namespaces/{SYSTEM}/endpointslices"
        self.lab.ensure(path, found)
        self.start_agent(name, {"controller_service": f"{SYSTEM}/ovsnet-controller"})

    def start_agent(self, name: str, options: dict[str, Any]) -> None:
        """As `restart_agent`, with a token."""
        token = self.lab.layout.node(name).agent / "token"
        token.write_text(self.token(f"{ACCOUNT}-{name}"))
        restart_agent(self.lab, name, options | {"token": str(token)})

    def url(self, port: int = cluster.AGENTS_PORT) -> str:
        return f"https://{self.control}:{port}"

    def post(self, what: str, body: Any) -> Any:
        return self.lab.api("POST", f"{_ALL}/{what}", body)

    def post_pod(self, name: str, node: str, account: str = ACCOUNT) -> None:
        """A pod of an account; in the host's network, so that nobody has to make it one."""
        spec = {
            "nodeName": node,
            "hostNetwork": True,
            "serviceAccountName": account,
            "containers": [{"name": "main", "image": "none"}],
        }
        self.post("pods", {"metadata": {"name": name}, "spec": spec})

    def token(self, pod: str, audience: str = AUDIENCE, account: str = ACCOUNT) -> str:
        """As the kubelet asks for it for a projected volume; without a pod it is bound to none."""
        spec: dict[str, Any] = {"audiences": [audience], "expirationSeconds": 7200}
        if pod:
            uid = self.lab.api("GET", f"{_ALL}/pods/{pod}")["metadata"]["uid"]
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}
        answer = self.post(f"serviceaccounts/{account}/token", {"spec": spec})
        return str(answer["status"]["token"])

    def files(self, name: str) -> Files:
        """The files of a node's certificate."""
        return Files(self.lab.layout.node(name).agent / "tls")

    def bundle(self) -> str:
        """What the ConfigMap says; empty while there is none."""
        try:
            return str(self.lab.api("GET", CONFIG_MAP)["data"]["ca.crt"])
        except ApiRefusalError:
            return ""

    def secret(self) -> dict[str, str]:
        """The data of the Secret."""
        return dict(self.lab.api("GET", SECRET)["data"])

    def ask(
        self, path: str, document: object, certified: str = "", port: int = cluster.AGENTS_PORT
    ) -> Any:
        """POST to a controller from within its namespace, with a node's certificate or without."""
        credentials = self.files(certified).node if certified else None
        context = client_context(self.bundle(), credentials)
        exchange = Exchange(self.url(port), tls=lambda: context)
        try:
            return self.lab.control.within(lambda: exchange.post(path, document))
        finally:
            exchange.close()

    def wait_until_secure(self) -> None:
        """Wait until every switch is in step and every agent's reports are believed."""

        def settled() -> bool:
            with contextlib.suppress(OSError):
                nodes = {node["name"]: node for node in self.lab.status()["nodes"]}
                return nodes.keys() == set(self.lab.nodes) and all(
                    node["session"] == "steady"
                    and node["revision"]["settled"] == node["revision"]["desired"]
                    for node in nodes.values()
                )
            return False

        # A switch may wait for 8 s before it connects again.
        wait_for(settled, lambda: f"all to be settled: {self.lab.log(CONTROLLER)[-3000:]}", 90)

    def targets(self, name: str) -> str:
        """The controllers to which a node's switch is connected."""
        return self.lab.ovs(
            name, "ovs-vsctl", "--columns=target,is_connected", "list", "Controller"
        )


def restart_agent(lab: Lab, name: str, options: dict[str, Any]) -> None:
    """Start a node's agent anew, with these options about controllers in place of its own."""
    file = lab.layout.node(name).agent / "agent.toml"
    others = {"controllers", "agents_urls", "controller_service", "token"}
    lines = file.read_text().splitlines()
    kept = [line for line in lines if line.split()[0] not in others]
    file.write_text("\n".join(kept) + "\n" + agent.toml(options))
    lab.kill(f"agent-{name}")
    lab.start(f"agent-{name}")


def mode(path: Path) -> int:
    """A file's permissions."""
    return path.stat().st_mode & 0o7777
