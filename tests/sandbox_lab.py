"""A real sandbox for tests, and what they do to it.

Everything runs as users run it: API server, controller, agents and kubelet stand-ins are processes
of their own, pods are namespaces set up through the plugin. Only the embedded API server is started
through a few lines here, so that a test can choose a pod's uid. Where Kubernetes' own is at hand
(see `real_apiserver`), sandboxes run on that; tests that need what it does not do skip themselves.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPSConnection
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import datapath
import deployed
import pytest
import real_apiserver
from places import SECONDS, Place, PodPlace, pod_place, wait_for
from programs import AGENT_THAT_DIES, API_SERVER_WITH_CHOSEN_UIDS, UID_ANNOTATION

from ovsnet.model import ContainerPort, IPNetwork
from ovsnet.names import GATEWAY_OFFSET, RESERVED_PORTS
from ovsnet.sandbox import (
    access,
    agent,
    api_server,
    cluster,
    fabric,
    identities,
    netns,
    node,
    plan,
    process,
    state,
    teardown,
)
from ovsnet.sandbox.kubelet.sandboxes import Sandbox, Stage, Store, Target
from ovsnet.sandbox.layout import CONTROL, FABRIC, NETNS_DIRECTORY, OUTSIDE, Layout, layout
from ovsnet.sandbox.state import API_SERVER
from ovsnet.sandbox.wishes import Wishes

_WITHOUT_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_MANY_SECONDS = 200.0
NAMESPACE = "lab"
ACCOUNTS = tuple(
    f"system:serviceaccount:{identities.NAMESPACE}:{name}"
    for name in (identities.CONTROLLER, identities.AGENT)
)
"""Controller and agents, as the API server knows them."""

PORTS = (ContainerPort("http", 80, "TCP"), ContainerPort("echo", 80, "UDP"))
"""What a pod declares unless told otherwise."""


class CommandError(Exception):
    """One of Open vSwitch's commands failed."""


