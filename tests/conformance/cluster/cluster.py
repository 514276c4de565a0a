"""A cluster of real Kubernetes programs on this machine, taken up and down.

The network between its machines is the sandbox's. The control plane runs in a network namespace of
its own; each node is a machine (`machine`) with containerd and kubelet. What makes it a cluster
whose pods have a network is not done here: that is what is tested.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec

from ovsnet.sandbox import fabric, plan, process, state, teardown
from ovsnet.sandbox.controlplane import credentials, start
from ovsnet.sandbox.controlplane.options import Options, Outlet, admin_kubeconfig
from ovsnet.sandbox.layout import CONTROL, Layout, layout
from ovsnet.sandbox.process import Spec
from tests.conformance import roots
from tests.conformance.cluster import kubelet, machine
from tests.conformance.cluster.machine import Machine
from tests.conformance.cluster.stock import Stock, stock

INSTANCE = layout("kube")
NODES = 3
DNS = "10.96.0.10"
_API_PORT = 6443
_READY_SECONDS = 180.0
_CONTROL_PLANE = "controlplane"
_PROGRAMS = ("containerd", "kubelet")
_AWAY = "tests/conformance/run down takes it away"

Report = Callable[[str], None]


class ClusterError(Exception):
    """The cluster did not start, or does not do what it must. The text says what."""


class Cluster(msgspec.Struct, frozen=True):
    """A cluster that runs."""

    layout: Layout
    hosts: plan.Plan
    stock: Stock
    lower: Path

    @property
    def machines(self) -> tuple[Machine, ...]:
        """The machines of its nodes."""
        return tuple(Machine(self.layout, host.name) for host in self.hosts.nodes)

    def machine(self, name: str) -> Machine:
        """The machine of a node."""
        return Machine(self.layout, name)

    def host(self, name: str) -> plan.Host:
        """A node's place in the network between the machines."""
        return next(host for host in self.hosts.nodes if host.name == name)

    @property
    def control(self) -> Path:
        """The network namespace of the control plane, from which nodes can be reached."""
        return self.layout.netns(CONTROL)

    @property
    def control_files(self) -> Path:
        """The control plane's files."""
        return self.layout.root / "control"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's, for clients in the control plane's network namespace."""
        return admin_kubeconfig(self.control_files)

    @property
    def api_server(self) -> str:
        """The URL of the API server on the network between the machines."""
        return f"https://{self.hosts.control.ipv4}:{_API_PORT}"

    def kubectl(self, *arguments: str, given: str | None = None, seconds: float = 300.0) -> str:
        """What kubectl prints.

        Raises:
            ClusterError: it failed.
        """
        done = subprocess.run(
            self.within_control([str(self.stock.kubernetes / "kubectl"), *arguments]),
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
        if done.returncode:
            raise ClusterError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def within_control(self, command: list[str]) -> list[str]:
        """The command line that runs a command in the control plane's network namespace."""
        return ["nsenter", f"--net={self.control}", *command]


def up(report: Report, instance: Layout = INSTANCE, nodes: int = NODES) -> Cluster:
    """Start a cluster whose nodes have no network yet. If that fails, nothing of it stays.

    Raises:
        MissingError: something that is needed is not there.
        ClusterError, MachineError, OSError: it did not start.
    """
    goods = stock(report)
    cluster = Cluster(instance, plan.plan(nodes), goods, roots.node(report))
    with state.lock(instance):
        _clear(instance)
        try:
            _start(cluster, report)
        except BaseException:
            report("clearing away what was started")
            _remove(instance)
            raise
    return cluster


def attach(report: Report, instance: Layout = INSTANCE, nodes: int = NODES) -> Cluster | None:
    """The cluster that runs, None if there is none.

    Raises:
        ClusterError: a part of one runs. Somebody may want to look at it, so it is left alone.
    """
    found = process.records(instance)
    ended = [name for name, record in found.items() if not process.alive(record)]
    if len(ended) == len(found):
        if ended:
            report("all programs of the cluster that was here have ended")
        return None
    if ended:
        logs = ", ".join(str(process.log_path(instance, name)) for name in ended)
        raise ClusterError(f"of the cluster that runs, {', '.join(ended)} ended: {logs}; {_AWAY}")
    cluster = Cluster(instance, plan.plan(nodes), stock(report), roots.node(report))
    if not cluster.kubeconfig.exists():
        raise ClusterError(f"a cluster has begun to start and is not complete; {_AWAY}")
    return cluster


