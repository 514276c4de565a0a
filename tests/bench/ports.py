"""Ports on a real switch, and how soon the controller has their flows in it."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Network, ip_address

from ovsnet.api import KINDS, NODE, POD, Synced
from ovsnet.controller.brain import Brain, Cause, Result, Served
from ovsnet.controller.loop import Loop
from ovsnet.controller.network import Network
from ovsnet.controller.notices import Acknowledged
from ovsnet.controller.openflow.app import OpenFlowServer
from ovsnet.controller.openflow.encode import fingerprint
from ovsnet.controller.session import Timing
from ovsnet.controller.switchboard import Switchboard
from ovsnet.model import Node, Pod
from ovsnet.names import BRIDGE, host_mac, port_name
from ovsnet.sandbox.openvswitch import OpenVSwitch, network_namespace
from tests.openflow_harness import add_bridge, inside

_RANGE = IPv4Network("10.244.0.0/20")
_PATIENCE = 10.0


class _Watcher:
    """Keeps what came out of the brain, for another thread to wait for."""

    def __init__(self) -> None:
        self.acknowledged: queue.SimpleQueue[Acknowledged] = queue.SimpleQueue()
        self.served: queue.SimpleQueue[Served] = queue.SimpleQueue()

    def __call__(self, result: Result) -> None:
        match result:
            case Acknowledged():
                self.acknowledged.put(result)
            case Served(_, Cause.PORT):
                self.served.put(result)

    def refresh(self) -> None:
        """Nothing is shown here."""


def port_seconds(count: int) -> Iterator[Served]:
    """Add `count` ports one after another to a switch of a real controller, in this process."""
    name = f"obp{os.getpid() % 100000}"
    node = Node(name, pod_cidrs=(_RANGE,), addresses=(ip_address("172.30.0.1"),))
    pods = [Pod("bench", f"web-{i}", f"uid-{i}", node=name) for i in range(count)]
    brain = Brain(Network(fingerprint), Switchboard(1, Timing()))
    watcher = _Watcher()
    loop = Loop(brain, time.monotonic, watcher)
    objects = {NODE: {name: node}, POD: {pod.ref: pod for pod in pods}}
    for kind in KINDS:
        loop.heard(Synced(kind, objects.get(kind, {})))
    with network_namespace(name), OpenVSwitch(name) as switch:
        with inside(name):
            server = OpenFlowServer([("127.0.0.1", 6653)], loop.seen)
        with server:
            thread = threading.Thread(target=loop.run, args=(server,))
            thread.start()
            try:
                add_bridge(switch, name, bridge=BRIDGE)
                watcher.acknowledged.get(timeout=_PATIENCE)
                for i, pod in enumerate(pods):
                    port = port_name(pod.namespace, pod.name, pod.uid)
                    mac = host_mac(_RANGE[i + 2])
                    switch.vsctl(
                        *("add-port", BRIDGE, port, "--", "set", "interface", port),
                        *("type=internal", f'mac="{mac}"'),
                    )
                    yield watcher.served.get(timeout=_PATIENCE)
            finally:
                loop.stop()
                thread.join()
