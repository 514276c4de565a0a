"""The controller as its operators see it: its status and its metrics."""

from __future__ import annotations

import http.client
import re
from pathlib import Path
from urllib.parse import urlsplit

from ovsnet.controller.status import Status
from ovsnet.sandbox import netns
from ovsnet.sandbox.state import State

_SAMPLE = re.compile(r"^(?P<name>\w+)(?:\{[^}]*\})? (?P<value>[-+.\deE]+)$", re.MULTILINE)
_TIMEOUT_SECONDS = 2.0

FLOW_WRITES = "ovsnet_flow_writes_total"
"""The controller's counter of flows that it wrote to switches."""


def fetch(state: State, path: str) -> str:
    """What the controller serves at a path of its HTTP address.

    Raises:
        OSError, http.client.HTTPException: it does not answer.
    """
    url = urlsplit(state.controller.url)

    def ask() -> str:
        connection = http.client.HTTPConnection(
            url.hostname or "", url.port, timeout=_TIMEOUT_SECONDS
        )
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    return netns.within(Path(state.controller.netns), ask)


def total(metrics: str, name: str) -> float | None:
    """The sum of a metric over all labels, of a text in Prometheus' format; None without one.

    A metric that has labels and was never counted has no samples: its sum is 0.
    """
    values = [float(m["value"]) for m in _SAMPLE.finditer(metrics) if m["name"] == name]
    if not values and f"# TYPE {name} " not in metrics:
        return None
    return sum(values)


def in_step(status: Status, nodes: int) -> bool:
    """Whether the controller has a session with every switch, and each has all its flows."""
    return (
        status.ready
        and len(status.nodes) == nodes
        and all(node.connected and node.revision.current for node in status.nodes)
    )


def sessions(status: Status | None) -> str:
    """The nodes that the controller has a session with, in words."""
    if status is None:
        return "it does not answer"
    return ", ".join(node.name for node in status.nodes if node.connected) or "none"
