"""The controller's start on a large cluster: from the API server's answers to every node's flows.

1,000 nodes and 30,000 pods, as the pages of lists that a real API server would send (objects of
the size that kubectl shows, managed fields and all), read in a process of its own, with the ports
of every pod. At the end the desired flows and their digest are known for every node: a switch that
connects is answered from there.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

from rich.console import Console

from ovsnet.api import NODE, POD
from ovsnet.api.decode import read_page
from ovsnet.controller.belief import Port
from ovsnet.controller.garbage import hold_off, set_aside
from ovsnet.controller.network import Network
from ovsnet.controller.openflow.encode import fingerprint
from ovsnet.model import Node, Pod
from ovsnet.names import FIRST_POD_OFFSET, host_mac, port_name
from tests.bench.figures import Figure, figure, show, write

NODES = 1_000
PODS_PER_NODE = 30
_PAGE = 500


def figures(rounds: int) -> list[Figure]:
    """Start-up time by its parts, and the memory that the process has at the end."""
    measured: dict[str, list[float]] = {}
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.scale", "once"],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        for what, value in json.loads(done.stdout).items():
            measured.setdefault(what, []).append(value)
    size = f"{NODES:,} nodes, {NODES * PODS_PER_NODE:,} pods"
    units = {"memory": "MB", "one pod more": "ms", "one node more": "ms"}
    return [figure(f"{what}, {size}", units.get(what, "s"), v) for what, v in measured.items()]


def once() -> dict[str, float]:
    """One start, in this process."""
    node_pages = list(_pages("Node", map(_node, range(NODES))))
    pod_pages = list(
        _pages("Pod", (_pod(n, p) for n in range(NODES) for p in range(PODS_PER_NODE)))
    )
    at_first = megabytes()
    hold_off()
    start = time.perf_counter()
    nodes = [_is(r.value, Node) for page in node_pages for r in read_page(NODE, page).objects]
    pods = [_is(r.value, Pod) for page in pod_pages for r in read_page(POD, page).objects]
    read = time.perf_counter()
    network = Network(fingerprint)
    network.set_pods(pods)
    network.set_nodes(nodes)
    known = time.perf_counter()
    for number, node in enumerate(nodes):
        network.set_ports(node.name, _ports(number))
    digests = {network.ledger(node.name).digest for node in nodes}
    set_aside()
    done = time.perf_counter()
    assert len(digests) == NODES
    assert all(len(v.beliefs.endpoints) == PODS_PER_NODE for v in network.nodes.values())
    return {
        "start: reading the lists": read - start,
        "start: nodes, peers and names": known - read,
        "start: ports, flows and digests": done - known,
        "start: all of it": done - start,
        "memory": megabytes() - at_first,
        "one pod more": _one_pod_more(network, nodes[0]) * 1000,
        "one node more": _one_node_more(network) * 1000,
    }


def _one_pod_more(network: Network, node: Node) -> float:
    pod = Pod("bench", "late", "late", node=node.name)
    assert node.range4 is not None
    mac = host_mac(node.range4[200])
    ports = [*_ports(0), Port(200, port_name(pod.namespace, pod.name, pod.uid), mac)]
    start = time.perf_counter()
    network.put_pod(pod)
    deltas = network.set_ports(node.name, ports)
    seconds = time.perf_counter() - start
    assert len(deltas[node.name].adds) == 8
    return seconds


def _one_node_more(network: Network) -> float:
    (read,) = read_page(NODE, next(_pages("Node", [_node(NODES)]))).objects
    start = time.perf_counter()
    deltas = network.put_node(_is(read.value, Node))
    seconds = time.perf_counter() - start
    assert len(deltas) == NODES
    return seconds


def _is(value: object, kind: type[Any]) -> Any:
    assert isinstance(value, kind)
    return value


def _ports(node: int) -> list[Port]:
    return [
        Port(
            p + 3, port_name("bench", f"web-{node}-{p}", _uid(node, p)), host_mac(_address(node, p))
        )
        for p in range(PODS_PER_NODE)
    ]


def _range4(node: int) -> IPv4Network:
    return IPv4Network((0x0A000000 + (node << 8), 24))


def _address(node: int, pod: int) -> IPv4Address:
    return _range4(node)[pod + FIRST_POD_OFFSET]


def _uid(node: int, pod: int) -> str:
    return f"{node:08x}-0000-4000-8000-{pod:012x}"


def _pages(kind: str, objects: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> Iterator[bytes]:
    page: list[dict[str, Any]] = []
    for item in objects:
        page.append(item)
        if len(page) == _PAGE:
            yield _page(kind, page)
            page = []
    if page:
        yield _page(kind, page)


def _page(kind: str, items: list[dict[str, Any]]) -> bytes:
    metadata = {"resourceVersion": "123456"}
    return json.dumps({"kind": f"{kind}List", "metadata": metadata, "items": items}).encode()


def _metadata(name: str, uid: str, **more: str) -> dict[str, Any]:
    return {
        "name": name,
        "uid": uid,
        "resourceVersion": "1234",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"app.kubernetes.io/name": "web", "pod-template-hash": "7d4b9c6f5d"},
        "annotations": {"example.com/checksum": "0123456789abcdef" * 4},
        "managedFields": [{"manager": "kubelet", "fieldsV1": {f"f:{i}": {} for i in range(20)}}],
        **more,
    }


def _node(number: int) -> dict[str, Any]:
    networks = [str(_range4(number)), str(IPv6Network((0xFD00 << 112 | number << 64, 64)))]
    name = f"node-{number:04d}"
    return {
        "metadata": _metadata(name, f"node-uid-{number}"),
        "spec": {"podCIDR": networks[0], "podCIDRs": networks},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": str(IPv4Address(0xAC100000 + number + 1))},
                {"type": "Hostname", "address": name},
            ],
            "images": [{"names": [f"registry.example/image-{i}"]} for i in range(20)],
        },
    }


def _pod(node: int, pod: int) -> dict[str, Any]:
    container = {"name": "web", "image": "web", "ports": [{"containerPort": 80, "name": "http"}]}
    return {
        "metadata": _metadata(f"web-{node}-{pod}", _uid(node, pod), namespace="bench"),
        "spec": {
            "nodeName": f"node-{node:04d}",
            "containers": [container],
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}],
        },
        "status": {
            "phase": "Running",
            "podIP": str(_address(node, pod)),
            "podIPs": [{"ip": str(_address(node, pod))}],
            "conditions": [{"type": t, "status": "True"} for t in ("Ready", "PodScheduled")],
        },
    }


def megabytes() -> float:
    """Resident memory now; the peak that getrusage tells may be that of the parent process."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1000


if __name__ == "__main__":
    if sys.argv[1:] == ["once"]:
        sys.stdout.write(json.dumps(once()))
    else:
        found = figures(rounds=3)
        show(found, Console())
        write(found, Path("build/bench/scale.json"))
