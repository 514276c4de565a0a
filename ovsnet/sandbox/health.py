"""How a sandbox is: its processes, nodes and pods at this moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ovsnet.sandbox import access, process
from ovsnet.sandbox.access import KubeconfigError
from ovsnet.sandbox.client import UNREACHABLE, ApiError, Client
from ovsnet.sandbox.layout import Layout
from ovsnet.sandbox.state import State

_RUNNING = "Running"


class ProcessHealth(msgspec.Struct, frozen=True):
    """One process, as it was last started."""

    name: str
    pid: int
    alive: bool


class NodeHealth(msgspec.Struct, frozen=True):
    """One node. `ready` is kubelet's word; `fault` says why it is not."""

    name: str
    ready: bool
    fault: str
    addresses: tuple[str, ...]
    pod_cidrs: tuple[str, ...]
    pods: int
    running: int


class PodHealth(msgspec.Struct, frozen=True):
    """One pod as the API has it."""

    namespace: str
    name: str
    node: str
    phase: str
    ready: bool
    addresses: tuple[str, ...]


class Health(msgspec.Struct, frozen=True):
    """A sandbox at one moment. Nodes and pods are as the API tells, so none while it is down."""

    phase: str
    started: str
    datapath: str
    healthy: bool
    processes: tuple[ProcessHealth, ...]
    nodes: tuple[NodeHealth, ...]
    pods: tuple[PodHealth, ...]
    api_fault: str = ""


def _condition(item: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    for condition in item.get("status", {}).get("conditions") or ():
        if condition["type"] == kind:
            found: Mapping[str, Any] = condition
            return found
    return {}


def pod_health(item: Mapping[str, Any]) -> PodHealth:
    """What there is to say of a Pod of the API."""
    status = item.get("status", {})
    return PodHealth(
        namespace=item["metadata"]["namespace"],
        name=item["metadata"]["name"],
        node=item["spec"].get("nodeName", ""),
        phase="Terminating"
        if item["metadata"].get("deletionTimestamp")
        else status.get("phase", ""),
        ready=_condition(item, "Ready").get("status") == "True",
        addresses=tuple(entry["ip"] for entry in status.get("podIPs") or ()),
    )


def node_health(item: Mapping[str, Any], pods: Sequence[PodHealth]) -> NodeHealth:
    """What there is to say of a Node of the API; `pods` are those of all nodes."""
    name = item["metadata"]["name"]
    ready = _condition(item, "Ready")
    here = [pod for pod in pods if pod.node == name]
    return NodeHealth(
        name=name,
        ready=ready.get("status") == "True",
        fault="" if ready.get("status") == "True" else ready.get("message", "not reported yet"),
        addresses=tuple(
            entry["address"]
            for entry in item.get("status", {}).get("addresses") or ()
            if entry["type"] == "InternalIP"
        ),
        pod_cidrs=tuple(item.get("spec", {}).get("podCIDRs") or ()),
        pods=len(here),
        running=sum(pod.phase == _RUNNING for pod in here),
    )


def assess(
    state: State,
    processes: Sequence[ProcessHealth],
    node_items: Sequence[Mapping[str, Any]],
    pod_items: Sequence[Mapping[str, Any]],
    api_fault: str = "",
) -> Health:
    """Put together what was found.

    A sandbox is healthy when every process runs and every node that it was made with is ready.
    """
    pods = tuple(sorted((pod_health(i) for i in pod_items), key=lambda p: (p.namespace, p.name)))
    nodes = tuple(sorted((node_health(i, pods) for i in node_items), key=lambda n: n.name))
    ready = {node.name for node in nodes if node.ready}
    return Health(
        phase=state.phase,
        started=state.started,
        datapath=state.datapath,
        healthy=not api_fault
        and all(each.alive for each in processes)
        and ready >= {node.name for node in state.nodes},
        processes=tuple(processes),
        nodes=nodes,
        pods=pods,
        api_fault=api_fault,
    )


async def examine(layout: Layout, state: State) -> Health:
    """Look at a sandbox that is up."""
    processes = [
        ProcessHealth(name, record.pid, process.alive(record))
        for name, record in process.records(layout).items()
    ]
    try:
        async with Client(access.of_file(layout.kubeconfig)) as client:
            nodes = (await client.get("/api/v1/nodes"))["items"]
            pods = (await client.get("/api/v1/pods"))["items"]
    except (ApiError, KubeconfigError, *UNREACHABLE) as error:
        return assess(state, processes, (), (), f"the API server does not answer: {error}")
    return assess(state, processes, nodes, pods)
