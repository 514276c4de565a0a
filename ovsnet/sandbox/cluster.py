"""Bringing a sandbox up, and its processes up again."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from ovsnet.sandbox import (
    agent,
    api_server,
    fabric,
    identities,
    node,
    plan,
    process,
    readiness,
    state,
    teardown,
)
from ovsnet.sandbox.api_server import Choice
from ovsnet.sandbox.client import UNREACHABLE, ApiError
from ovsnet.sandbox.controlplane.programs import MissingProgramError
from ovsnet.sandbox.layout import CONTROL, OUTSIDE, Layout
from ovsnet.sandbox.process import Spec
from ovsnet.sandbox.readiness import Report
from ovsnet.sandbox.rights import NoRightsError
from ovsnet.sandbox.state import (
    CONTROLLER,
    AlreadyRunningError,
    ClusterError,
    Opening,
    Phase,
    State,
)
from ovsnet.sandbox.wishes import USUAL, Wishes

OUTSIDE_PORT = 80
OPENFLOW_PORT = 6653
AGENTS_PORT = 9096

_FAILURES = (
    ApiError,
    fabric.FabricError,
    node.NodeError,
    process.ProcessError,
    NoRightsError,
    *UNREACHABLE,
)
_PROGRAMS = {
    "ip": "iproute2",
    "nft": "nftables",
    "ovsdb-server": "openvswitch-switch",
    "ovs-vswitchd": "openvswitch-switch",
    "ovs-vsctl": "openvswitch-switch",
}


def check_machine() -> None:
    """See that the sandbox can run here.

    Raises:
        ClusterError: root's rights or a program are missing; the message says which.
    """
    if os.geteuid() != 0:
        raise ClusterError(
            "the sandbox makes network namespaces and runs switches in them: run this as root"
        )
    missing = {name: package for name, package in _PROGRAMS.items() if not shutil.which(name)}
    if missing:
        raise ClusterError(
            f"not installed: {', '.join(missing)}; on Debian: "
            f"apt-get install {' '.join(sorted(set(missing.values())))}"
        )


def up(
    layout: Layout,
    nodes: int,
    report: Report,
    wishes: Wishes = USUAL,
) -> State:
    """Start a sandbox of so many nodes and return when all of them are ready.

    What an interrupted start has left is cleared away first. If this one fails or is interrupted,
    nothing of it stays.

    Raises:
        AlreadyRunningError: one is running.
        ClusterError: it cannot run here, or did not start.
        ValueError: there cannot be so many nodes.
    """
    check_machine()
    try:
        if wishes.programs:
            api_server.check(Path(wishes.programs))
    except MissingProgramError as error:
        raise ClusterError(str(error)) from error
    hosts = plan.plan(nodes)
    with state.lock(layout):
        before = state.read(layout)
        if before is not None and before.phase is Phase.UP:
            raise AlreadyRunningError(
                f"a sandbox of {len(before.nodes)} nodes has been running since {before.started}; "
                "`ovsnet sandbox down` takes it away"
            )
        teardown.clear(layout)
        try:
            return _start(layout, hosts, report, wishes)
        except _FAILURES as error:
            teardown.remove(layout)
            raise ClusterError(str(error)) from error
        except BaseException:
            report("clearing away what was started")
            teardown.remove(layout)
            raise


def _free_port() -> int:
    """A TCP port that nobody on this machine uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(layout: Layout, hosts: plan.Plan, report: Report, wishes: Wishes) -> State:
    userspace = not node.kernel_datapath()
    choice = Choice(_free_port(), wishes)
    opening = Opening(
        started=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        userspace=userspace,
        api_url=choice.url,
    )
    state.write(layout, state.describe(layout, hosts, opening, Phase.STARTING, {}))
    if not node.SHARED_RUNDIR.exists():
        layout.made_rundir.touch()
        node.SHARED_RUNDIR.mkdir(parents=True)
    report("making the fabric")
    fabric.make_namespaces(layout, hosts)
    fabric.build(layout, hosts)
    report(f"starting the API server and {len(hosts.nodes)} switches")
    process.start(layout, api_server.spec(layout, hosts, choice))
    with ThreadPoolExecutor(len(hosts.nodes)) as pool:
        for _ in pool.map(partial(_start_switch, layout, userspace=userspace), hosts.nodes):
            pass
    readiness.wait_for_api(layout)
    if wishes.rights:
        report("giving controller and agents their rights")
        asyncio.run(identities.grant(layout, wishes.rights))
    report("starting controller, agents and kubelets")
    for spec in (_controller(layout, hosts), _outside(layout)):
        process.start(layout, spec)
    for host in hosts.nodes:
        node.start_kubelet(layout, host)
    # A switch whose first attempt to connect is refused waits for seconds before its next one.
    readiness.wait_for_controller(layout, str(hosts.control.ipv4), OPENFLOW_PORT)
    for host in hosts.nodes:
        agent.start(layout, host, controller_of(hosts), agent.Datapath(userspace, wishes.tunnel))
    report("waiting for the nodes to be ready")
    asyncio.run(readiness.wait_for_nodes(layout, len(hosts.nodes), report))
    reached = state.describe(layout, hosts, opening, Phase.UP, process.records(layout))
    state.write(layout, reached)
    return reached


def _start_switch(layout: Layout, host: plan.Host, userspace: bool) -> None:
    node.start_database(layout, host.name)
    node.start_switch(layout, host, userspace)


def _controller(layout: Layout, hosts: plan.Plan) -> Spec:
    return Spec(
        CONTROLLER,
        (
            *(sys.executable, "-m", "ovsnet.controller"),
            *("--kubeconfig", str(identities.controller(layout))),
            *("--listen", f"{hosts.control.ipv4}:{OPENFLOW_PORT}"),
            *("--http", f"127.0.0.1:{state.CONTROLLER_HTTP_PORT}"),
            *("--agents", f"{hosts.control.ipv4}:{AGENTS_PORT}"),
            "--plain",
            *(word for cidr in plan.SERVICE_CIDRS for word in ("--services", cidr)),
        ),
        netns=str(layout.netns(CONTROL)),
    )


def controller_of(hosts: plan.Plan) -> agent.Controller:
    """How agents and switches reach the controller."""
    return agent.Controller(
        target=f"tcp:{hosts.control.ipv4}:{OPENFLOW_PORT}",
        agents_url=f"http://{hosts.control.ipv4}:{AGENTS_PORT}",
    )


def _outside(layout: Layout) -> Spec:
    return Spec(
        OUTSIDE,
        (sys.executable, "-m", "ovsnet.sandbox.outside", "--port", str(OUTSIDE_PORT)),
        netns=str(layout.netns(OUTSIDE)),
    )


def start_process(layout: Layout, name: str) -> State:
    """Start a process of a running sandbox again that has ended.

    Raises:
        NotRunningError: the sandbox is not up.
        ProcessError: it has no such process, or that is running.
        ClusterError: it did not start.
    """
    state.running(layout)
    with state.lock(layout):
        current = state.running(layout)
        spec = process.known(layout, name).spec
        hosts = plan.plan(len(current.nodes))
        switches = {node.process_name(node.SWITCH, host.name): host for host in hosts.nodes}
        try:
            if name in switches:
                node.start_switch(layout, switches[name], current.userspace)
            else:
                process.start(layout, spec)
        except (fabric.FabricError, node.NodeError) as error:
            raise ClusterError(str(error)) from error
        opening = Opening(current.started, current.userspace, current.apiserver.url)
        reached = state.describe(layout, hosts, opening, Phase.UP, process.records(layout))
        state.write(layout, reached)
        return reached
