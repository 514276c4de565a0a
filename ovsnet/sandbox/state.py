"""What runs where: the file `state.json` of a sandbox, for people's scripts and our own tools.

```json
{"phase": "up", "started": "2025-01-31T12:00:00Z", "datapath": "netdev",
 "kubeconfig": "/run/ovsnet/sandbox/kubeconfig",
 "controller": {"url": "http://127.0.0.1:9095", "netns": "/run/netns/ovsnet-control", "pid": 812},
 "apiserver": {"url": "http://127.0.0.1:41235", "netns": "/run/netns/ovsnet-control", "pid": 801},
 "outside": {"netns": "/run/netns/ovsnet-outside", "addresses": ["203.0.113.10", "…"], "pid": 805},
 "nodes": [{"name": "node1", "netns": "/run/netns/ovsnet-node1", "ovs_rundir": "…/ovs",
            "addresses": ["172.18.0.11", "fd00:172:18::b"],
            "pids": {"agent": 820, "kubelet": 821, "ovs-vswitchd": 803, "ovsdb-server": 802}}]}
```

A pid is that of the process as it was last started. The file is written when `up` begins (phase
`starting`), again when every node is ready (`up`), and whenever a process is started anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from enum import StrEnum

import msgspec

from ovsnet.sandbox import node, plan, process
from ovsnet.sandbox.layout import CONTROL, OUTSIDE, Layout

CONTROLLER = "controller"
API_SERVER = "apiserver"
CONTROLLER_HTTP_PORT = 9095

_LOCK_SECONDS = 10.0


class BusyError(Exception):
    """Another command is changing this sandbox."""


class NotRunningError(Exception):
    """There is no sandbox, or it is not up."""


class ClusterError(Exception):
    """The sandbox did not start. The text says what failed and what to do."""


class AlreadyRunningError(ClusterError):
    """There is a sandbox already."""


class Phase(StrEnum):
    """How far a sandbox is."""

    STARTING = "starting"
    UP = "up"


class Endpoint(msgspec.Struct, frozen=True):
    """A server of the sandbox: its URL, and the network namespace in which it is valid."""

    url: str
    netns: str
    pid: int | None


class Outside(msgspec.Struct, frozen=True):
    """The host outside the cluster; it answers HTTP and UDP on port 80 of its addresses."""

    netns: str
    addresses: tuple[str, ...]
    pid: int | None


class Node(msgspec.Struct, frozen=True):
    """A node: its namespace, its switch's directory, its addresses and its processes."""

    name: str
    netns: str
    ovs_rundir: str
    addresses: tuple[str, ...]
    pids: dict[str, int | None]


class State(msgspec.Struct, frozen=True):
    """A sandbox; see the module's text."""

    phase: Phase
    started: str
    datapath: str
    kubeconfig: str
    controller: Endpoint
    apiserver: Endpoint
    outside: Outside
    nodes: tuple[Node, ...]

    def node(self, name: str) -> Node:
        """The node of a name.

        Raises:
            NotRunningError: the sandbox has none; the message lists those that it has.
        """
        for found in self.nodes:
            if found.name == name:
                return found
        names = ", ".join(each.name for each in self.nodes)
        raise NotRunningError(f"the sandbox has no node {name!r}; it has: {names}")

    @property
    def userspace(self) -> bool:
        """Whether the switches use Open vSwitch's userspace datapath."""
        return self.datapath == "netdev"


class Opening(msgspec.Struct, frozen=True):
    """What is fixed when a sandbox begins to start."""

    started: str
    userspace: bool
    api_url: str


def describe(
    layout: Layout,
    hosts: plan.Plan,
    opening: Opening,
    phase: Phase,
    records: Mapping[str, process.Record],
) -> State:
    """The state of a sandbox, from what was planned and the processes as they are now."""

    def pid(name: str) -> int | None:
        return records[name].pid if name in records else None

    parts = (node.AGENT, node.KUBELET, node.SWITCH, node.DATABASE_SERVER)
    control = str(layout.netns(CONTROL))
    return State(
        phase=phase,
        started=opening.started,
        datapath="netdev" if opening.userspace else "system",
        kubeconfig=str(layout.kubeconfig),
        controller=Endpoint(f"http://127.0.0.1:{CONTROLLER_HTTP_PORT}", control, pid(CONTROLLER)),
        apiserver=Endpoint(opening.api_url, control, pid(API_SERVER)),
        outside=Outside(
            str(layout.netns(OUTSIDE)),
            (str(hosts.outside.ipv4), str(hosts.outside.ipv6)),
            pid(OUTSIDE),
        ),
        nodes=tuple(
            Node(
                name=host.name,
                netns=str(layout.netns(host.name)),
                ovs_rundir=str(layout.node(host.name).ovs),
                addresses=(str(host.ipv4), str(host.ipv6)),
                pids={part: pid(node.process_name(part, host.name)) for part in parts},
            )
            for host in hosts.nodes
        ),
    )


def write(layout: Layout, state: State) -> None:
    """Put the state in place of the one that was there."""
    partial = layout.state.with_suffix(".partial")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n")
    partial.rename(layout.state)


def read(layout: Layout) -> State | None:
    """The state as it was last written; None where there is none that can be read."""
    try:
        return msgspec.json.decode(layout.state.read_bytes(), type=State)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def running(layout: Layout) -> State:
    """The state of a sandbox that is up.

    Raises:
        NotRunningError: it is not.
    """
    state = read(layout)
    if state is None:
        raise NotRunningError("no sandbox is running; `ovsnet sandbox up` starts one")
    if state.phase is not Phase.UP:
        raise NotRunningError(
            "the sandbox is still starting, or its start was interrupted; "
            "`ovsnet sandbox down` clears it away"
        )
    return state


@contextlib.contextmanager
def lock(layout: Layout, seconds: float = _LOCK_SECONDS) -> Iterator[None]:
    """Be the only one who changes this sandbox; its directory is there inside.

    The lock is on the directory itself, so that it leaves nothing behind and ends with its
    holder, however that ends.

    Raises:
        BusyError: another command held it for all of `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        layout.root.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(layout.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BusyError(
                        "another `ovsnet sandbox` command is changing the sandbox; "
                        "wait for it to end, or interrupt it"
                    ) from None
                time.sleep(0.05)
                continue
            # The one who held it may have removed the directory: then this is a lock on nothing.
            if not _is_current(descriptor, layout):
                continue
            yield
            return
        finally:
            os.close(descriptor)


def _is_current(descriptor: int, layout: Layout) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), layout.root.stat())
    except FileNotFoundError:
        return False