class ApiRefusalError(Exception):
    """The API server said no."""


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
class Lab:
    """One sandbox. `extra` are options that its controller is started with besides, `embedded`
    is the program that its API server runs as, where that is the embedded one. Where it is a real
    one, controller and agents have the rights that an installed network has.
    """

    instance: str
    extra: tuple[str, ...] = ()
    embedded: str = API_SERVER_WITH_CHOSEN_UIDS
    layout: Layout = field(init=False)

    def __post_init__(self) -> None:
        self.layout = layout(self.instance)

    def up(self, nodes: int = 3) -> None:
        programs = real_apiserver.at_hand()
        original_embedded, original_controller = api_server._EMBEDDED, cluster._controller

        def controller(*args: Any) -> process.Spec:
            spec = original_controller(*args)
            return process.Spec(spec.name, (*spec.command, *self.extra), spec.netns)

        api_server._EMBEDDED = (sys.executable, "-c", self.embedded)
        cluster._controller = controller
        try:
            cluster.up(
                self.layout,
                nodes,
                lambda text: None,
                Wishes(
                    str(programs or ""), datapath.TUNNEL, deployed.objects() if programs else ()
                ),
            )
        finally:
            api_server._EMBEDDED, cluster._controller = original_embedded, original_controller
        way = access.of_file(self.layout.kubeconfig)
        self._open = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=way.tls)
        ).open
        self.api("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})

    def down(self) -> None:
        teardown.down(self.layout)

    @property
    def state(self) -> state.State:
        return state.running(self.layout)

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(each.name for each in self.state.nodes)

    # --- the API ---

    def api(self, method: str, path: str, body: Any = None, kind: str = "json") -> Any:
        return json.loads(self.api_bytes(method, path, body, kind))

    def ensure(self, path: str, body: Any) -> None:
        """Make an object, unless there is one of that name."""
        try:
            self.api("POST", path, body)
        except ApiRefusalError as refusal:
            if not str(refusal).startswith("409"):
                raise

    def api_bytes(self, method: str, path: str, body: Any = None, kind: str = "json") -> bytes:
        kinds = {"json": "application/json", "merge": "application/merge-patch+json"}
        request = urllib.request.Request(
            self.state.apiserver.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": kinds[kind]},
        )
        try:
            with self._open(request, timeout=SECONDS) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            raise ApiRefusalError(f"{error.code}: {error.read().decode()}") from None

    def connection(self) -> HTTPConnection:
        """A connection to the API server, for many requests."""
        url = urlsplit(self.state.apiserver.url)
        host, port = url.hostname or "", url.port
        if not self.real:
            return HTTPConnection(host, port, timeout=_MANY_SECONDS)
        tls = access.of_file(self.layout.kubeconfig).tls
        return HTTPSConnection(host, port, timeout=_MANY_SECONDS, context=tls)

    @property
    def real(self) -> bool:
        """Whether the API server is Kubernetes' own."""
        return self.layout.control_plane.exists()

    def refusals(self) -> set[tuple[str, ...]]:
        """What controller and agents were never allowed to do by a real API server.

        One that has just been started may refuse for a moment what it allows at other times.
        """
        if not self.layout.audit_log.exists():
            return set()
        decided: dict[str, set[tuple[str, ...]]] = {"allow": set(), "forbid": set()}
        for event in map(json.loads, self.layout.audit_log.read_text().splitlines()):
            decision = event.get("annotations", {}).get("authorization.k8s.io/decision", "")
            if event["user"]["username"] in ACCOUNTS and decision in decided:
                asked = event.get("objectRef", {"resource": event["requestURI"]})
                # Every Event has a name of its own.
                name = "" if asked["resource"] == "events" else asked.get("name", "")
                place = (asked.get("namespace", ""), asked["resource"], name)
                decided[decision].add((event["user"]["username"], event["verb"], *place))
        return decided["forbid"] - decided["allow"]

    def needs_embedded(self, why: str) -> None:
        """Skip the test where the API server is not the one that does what it needs."""
        if self.real:
            pytest.skip(f"only the embedded API server {why}")

    def fault(self, **faults: Any) -> None:
        self.needs_embedded("refuses and forgets when it is told to")
        self.api("POST", "/sandbox/faults", faults)

    @contextlib.contextmanager
    def silent_api_server(self) -> Iterator[None]:
        """With an API server that answers nobody, and with all watches ended."""
        if self.real:
            with self.stopped(API_SERVER):
                yield
            self._wait_for_api_server()
            return
        self.fault(cutWatches=True, refuseSeconds=3600)
        try:
            yield
        finally:
            self.fault(refuseSeconds=0)

    @contextlib.contextmanager
    def forgotten(self) -> Iterator[None]:
        """All watches end, and what is done meanwhile is told to none that resumes."""
        if not self.real:
            self.fault(cutWatches=True)
            yield
            self.fault(compact=True)
            return
        with self.silent_api_server():
            pass
        yield
        # It gets its objects from etcd again, and their history from nobody.
        with self.silent_api_server():
            pass

    def _wait_for_api_server(self) -> None:
        def answers() -> bool:
            with contextlib.suppress(OSError, ApiRefusalError):
                return self.api_bytes("GET", "/readyz") == b"ok"
            return False

        wait_for(answers, "the API server to answer", 120)

    def post_pod(
        self,
        name: str,
        node_name: str,
        namespace: str = NAMESPACE,
        uid: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        ports: Iterable[ContainerPort] = PORTS,
        host_network: bool = False,
    ) -> dict[str, Any]:
        if uid:
            self.needs_embedded("lets a test choose a pod's uid")
        # A container for each port: the names of one container's ports must differ.
        containers = [
            {
                "name": f"main-{number}",
                "image": "none",
                "ports": [{"name": p.name, "containerPort": p.port, "protocol": p.protocol}],
            }
            for number, p in enumerate(ports)
        ]
        pod = {
            "metadata": {
                "name": name,
                "labels": dict(labels or {}),
                "annotations": {UID_ANNOTATION: uid} if uid else {},
            },
            "spec": {
                "nodeName": node_name,
                "hostNetwork": host_network,
                "terminationGracePeriodSeconds": 0,
                "containers": containers or [{"name": "main", "image": "none"}],
            },
        }
        made: dict[str, Any] = self.api("POST", f"/api/v1/namespaces/{namespace}/pods", pod)
        return made

    def pod_objects(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.api("GET", "/api/v1/pods")["items"]
        return items

    def pods(
        self, wanted: Iterable[tuple[str, str]], namespace: str = NAMESPACE, seconds: float = 60
    ) -> dict[str, PodPlace]:
        """Make pods (name, node) and wait until they run."""
        names = []
        for name, node_name in wanted:
            self.post_pod(name, node_name, namespace)
            names.append(name)
        return self.running(names, namespace, seconds)

    def running(
        self, names: Sequence[str], namespace: str = NAMESPACE, seconds: float = 60
    ) -> dict[str, PodPlace]:
        """Wait until these pods run. Those of the host's network have no place of their own."""
        if not names:
            return {}

        def all_run() -> dict[str, dict[str, Any]] | None:
            items = {
                item["metadata"]["name"]: item
                for item in self.pod_objects()
                if item["metadata"]["namespace"] == namespace
            }
            found = {n: items[n] for n in names if n in items}
            ready = [n for n, i in found.items() if i.get("status", {}).get("phase") == "Running"]
            return found if len(ready) == len(names) else None

        found = wait_for(all_run, f"pods {', '.join(names)[:200]} to run", seconds)
        sandboxes = {s.target.uid: s for n in self.nodes for s in self.sandboxes(n)}
        own = (name for name, item in found.items() if not item["spec"].get("hostNetwork"))
        return {name: pod_place(found[name], sandboxes) for name in own}

    def delete_pods(self, names: Iterable[str], namespace: str = NAMESPACE) -> None:
        """Delete pods and wait until nothing of them is in the API."""
        gone = set(names)
        for name in gone:
            self.api(
                "DELETE", f"/api/v1/namespaces/{namespace}/pods/{name}", {"gracePeriodSeconds": 1}
            )

        def none_left() -> bool:
            left = {
                item["metadata"]["name"]
                for item in self.pod_objects()
                if item["metadata"]["namespace"] == namespace
            }
            return not gone & left

        wait_for(none_left, f"pods {', '.join(sorted(gone))[:200]} to go", 60)

    # --- places ---

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

    # --- processes ---

    def pid(self, name: str) -> int:
        return process.known(self.layout, name).pid

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        process.end(process.known(self.layout, name), how, wait=how is signal.SIGKILL)

    def start(self, name: str) -> None:
        cluster.start_process(self.layout, name)

    def restart_with(self, name: str, *command: str) -> None:
        """Kill a process if it runs and start it with another command."""
        record = process.known(self.layout, name)
        process.end(record)
        process.start(self.layout, process.Spec(name, command, record.spec.netns))

    def command(self, name: str) -> tuple[str, ...]:
        return process.known(self.layout, name).spec.command

    def agent_that_dies_at(self, name: str, step: str) -> None:
        file = str(self.layout.node(name).agent / "agent.toml")
        program = AGENT_THAT_DIES.format(step=step, file=file)
        self.restart_with(f"agent-{name}", sys.executable, "-c", program)

    def alive(self, name: str) -> bool:
        return process.alive(process.known(self.layout, name))

    @contextlib.contextmanager
    def stopped(self, name: str) -> Iterator[None]:
        """Without a process, for as long as this lasts."""
        self.kill(name)
        try:
            yield
        finally:
            if not self.alive(name):
                self.start(name)

    def mend(self, kept: Sequence[str]) -> None:
        """Start every process that has ended, and delete all pods but these."""
        for name in process.records(self.layout):
            if not self.alive(name):
                self.start(name)
        found: dict[str, list[str]] = {}
        for item in self.pod_objects():
            name, namespace = item["metadata"]["name"], item["metadata"]["namespace"]
            if namespace != NAMESPACE or name not in kept:
                found.setdefault(namespace, []).append(name)
        for namespace, names in found.items():
            self.delete_pods(names, namespace)

    def log(self, name: str, since: int = 0) -> str:
        path = process.log_path(self.layout, name)
        return path.read_bytes()[since:].decode(errors="replace") if path.exists() else ""

    def log_size(self, name: str) -> int:
        path = process.log_path(self.layout, name)
        return path.stat().st_size if path.exists() else 0

    def wait_for_log(self, name: str, pattern: str, since: int) -> str:
        def found() -> str:
            line = re.search(f".*{pattern}.*", self.log(name, since))
            return line[0] if line else ""

        return wait_for(found, f"{name} to log {pattern!r}")

    def status(self) -> dict[str, Any]:
        """What the controller says of itself."""
        document: dict[str, Any] = json.loads(self._ask_controller("/status"))
        return document

    def metric(self, sample: str) -> float:
        """One of the controller's samples, named with its labels; 0 if there is none."""
        lines = self._ask_controller("/metrics").decode().splitlines()
        found = [line.rpartition(" ")[2] for line in lines if line.startswith(f"{sample} ")]
        return float(found[0]) if found else 0.0

    def _ask_controller(self, path: str) -> bytes:
        def ask() -> bytes:
            with _WITHOUT_PROXY.open(f"{self.state.controller.url}{path}", timeout=5) as answer:
                return bytes(answer.read())

        return self.control.within(ask)

    def wait_until_steady(self) -> None:
        """Wait until the controller has confirmed every switch to be as it should be."""

        def steady() -> bool:
            with contextlib.suppress(OSError):
                nodes = self.status()["nodes"]
                return bool(nodes) and all(
                    node["session"] == "steady"
                    and node["revision"]["acknowledged"] == node["revision"]["desired"]
                    for node in nodes
                    if node["name"] in self.nodes
                )
            return False

        wait_for(steady, "the controller to be in step with all switches")

    def configure_agents(self, **options: Any) -> None:
        """Start the agents anew with these options besides."""
        for name in self.nodes:
            file = self.layout.node(name).agent / "agent.toml"
            file.write_text(file.read_text() + agent.toml(options))
            self.kill(f"agent-{name}")
            self.start(f"agent-{name}")
            self.wait_for_agent(name)

    def wait_for_agent(self, name: str) -> None:
        """Wait until the plugin says that the node is ready for pods."""
        wait_for(
            lambda: (
                any(self.layout.node(name).cni_configuration.glob("*.conflist"))
                and self.plugin(name, "STATUS", Target("", "", "", "", "")).status == 0
            ),
            lambda: f"the agent of {name} to be ready; {self.log(f'agent-{name}')[-2000:]}",
        )

    def join(self) -> str:
        """One more node, just as `up` makes nodes."""
        before = self.state
        hosts = plan.plan(len(before.nodes) + 1)
        host = hosts.nodes[-1]
        path = self.layout.netns(host.name)
        netns.create(path)
        fabric.settle(path, plan.HOST_SETTINGS | plan.ROUTER_SETTINGS)
        port = f"ovsnet-{host.name} "
        lines = plan.fabric_links(hosts, self.layout.prefix)
        fabric.ip_batch(self.layout.netns(FABRIC), [line for line in lines if port in line])
        node.start_database(self.layout, host.name)
        node.start_switch(self.layout, host, before.userspace)
        node.start_kubelet(self.layout, host)
        carried = agent.Datapath(before.userspace, datapath.TUNNEL)
        agent.start(self.layout, host, cluster.controller_of(hosts), carried)
        self._write_state(before, hosts)
        return host.name

    def leave(self, name: str) -> None:
        """Take the last node away, with everything on it."""
        before = self.state
        parts = (node.KUBELET, node.AGENT, node.SWITCH, node.DATABASE_SERVER)
        for part in parts:
            record = process.known(self.layout, node.process_name(part, name))
            process.end(record)
            (self.layout.processes / f"{record.spec.name}.json").unlink()
        with contextlib.suppress(ApiRefusalError):
            self.api("DELETE", f"/api/v1/nodes/{name}")
        for path in (*NETNS_DIRECTORY.glob(f"{self.layout.netns('pod-' + name).name}-*"),
                     self.layout.netns(name)):  # fmt: skip
            netns.delete(path)
        shutil.rmtree(self.layout.node(name).root)
        self._write_state(before, plan.plan(len(before.nodes) - 1))

    def _write_state(self, before: state.State, hosts: plan.Plan) -> None:
        opening = state.Opening(before.started, before.userspace, before.apiserver.url)
        records = process.records(self.layout)
        state.write(
            self.layout, state.describe(self.layout, hosts, opening, state.Phase.UP, records)
        )

    # --- what is there on a node ---

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

    # --- the plugin, executed directly ---

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
