"""One node of a sandbox: its switch, its addresses, its agent and its kubelet stand-in."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ovsnet.sandbox import fabric, identities, plan, process
from ovsnet.sandbox.layout import Layout
from ovsnet.sandbox.process import Record, Spec

_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
SHARED_RUNDIR = Path("/var/run/openvswitch")
"""Parts of ovs-vswitchd use this directory whatever OVS_RUNDIR says."""

_KERNEL_MODULE = Path("/sys/module/openvswitch")
_READY_SECONDS = 20.0

DATABASE_SERVER = "ovsdb-server"
SWITCH = "ovs-vswitchd"
AGENT = "agent"
KUBELET = "kubelet"


class NodeError(Exception):
    """A part of a node did not start. The text says which and why."""


def process_name(part: str, node: str) -> str:
    """The name of a node's process: `agent-node1`."""
    return f"{part}-{node}"


def kernel_datapath() -> bool:
    """Whether Open vSwitch's kernel module is there; it is loaded if it can be."""
    if not _KERNEL_MODULE.exists():
        subprocess.run(["modprobe", "openvswitch"], check=False, capture_output=True)
    return _KERNEL_MODULE.exists()


def ovs_environment(rundir: Path) -> dict[str, str]:
    """The variables by which Open vSwitch's programs find one node's switch and no other."""
    return {"OVS_RUNDIR": str(rundir), "OVS_LOGDIR": str(rundir), "OVS_DBDIR": str(rundir)}


def _server_spec(layout: Layout, node: str) -> Spec:
    rundir = layout.node(node).ovs
    return Spec(
        name=process_name(DATABASE_SERVER, node),
        command=(
            "ovsdb-server",
            str(rundir / "conf.db"),
            f"--remote=punix:{rundir / 'db.sock'}",
            f"--unixctl={rundir / 'ovsdb-server.ctl'}",
        ),
        netns=str(layout.netns(node)),
        environment=ovs_environment(rundir),
    )


def _switch_spec(layout: Layout, node: str) -> Spec:
    rundir = layout.node(node).ovs
    return Spec(
        name=process_name(SWITCH, node),
        command=(
            "ovs-vswitchd",
            f"unix:{rundir / 'db.sock'}",
            # ovs-ofctl and ovs-appctl look for this file to find the control socket.
            f"--pidfile={rundir / 'ovs-vswitchd.pid'}",
        ),
        netns=str(layout.netns(node)),
        environment=ovs_environment(rundir),
    )


def _wait(ready: Callable[[], bool], record: Record, layout: Layout) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not ready():
        name = record.spec.name
        if not process.alive(record):
            raise NodeError(f"{name} has ended: {last_words(layout, name)}")
        if time.monotonic() > deadline:
            raise NodeError(f"{name} was not ready within {_READY_SECONDS:g} s")
        time.sleep(0.005)


def last_words(layout: Layout, name: str, lines: int = 5) -> str:
    """The end of a process's log."""
    path = process.log_path(layout, name)
    text = path.read_text(errors="replace") if path.exists() else ""
    return "\n".join(text.strip().splitlines()[-lines:]) or "it said nothing"


def _tool(rundir: Path, *command: str) -> str:
    done = subprocess.run(
        command,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **ovs_environment(rundir)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise NodeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def start_database(layout: Layout, node: str) -> None:
    """Start a node's ovsdb-server, on a new database if it has none.

    Raises:
        NodeError, ProcessError: it did not start.
    """
    rundir = layout.node(node).ovs
    rundir.mkdir(parents=True, exist_ok=True)
    database = rundir / "conf.db"
    if not database.exists():
        _tool(rundir, "ovsdb-tool", "create", str(database), _SCHEMA)
    (rundir / "db.sock").unlink(missing_ok=True)
    server = process.start(layout, _server_spec(layout, node))
    _wait((rundir / "db.sock").is_socket, server, layout)


def start_switch(layout: Layout, host: plan.Host, userspace: bool) -> None:
    """Start a node's ovs-vswitchd and give the node its addresses on the fabric.

    With the userspace datapath the underlay bridge's interface ends with the daemon, and its
    addresses with it: so they are given again after every start.

    Raises:
        NodeError, ProcessError, FabricError: something did not start.
    """
    rundir = layout.node(host.name).ovs
    fabric.ip_batch(layout.netns(host.name), [f"link set {plan.UPLINK} up"])
    vsctl = ("ovs-vsctl", "--timeout=20")
    version = _tool(rundir, "ovs-vswitchd", "--version").split()[3]
    _tool(
        rundir,
        # The socket of ovsdb-server is there a moment before it listens.
        *(*vsctl, "--retry", "--no-wait", "init", "--"),
        *("set", "Open_vSwitch", ".", f"ovs_version={version}"),
        *(f"external_ids:hostname={host.name}", f"external_ids:system-id={host.name}"),
    )
    switch = process.start(layout, _switch_spec(layout, host.name))
    bridge = plan.underlay_bridge(userspace)
    if bridge:
        # This returns when the switch has done it, so it also waits for the switch.
        _tool(rundir, *vsctl, *bridge)
    else:
        control = rundir / f"ovs-vswitchd.{switch.pid}.ctl"
        _wait(control.is_socket, switch, layout)
    fabric.ip_batch(layout.netns(host.name), plan.node_links(host, userspace))


def start_kubelet(layout: Layout, host: plan.Host) -> None:
    """Start a node's kubelet stand-in.

    Raises:
        ProcessError: it cannot be executed.
    """
    paths = layout.node(host.name)
    command = (
        *(sys.executable, "-m", "ovsnet.sandbox.kubelet"),
        *("--node", host.name),
        *("--address", str(host.ipv4), "--address", str(host.ipv6)),
        *("--kubeconfig", str(identities.kubelet(layout, host.name))),
        *("--cni-conf-dir", str(paths.cni_configuration)),
        *("--cni-bin-dir", str(paths.cni_plugins)),
        *("--state-dir", str(paths.kubelet)),
        *("--netns-prefix", str(layout.netns(f"pod-{host.name}"))),
    )
    for directory in (paths.cni_configuration, paths.cni_plugins, paths.kubelet):
        directory.mkdir(parents=True, exist_ok=True)
    process.start(
        layout, Spec(process_name(KUBELET, host.name), command, str(layout.netns(host.name)))
    )
