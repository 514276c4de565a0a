"""The node that cnitool runs on, and cnitool on it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import sqlite3
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import urllib3

from ovsnet import names
from ovsnet.sandbox import cluster, netns, plan, process, teardown
from ovsnet.sandbox.layout import CONTROL, Layout, layout
from ovsnet.sandbox.node import ovs_environment
from ovsnet.sandbox.state import CONTROLLER_HTTP_PORT
from tests.conformance.programs import CniPrograms

INSTANCE = layout("conformance")
NODE = "node1"
NAMESPACE = "default"
NETWORK = "ovsnet"
DEBIAN_PLUGINS = Path("/usr/lib/cni")
DEADLINE = 4.0
"""Seconds that an ADD may take here, so that those that must fail do so soon."""

PATIENCE = 20.0
"""Seconds after which something that must happen is taken not to happen."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Container:
    """A container without an interface yet: its namespace, and its pod in the API."""

    netns: Path
    pod: str
    uid: str

    @property
    def args(self) -> str:
        return (
            f"IgnoreUnknown=1;K8S_POD_NAMESPACE={NAMESPACE};K8S_POD_NAME={self.pod};"
            f"K8S_POD_UID={self.uid}"
        )

    @property
    def port(self) -> str:
        return names.port_name(NAMESPACE, self.pod, self.uid)


@dataclass(frozen=True)
class Outcome:
    """What a run of cnitool gave."""

    status: int
    stdout: str
    stderr: str

    @property
    def result(self) -> Json:
        assert self.status == 0, self
        return json.loads(self.stdout)

    def failed_with(self, *words: str) -> bool:
        return self.status != 0 and all(word in self.stderr for word in words)


