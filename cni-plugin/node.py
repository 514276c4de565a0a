"""What the verbs need to know of the node, as of now."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from ovsnet.cni.ranges import NodeRanges


@dataclass(frozen=True)
class Network:
    """What a pod's interface is made from."""

    ranges: NodeRanges
    mtu: int
    userspace: bool
    """The bridge has the userspace datapath: checksums must be complete when a pod sends."""


class NotReady(Exception):  # noqa: N818
    """The node cannot take pods yet; the text says what is waited for."""


class Waiting(Exception):  # noqa: N818
    """Setting the node up cannot go on; the text says what it waits for."""


class Node:
    """The present state, written by the thread that keeps the node in shape, read by the verbs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._network: Network | None = None
        self._reason = "the node agent has just started"

    def ready(self, network: Network) -> None:
        """The node can take pods."""
        with self._lock:
            self._network = network

    def waits(self, reason: str) -> None:
        """The node cannot take pods for this reason."""
        with self._lock:
            self._network, self._reason = None, reason

    def network(self) -> Network:
        """What to make a pod's interface from.

        Raises:
            NotReady: not yet.
        """
        with self._lock:
            if self._network is None:
                raise NotReady(self._reason)
            return self._network
