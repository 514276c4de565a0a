"""A real sandbox for tests, and what they do to it.

Everything runs as users run it: API server, controller, agents and kubelet stand-ins are processes
of their own, pods are namespaces set up through the plugin. Only the embedded API server is started
through a few lines here, so that a test can choose a pod's uid. Where Kubernetes' own is at hand
(see `real_apiserver`), sandboxes run on that; tests that need what it does not do skip themselves.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datapath
import deployed
import real_apiserver
from lab_api import ApiRefusalError
from lab_processes import ProcessSide
from places import PodPlace, pod_place, wait_for
from programs import API_SERVER_WITH_CHOSEN_UIDS, UID_ANNOTATION

from ovsnet.model import ContainerPort
from ovsnet.sandbox import (
    agent,
    api_server,
    cluster,
    fabric,
    netns,
    node,
    plan,
    process,
    state,
    teardown,
)
from ovsnet.sandbox.kubelet.sandboxes import Target
from ovsnet.sandbox.layout import FABRIC, NETNS_DIRECTORY
from ovsnet.sandbox.state import API_SERVER
from ovsnet.sandbox.wishes import Wishes

NAMESPACE = "lab"
PORTS = (ContainerPort("http", 80, "TCP"), ContainerPort("echo", 80, "UDP"))
"""What a pod declares unless told otherwise."""


@dataclass
class Lab(ProcessSide):
    """One sandbox. `extra` are options that its controller is started with besides, `embedded`
    is the program that its API server runs as, where that is the embedded one. Where it is a real
    one, controller and agents have the rights that an installed network has.
    """

    extra: tuple[str, ...] = ()
    embedded: str = API_SERVER_WITH_CHOSEN_UIDS

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
        self.reach()
        self.api("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})

    def down(self) -> None:
        teardown.down(self.layout)

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
