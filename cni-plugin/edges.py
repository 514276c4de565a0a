"""What endpoints are made with: the agent's records, the switch, the kernel, clocks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ovsnet.cni.conf import PodRef
from ovsnet.cni.locks import KeyedLocks
from ovsnet.cni.netlink import Netlink
from ovsnet.cni.node import Node
from ovsnet.cni.ovsdb import Database
from ovsnet.cni.probe import Closer
from ovsnet.cni.store import Store


class NetlinkPerThread:
    """Each thread's own netlink socket, in the namespace where it first asked: the node's."""

    def __init__(self) -> None:
        self._mine = threading.local()

    def __call__(self) -> Netlink:
        """The calling thread's socket."""
        found = getattr(self._mine, "netlink", None)
        if found is None:
            found = self._mine.netlink = Netlink()
        assert isinstance(found, Netlink)
        return found


def no_checkpoint(step: str, /) -> None:
    """Between two steps nothing is done but in tests."""


@dataclass(frozen=True)
class Edges:
    """Everything that making and taking down endpoints has to do with."""

    store: Store
    database: Database
    node: Node
    closer: Closer
    bridge: str
    ovs_rundir: Path
    boot_id: str
    deadline: float
    """Seconds that an ADD may take."""
    checkpoint: Callable[[str], None] = no_checkpoint
    """Called between any two steps with the name of the one just done."""
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    locks: KeyedLocks = field(default_factory=KeyedLocks)
    netlink: Callable[[], Netlink] = field(default_factory=NetlinkPerThread)


def pod_key(pod: PodRef) -> tuple[str, str]:
    """What a pod's lock goes by: its name, under which a new one follows the old."""
    return pod.namespace, pod.name