def down(instance: Layout = INSTANCE) -> None:
    """Take it away completely, whatever state it is in."""
    with state.lock(instance):
        _remove(instance)


def _clear(instance: Layout) -> None:
    machine.remove_disks(instance)
    teardown.clear(instance)
    machine.remove_cgroups(instance)


def _remove(instance: Layout) -> None:
    machine.remove_disks(instance)
    teardown.remove(instance)
    machine.remove_cgroups(instance)


def _start(cluster: Cluster, report: Report) -> None:
    report("starting the control plane")
    fabric.make_namespaces(cluster.layout, cluster.hosts)
    fabric.build(cluster.layout, cluster.hosts)
    start_control_plane(cluster)
    report(f"starting {len(cluster.machines)} nodes")
    with ThreadPoolExecutor(len(cluster.machines)) as pool:
        for _ in pool.map(partial(_set_up, cluster), cluster.hosts.nodes):
            pass
    wait_until(cluster, lambda: all(_ranges(cluster).values()), "the nodes to register")
    _lead_to_pods(cluster)


def stop_control_plane(cluster: Cluster) -> None:
    """Kill the API server and all that works for it; what it has stored stays."""
    process.end(process.known(cluster.layout, _CONTROL_PLANE))


def start_control_plane(cluster: Cluster) -> None:
    """Start the API server and all that works for it, with what was stored before."""
    control = cluster.hosts.control
    options = Options(
        programs=str(cluster.stock.kubernetes),
        directory=str(cluster.control_files),
        bind="0.0.0.0",
        port=_API_PORT,
        advertise=str(control.ipv4),
        names=(str(control.ipv6),),
        netns=str(cluster.control),
        service_ranges=plan.SERVICE_CIDRS,
        pod_ranges=plan.POD_CIDRS,
        kubeconfigs=(Outlet(str(cluster.layout.kubeconfig), cluster.api_server),),
    )
    process.start(cluster.layout, Spec(_CONTROL_PLANE, start.command(start.write(options))))
    wait_until(cluster, cluster.kubeconfig.exists, "the control plane to answer")


def _set_up(cluster: Cluster, host: plan.Host) -> None:
    """Make a machine a node for the first time; its network namespace is there."""
    made = cluster.machine(host.name)
    machine.make(made)
    _switch_on(cluster, host)
    machine.write(made, kubelet.CONTAINERD_FILE, kubelet.CONTAINERD_CONFIGURATION.encode())
    _start_containerd(cluster, made)
    for archive in cluster.stock.archives:
        load(made, archive)
    register(cluster, host, host.name)


def _switch_on(cluster: Cluster, host: plan.Host) -> None:
    made = cluster.machine(host.name)
    path = cluster.layout.netns(host.name)
    fabric.ip_batch(path, plan.node_links(host, userspace=False))
    fabric.transmit_offload_off(path, plan.UPLINK)
    machine.boot(made, cluster.lower, cluster.stock.kubernetes, str(uuid.uuid4()))


def register(cluster: Cluster, host: plan.Host, name: str) -> None:
    """Have a machine that runs be a node of this name."""
    made = cluster.machine(host.name)
    kubeconfig = credentials.node_kubeconfig(
        cluster.control_files, cluster.api_server, name, datetime.now(UTC)
    )
    authority = credentials.authority_file(cluster.control_files).read_bytes()
    for path, content in kubelet.files(kubeconfig, authority, made.cgroup, DNS).items():
        machine.write(made, path, content)
    _start_kubelet(cluster, host, name)


def _start_containerd(cluster: Cluster, made: Machine) -> None:
    machine.start(made, "containerd", kubelet.containerd())
    wait_until(cluster, lambda: _answers(made), f"containerd of {made.name} to answer")


def _start_kubelet(cluster: Cluster, host: plan.Host, name: str) -> None:
    made = cluster.machine(host.name)
    addresses = (str(host.ipv4), str(host.ipv6))
    machine.start(made, "kubelet", kubelet.kubelet(name, addresses))