@dataclass
class Cluster:
    """A sandbox of one node whose kubelet stand-in is stopped."""

    programs: CniPrograms
    layout: Layout = INSTANCE

    def start(self) -> None:
        teardown.down(self.layout)
        state = cluster.up(self.layout, 1, lambda _: None)
        self._api = state.apiserver.url
        process.end(process.known(self.layout, f"kubelet-{NODE}"))
        # libcni keeps results below /var/lib/cni; each run of it sees this directory there.
        self.library = self.layout.root / "var-lib"
        (self.library / "cni").mkdir(parents=True)
        self.confs = self.layout.root / "net.d"
        self.confs.mkdir()
        self.restart_agent(deadline=DEADLINE)
        self._own_flows = self._flows()

    def stop(self) -> None:
        teardown.down(self.layout)

    def restart_agent(self, **options: float) -> None:
        self.kill(f"agent-{NODE}", signal.SIGTERM)
        file = self.layout.node(NODE).agent / "agent.toml"
        file.write_text(file.read_text() + "".join(f"{k} = {v}\n" for k, v in options.items()))
        self.start_again(f"agent-{NODE}")
        self.until(self.is_ready, "the agent to be ready", self.status)

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        assert process.end(process.known(self.layout, name), how)

    def start_again(self, name: str) -> None:
        cluster.start_process(self.layout, name)

    def start_controller(self) -> None:
        """Start it again and wait until it has compared the switch with what it should have.

        The database, and so STATUS, may say for 5 s that an ended controller is connected.
        """
        self.start_again("controller")
        self.until(lambda: self._session() == "steady", "the controller to be back")

    def start_switch(self) -> None:
        """Start it again and wait until the controller has given it its flows.

        Neither controller nor database may have noticed that it was away: with the userspace
        datapath the node's own connections go through it.
        """
        self.start_again(f"ovs-vswitchd-{NODE}")
        self.until(lambda: self._flows() == self._own_flows, "the switch to have its flows")

    def is_ready(self) -> bool:
        """The node takes pods, and the controller has a session with its switch."""
        return self.status() == {} and self._session() == "steady"

    def _session(self) -> str:
        url = f"http://127.0.0.1:{CONTROLLER_HTTP_PORT}/status"

        def ask() -> str:
            with urllib3.PoolManager() as pool:
                nodes = pool.request("GET", url, timeout=5, retries=False).json()["nodes"]
            return str(nodes[0]["session"]) if nodes else "none"

        try:
            return netns.within(self.layout.netns(CONTROL), ask)
        except urllib3.exceptions.HTTPError:
            return "none"

    def until(
        self, condition: Callable[[], bool], what: str, now: Callable[[], object] = lambda: ""
    ) -> None:
        """Wait for `what`; `now` tells how things stand if that is in vain."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f"waited in vain for {what}; now: {now()}"
            time.sleep(0.1)

    # --- containers ---

    @contextlib.contextmanager
    def container(self, *, known: bool = True) -> Iterator[Container]:
        """A container; unless `known` the API has no pod for it, so the controller will refuse."""
        name = f"conf-{secrets.token_hex(4)}"
        uid = self.create_pod(name) if known else str(uuid.uuid4())
        path = self.layout.netns(f"pod-{name}")
        netns.create(path)
        try:
            yield Container(path, name, uid)
        finally:
            netns.delete(path)
            if known:
                self.api("DELETE", f"/{name}", {"gracePeriodSeconds": 0})

    def create_pod(self, name: str) -> str:
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {"nodeName": NODE, "containers": [{"name": "main", "image": "any"}]},
        }
        return str(self.api("POST", "", pod)["metadata"]["uid"])

    def api(self, method: str, path: str, body: Json) -> Json:
        url = f"{self._api}/api/v1/namespaces/{NAMESPACE}/pods{path}"
        with urllib3.PoolManager() as pool:
            answer = pool.request(method, url, json=body, timeout=10)
        assert answer.status < 300, answer.data
        return answer.json()

    # --- network configurations ---

    @property
    def agents_conf(self) -> Path:
        """The configuration that the agent wrote."""
        return self.layout.node(NODE).cni_configuration

    def conf(
        self, *plugins: Json, version: str = "1.1.0", name: str = NETWORK, **more: Any
    ) -> Path:
        """A directory with one configuration list, for NETCONFPATH."""
        directory = self.confs / secrets.token_hex(4)
        directory.mkdir()
        value = {"cniVersion": version, "name": name, "plugins": list(plugins), **more}
        (directory / "10-test.conflist").write_text(json.dumps(value))
        return directory

    # --- libcni ---

    def cnitool(
        self,
        verb: str,
        container: Container,
        conf: Path | None = None,
        *,
        args: str | None = None,
        capabilities: Json | None = None,
        network: str = NETWORK,
        ifname: str = "eth0",
    ) -> Outcome:
        variables = {
            "CNI_ARGS": container.args if args is None else args,
            "CNI_IFNAME": ifname,
            "CAP_ARGS": json.dumps(capabilities) if capabilities else "",
        }
        command = [str(self.programs.cnitool), verb, network, str(container.netns)]
        return self._run(command, conf, variables)

    def status(self, conf: Path | None = None) -> Json:
        """STATUS through libcni: the error, or nothing."""
        return self._library(["status", NETWORK], conf)

    def gc(self, keep: Sequence[str], conf: Path | None = None) -> Json:
        """GC through libcni with the ids of the containers to keep."""
        return self._library(["gc", NETWORK, *keep], conf)

    def _library(self, arguments: list[str], conf: Path | None) -> Json:
        outcome = self._run([str(self.programs.libcni), *arguments], conf, {})
        assert outcome.status in {0, 1}, outcome
        return json.loads(outcome.stdout) if outcome.status else {}

    def _run(self, command: list[str], conf: Path | None, variables: dict[str, str]) -> Outcome:
        plugins = (self.layout.node(NODE).cni_plugins, DEBIAN_PLUGINS)
        # The tables of iptables and what plugins keep below /var/lib are this node's own.
        inside = f'mount --bind {self.library} /var/lib && exec "$@"'
        done = subprocess.run(
            [
                *("nsenter", f"--net={self.layout.netns(NODE)}"),
                *("unshare", "--mount", "--propagation=private"),
                *("sh", "-c", inside, "-", *command),
            ],
            env={
                "PATH": os.environ["PATH"],
                "NETCONFPATH": str(conf or self.agents_conf),
                "CNI_PATH": ":".join(map(str, plugins)),
                **variables,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    # --- what libcni keeps ---

    def cached(self, container: Container, network: str = NETWORK) -> Path:
        """The file with the result of the container's ADD."""
        (found,) = self.library.glob(f"cni/results/{network}-{container_id(container)}-*")
        return found

    def forget(self) -> None:
        """Lose all cached results, as a machine does that is set up anew."""
        shutil.rmtree(self.library / "cni", ignore_errors=True)
        (self.library / "cni").mkdir()

    def clear(self) -> None:
        """Remove what a failed test has left, so that the next one fails for its own reasons."""
        if self.left():
            self.gc([])
            self.forget()

    # --- the node ---

    def on_node(self, *command: str) -> str:
        environment = os.environ | ovs_environment(self.layout.node(NODE).ovs)
        return self._inside(self.layout.netns(NODE), command, environment)

    def in_container(self, container: Container, *command: str) -> str:
        return self._inside(container.netns, command, dict(os.environ))

    def _inside(self, path: Path, command: Sequence[str], environment: dict[str, str]) -> str:
        done = subprocess.run(
            ["nsenter", f"--net={path}", *command],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def ping(self, container: Container, result: Json) -> None:
        """The node reaches each of the container's addresses, and the container its gateways."""
        for ip in result["ips"]:
            address = str(ip_interface(ip["address"]).ip)
            self.on_node("ping", "-c1", "-W2", address)
            self.in_container(container, "ping", "-c1", "-W2", ip["gateway"])

    def ports(self) -> set[str]:
        return set(self.on_node("ovs-vsctl", "list-ports", names.BRIDGE).split()) - (
            names.RESERVED_PORTS
        )

    def left(self) -> Json:
        """What is left of containers on the node: nothing, when all are deleted."""
        database = self.layout.node(NODE).agent / "agent.db"
        with closing(sqlite3.connect(database)) as db:
            records = db.execute("SELECT container_id, state FROM attachment").fetchall()
            held = db.execute("SELECT COUNT(*) FROM address WHERE free_at IS NULL").fetchone()[0]
        links = json.loads(self.on_node("ip", "-j", "link", "show", "type", "veth") or "[]")
        found: Json = {
            "ports": self.ports(),
            "links": {link["ifname"] for link in links} - {plan.UPLINK},
            "records": records,
            "addresses": held,
            "results": [path.name for path in self.library.glob("cni/results/*")],
            "flows": self._flows() - self._own_flows,
        }
        return {what: value for what, value in found.items() if value}

    def _flows(self) -> int:
        """How many flows the switch has; none while it does not answer."""
        with contextlib.suppress(AssertionError):
            said = self.on_node("ovs-ofctl", "-O", "OpenFlow15", "dump-aggregate", names.BRIDGE)
            if found := re.search(r"flow_count=(\d+)", said):
                return int(found[1])
        return 0


def container_id(container: Container) -> str:
    """The id that cnitool gives to a container: a hash of its namespace's path."""
    return "cnitool-" + hashlib.sha512(str(container.netns).encode()).digest()[:10].hex()
