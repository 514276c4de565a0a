"""A real controller in this process, and a real switch of one node that it programs."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, ip_address

from ovsnet.api import KINDS, NODE, AnyKind, Synced
from ovsnet.controller.brain import Brain
from ovsnet.controller.loop import Loop
from ovsnet.controller.network import Network
from ovsnet.controller.notices import Acknowledged
from ovsnet.controller.openflow.app import OpenFlowServer
from ovsnet.controller.openflow.encode import fingerprint
from ovsnet.controller.results import Result, Served
from ovsnet.controller.states import Timing
from ovsnet.controller.switchboard import Switchboard
from ovsnet.model import Node
from ovsnet.names import BRIDGE
from ovsnet.sandbox.openvswitch import OpenVSwitch, network_namespace
from tests.openflow_harness import add_bridge, inside

RANGE = IPv4Network("10.244.0.0/20")
_PATIENCE = 60.0


class Watcher:
    """Keeps what came out of the brain, for another thread to wait for."""

    def __init__(self) -> None:
        self.acknowledged: queue.SimpleQueue[Acknowledged] = queue.SimpleQueue()
        self.served: queue.SimpleQueue[Served] = queue.SimpleQueue()

    def __call__(self, result: Result) -> None:
        match result:
            case Acknowledged():
                self.acknowledged.put(result)
            case Served():
                self.served.put(result)

    def refresh(self) -> None:
        """Nothing is shown here."""


class Controlled:
    """The node, its switch, and what the controller says of them."""

    def __init__(self, node: Node, switch: OpenVSwitch, loop: Loop, watcher: Watcher) -> None:
        self.node = node
        self.switch = switch
        self.loop = loop
        self.first = watcher.acknowledged.get(timeout=_PATIENCE)
        self._watcher = watcher

    def served(self) -> Served:
        """The next event whose flows are in the switch; waited for."""
        return self._watcher.served.get(timeout=_PATIENCE)


def node_name() -> str:
    """The name of the node, which is also that of its namespace."""
    return f"obp{os.getpid() % 100000}"


@contextlib.contextmanager
def controlled(objects: Mapping[AnyKind, Mapping[object, object]]) -> Iterator[Controlled]:
    """Start both on these objects, and wait until the switch has its flows."""
    name = node_name()
    node = Node(name, pod_cidrs=(RANGE,), addresses=(ip_address("172.30.0.1"),))
    brain = Brain(Network(fingerprint), Switchboard(1, Timing()))
    watcher = Watcher()
    loop = Loop(brain, time.monotonic, watcher)
    everything = {NODE: {name: node}, **objects}
    for kind in KINDS:
        loop.heard(Synced(kind, everything.get(kind, {})))  # type: ignore[arg-type]
    with network_namespace(name), OpenVSwitch(name) as switch:
        with inside(name):
            server = OpenFlowServer([("127.0.0.1", 6653)], loop.seen)
        with server:
            thread = threading.Thread(target=loop.run, args=(server,))
            thread.start()
            try:
                add_bridge(switch, name, bridge=BRIDGE)
                yield Controlled(node, switch, loop, watcher)
            finally:
                loop.stop()
                thread.join()
