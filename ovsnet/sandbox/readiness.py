"""Waiting for a sandbox that starts: until its parts answer, or one of them has ended."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

from ovsnet.sandbox import access, netns, node, process
from ovsnet.sandbox.client import UNREACHABLE, ApiError, Client
from ovsnet.sandbox.layout import CONTROL, Layout
from ovsnet.sandbox.state import ClusterError

Report = Callable[[str], None]
"""Is told each step in words, as it begins."""

_READY_SECONDS = 60.0
_API_SECONDS = 180.0
"""Kubernetes' own takes its time on a busy machine."""


def wait_for_api(layout: Layout) -> None:
    """Wait until the API server has written its kubeconfigs, which it does once it answers.

    Raises:
        ClusterError: it did not, or a process of the sandbox has ended.
    """
    deadline = time.monotonic() + _API_SECONDS
    while not (layout.kubeconfig.exists() and layout.inner_kubeconfig.exists()):
        _check_processes(layout)
        if time.monotonic() > deadline:
            raise ClusterError(f"the API server was not ready within {_API_SECONDS:g} s")
        time.sleep(0.01)


def wait_for_controller(layout: Layout, address: str, port: int) -> None:
    """Wait until the controller accepts connections of switches there. Raises as the above."""

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((address, port)) == 0

    deadline = time.monotonic() + _READY_SECONDS
    while not netns.within(layout.netns(CONTROL), listens):
        _check_processes(layout)
        if time.monotonic() > deadline:
            raise ClusterError(f"the controller was not ready within {_READY_SECONDS:g} s")
        time.sleep(0.02)


def _check_processes(layout: Layout) -> None:
    for name, record in process.records(layout).items():
        if not process.alive(record):
            raise ClusterError(f"{name} has ended: {node.last_words(layout, name)}")


async def wait_for_nodes(layout: Layout, count: int, report: Report) -> None:
    """Wait until so many nodes are ready, and report each. Raises as the above."""
    deadline = time.monotonic() + _READY_SECONDS
    known: frozenset[str] = frozenset()
    async with Client(access.of_file(layout.kubeconfig)) as client:
        while True:
            faults = await _node_faults(client)
            ready = frozenset(name for name, fault in faults.items() if fault is None)
            for name in sorted(ready - known):
                report(f"{name} is ready")
            known = ready
            if len(ready) == count:
                return
            _check_processes(layout)
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"after {_READY_SECONDS:g} s {len(ready)} of {count} nodes are ready; "
                    + "; ".join(f"{n}: {f}" for n, f in faults.items() if f is not None)
                )
            await asyncio.sleep(0.05)


async def _node_faults(client: Client) -> dict[str, str | None]:
    """Of every registered node, why it is not ready; None for one that is."""
    try:
        items = (await client.get("/api/v1/nodes"))["items"]
    except (ApiError, *UNREACHABLE):
        return {}
    faults: dict[str, str | None] = {}
    for item in items:
        conditions = item.get("status", {}).get("conditions", ())
        ready = next((c for c in conditions if c["type"] == "Ready"), None)
        if ready is None:
            faults[item["metadata"]["name"]] = "its kubelet has not reported yet"
        else:
            true = ready["status"] == "True"
            faults[item["metadata"]["name"]] = None if true else ready.get("message", "")
    return faults