def power_cycle(cluster: Cluster, name: str) -> None:
    """Turn a machine off and on: of what it was, only its disk is left."""
    _switch_off(cluster, name)
    fabric.make_namespace(cluster.layout, name, forwards=True)
    fabric.plug_in(cluster.layout, name)
    _switch_on(cluster, cluster.host(name))
    _start_programs(cluster, name)


def restart_programs(cluster: Cluster, name: str) -> None:
    """Kill a node's containerd and kubelet, and start them again."""
    for program in _PROGRAMS:
        machine.kill(cluster.machine(name), program)
    _start_programs(cluster, name)


def _start_programs(cluster: Cluster, name: str) -> None:
    _start_containerd(cluster, cluster.machine(name))
    # After the other: kubelet gives up where it finds no runtime.
    _start_kubelet(cluster, cluster.host(name), name)


def _switch_off(cluster: Cluster, name: str) -> None:
    machine.halt(cluster.machine(name))
    for program in ("machine", *_PROGRAMS):
        process.forget(cluster.layout, f"{program}-{name}")
    # Its end of the link goes with its last process, which takes a while.
    fabric.unplug(cluster.layout, name)


def add(cluster: Cluster) -> Cluster:
    """The cluster with one machine more, which registers as a node."""
    larger = msgspec.structs.replace(cluster, hosts=plan.plan(len(cluster.hosts.nodes) + 1))
    host = larger.hosts.nodes[-1]
    fabric.make_namespace(cluster.layout, host.name, forwards=True)
    fabric.plug_in(cluster.layout, host.name)
    _set_up(larger, host)
    wait_until(larger, lambda: bool(_ranges(larger)[host.name]), f"{host.name} to register")
    _lead_to_pods(larger)
    return larger


def remove(cluster: Cluster, name: str) -> None:
    """Take a machine away for good, and its node out of the cluster."""
    _switch_off(cluster, name)
    cluster.kubectl("delete", "node", name)


def load(made: Machine, archive: Path) -> None:
    """Import container images; containerd of the machine runs.

    Raises:
        MachineError: containerd does not take it.
    """
    command = ["ctr", "--namespace=k8s.io", "images", "import", "--all-platforms", "-"]
    with archive.open("rb") as content:
        done = subprocess.run(
            machine.inside(made, command),
            stdin=content,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise machine.MachineError(f"{made.name}: {archive.name}: {done.stderr.strip()}")


def _answers(made: Machine) -> bool:
    command = machine.inside(made, ["ctr", "version"])
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _ranges(cluster: Cluster) -> dict[str, tuple[str, ...]]:
    """The podCIDRs of each node; none of one that has not registered."""
    nodes = {host.name: () for host in cluster.hosts.nodes}
    found = json.loads(cluster.kubectl("get", "nodes", "--output=json"))["items"]
    return nodes | {
        node["metadata"]["name"]: tuple(node["spec"].get("podCIDRs", ())) for node in found
    }


def _lead_to_pods(cluster: Cluster) -> None:
    """Give the control plane, which is no node, a route to each node's pods, as clouds do.

    The API server connects to pods itself: for its proxy, and for webhooks.
    """
    ranges = _ranges(cluster)
    fabric.ip_batch(
        cluster.control,
        [
            f"route replace {cidr} via {host.ipv6 if ':' in cidr else host.ipv4}"
            for host in cluster.hosts.nodes
            for cidr in ranges[host.name]
        ],
    )


def wait_until(
    cluster: Cluster,
    condition: Callable[[], bool],
    what: str,
    seconds: float = _READY_SECONDS,
    now: Callable[[], object] = lambda: "",
) -> None:
    """Wait for something; `now` tells how things stand if that is in vain.

    Raises:
        ClusterError: it does not come, or one of the cluster's processes has ended.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        for name, record in process.records(cluster.layout).items():
            if not process.alive(record):
                said = process.log_path(cluster.layout, name).read_text(errors="replace")
                raise ClusterError(f"{name} has ended: {said.strip()[-2000:]}")
        if time.monotonic() > deadline:
            raise ClusterError(f"waited {seconds:g} s in vain for {what}; {now()}")
        time.sleep(0.2)
