"""Policies from nothing: from all objects and ports to every node's flows, and one pod more then.

Two shapes, both of Antrea's published benchmark: very many namespaces with a few policies and pods
each, and one namespace in which every policy selects every pod and names every pod as a peer. Each
is compiled in a process of its own. A third table counts the flows that a rule costs.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from typing import NamedTuple

import msgspec
from rich.console import Console

from ovsnet.controller.belief import Port
from ovsnet.controller.garbage import hold_off, set_aside
from ovsnet.controller.network import Network
from ovsnet.controller.openflow.encode import fingerprint
from ovsnet.model import (
    Direction,
    Namespace,
    NetworkPolicy,
    Node,
    Phase,
    Pod,
    PolicyPeer,
    PolicyPort,
    PolicyRule,
    Selector,
)
from ovsnet.names import FIRST_POD_OFFSET, host_mac, port_name
from tests.bench.figures import Figure, figure, show, write
from tests.bench.scale import megabytes

NAMESPACES = 25_000
PODS_PER_NAMESPACE = 4
PODS_TOGETHER = 10_000
POLICIES_TOGETHER = 10_000
_LATECOMERS = 100
_MOST_ROUNDS = 3
_TARGET_OF_ONE_MORE = 0.001

SOURCES = 250
DESTINATIONS = 100
_PORTS = (PolicyPort(port=80), PolicyPort(port=443))
_TARGET_OF_FLOWS = 1.1

_BOTH = frozenset(Direction)
_FIRST_HOST = FIRST_POD_OFFSET


class Shape(NamedTuple):
    """A cluster: its namespaces, its pods (not yet on any node) and its policies."""

    namespaces: list[Namespace]
    pods: list[Pod]
    policies: list[NetworkPolicy]


def _small_namespaces() -> Shape:
    """In each a default deny of both directions, and two pairs of pods that may talk."""
    shape = Shape([], [], [])
    for number in range(NAMESPACES):
        name = f"ns-{number}"
        shape.namespaces.append(Namespace(name, (("app", name),)))
        shape.policies.append(NetworkPolicy(name, "default-deny-all", directions=_BOTH))
        shape.policies.extend(_among(name, f"np-{k}", _selector(k)) for k in (1, 2))
        shape.pods.extend(
            _pod(name, f"pod-{j}", 1 + 2 * j // PODS_PER_NAMESPACE)
            for j in range(PODS_PER_NAMESPACE)
        )
    return shape


def _one_namespace() -> Shape:
    """Policies that all say the same of all pods."""
    name = "ns"
    return Shape(
        [Namespace(name)],
        [_pod(name, f"pod-{j}", 1) for j in range(PODS_TOGETHER)],
        [_among(name, f"np-{j}", _selector(1)) for j in range(POLICIES_TOGETHER)],
    )


def _selector(number: int) -> Selector:
    return Selector(((f"app-{number}", f"scale-{number}"),))


def _pod(namespace: str, name: str, app: int) -> Pod:
    return Pod(
        namespace, name, f"{namespace}-{name}", labels=_selector(app).labels, phase=Phase.RUNNING
    )


def _among(namespace: str, name: str, selector: Selector) -> NetworkPolicy:
    rule = PolicyRule(peers=(PolicyPeer(pods=selector),))
    return NetworkPolicy(
        namespace, name, pods=selector, directions=frozenset({Direction.INGRESS}), ingress=(rule,)
    )


SHAPES: dict[str, tuple[Callable[[], Shape], int, str]] = {
    "small": (
        _small_namespaces,
        1_000,
        f"{NAMESPACES:,} namespaces, {NAMESPACES * PODS_PER_NAMESPACE:,} pods, "
        f"{NAMESPACES * 3:,} policies",
    ),
    "together": (
        _one_namespace,
        100,
        f"one namespace, {PODS_TOGETHER:,} pods, {POLICIES_TOGETHER:,} policies",
    ),
}
"""By name: how to make it, on how many nodes, and its size in words."""


def figures(rounds: int) -> list[Figure]:
    """Time and memory of both shapes, one pod more, and the flows of a rule."""
    rows: list[Figure] = []
    for shape, (_, _, size) in SHAPES.items():
        measured: dict[str, list[float]] = {}
        for _ in range(min(rounds, _MOST_ROUNDS)):
            done = subprocess.run(
                [sys.executable, "-m", "tests.bench.policies_scale", shape],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            for what, values in json.loads(done.stdout).items():
                measured.setdefault(what, []).extend(values)
        full = ("all of it", [seconds * 1000 for seconds in measured["all of it"]])
        rows += [
            figure(f"policies: objects and groups, {size}", "s", measured["objects"]),
            figure(f"policies: ports, flows and digests, {size}", "s", measured["ports"]),
            figure(f"policies: all of it, {size}", "s", measured["all of it"]),
            figure(f"memory, {size}", "MB", measured["memory"]),
            figure(f"one pod more, {size}", "ms", measured["one"], full, _TARGET_OF_ONE_MORE),
        ]
    return [*rows, *_flows_of_a_rule()]


def once(shape: str) -> dict[str, list[float]]:
    """Compile one of the shapes, in this process; then one pod more, many times."""
    make, count, _ = SHAPES[shape]
    namespaces, unplaced, policies = make()
    nodes = [_node(number) for number in range(count)]
    pods, ports = _placed(unplaced, nodes)
    at_first = megabytes()
    hold_off()
    start = time.perf_counter()
    network = Network(fingerprint)
    network.set_namespaces(namespaces)
    network.set_pods(pods)
    network.set_policies(policies)
    network.set_nodes(nodes)
    known = time.perf_counter()
    for node in nodes:
        network.set_ports(node.name, ports[node.name])
    digests = {network.ledger(node.name).digest for node in nodes}
    set_aside()
    done = time.perf_counter()
    assert len(digests) == count
    assert sum(1 for _ in network.enforcement.isolation.pods) >= len(pods)
    memory = megabytes() - at_first
    late = [_one_more(network, nodes[i % count], ports, pods[i], i) for i in range(_LATECOMERS)]
    return {
        "objects": [known - start],
        "ports": [done - known],
        "all of it": [done - start],
        "memory": [memory],
        "one": [seconds * 1000 for seconds in late],
    }


def _node(number: int, dual: bool = False) -> Node:
    range4 = IPv4Network((0x0A000000 + (number << 8), 24))
    range6 = IPv6Network((0xFD00 << 112 | number << 64, 64))
    return Node(
        f"node-{number:04d}",
        pod_cidrs=(range4, range6) if dual else (range4,),
        addresses=(IPv4Address(0xAC100000 + number + 1),),
    )


def _placed(pods: list[Pod], nodes: list[Node]) -> tuple[list[Pod], dict[str, list[Port]]]:
    """The pods scattered over the nodes, with what kubelet reports of them and their ports."""
    scattered = list(pods)
    random.Random(1).shuffle(scattered)
    placed: list[Pod] = []
    ports: dict[str, list[Port]] = {node.name: [] for node in nodes}
    for number, pod in enumerate(scattered):
        node, host = nodes[number % len(nodes)], number // len(nodes) + _FIRST_HOST
        assert node.range4 is not None
        address = node.range4[host]
        placed.append(msgspec.structs.replace(pod, node=node.name, addresses=(address,)))
        ports[node.name].append(_port(pod, address))
    return placed, ports


def _port(pod: Pod, address: IPv4Address) -> Port:
    host = int(address) & 0xFF
    return Port(host + 1, port_name(pod.namespace, pod.name, pod.uid), host_mac(address))


def _one_more(
    network: Network, node: Node, ports: dict[str, list[Port]], like: Pod, number: int
) -> float:
    """Seconds that one pod more takes on all nodes: first the API's object, then its port."""
    pod = msgspec.structs.replace(
        like, name=f"late-{number}", uid=f"late-{number}", node=node.name, addresses=()
    )
    here = ports[node.name]
    assert node.range4 is not None
    here.append(_port(pod, node.range4[len(here) + _FIRST_HOST]))
    start = time.perf_counter()
    network.put_pod(pod)
    deltas = network.set_ports(node.name, here)
    seconds = time.perf_counter() - start
    assert deltas[node.name].adds
    return seconds


def _flows_of_a_rule() -> list[Figure]:
    """What a rule of many sources and destinations adds to the flows of the destinations' node."""
    rows = []
    for dual in (False, True):
        sources = SOURCES * (1 + dual)
        destinations = DESTINATIONS * (1 + dual)
        sum_of_all = sources + len(_PORTS) + destinations + 1
        count = _with_rule((PolicyRule((PolicyPeer(pods=_selector(2)),), _PORTS),), dual)
        count -= _with_rule((), dual)
        rows.append(
            figure(
                f"flows of a rule, {sources} by {destinations} "
                f"{'addresses of both families' if dual else 'IPv4 addresses'}",
                "flows",
                [count],
                ("sources + ports + destinations + 1", [sum_of_all]),
                _TARGET_OF_FLOWS,
            )
        )
    return rows


def _with_rule(rules: tuple[PolicyRule, ...], dual: bool) -> int:
    """Flows of the node on which all destinations are, under a policy of these rules."""
    here, *others = nodes = [_node(number, dual) for number in range(3)]
    called, called_ports = _placed([_pod("ns", f"to-{j}", 1) for j in range(DESTINATIONS)], [here])
    calling, ports = _placed([_pod("ns", f"from-{j}", 2) for j in range(SOURCES)], others)
    network = Network(fingerprint)
    network.set_namespaces([Namespace("ns")])
    network.set_nodes(nodes)
    network.set_pods([*called, *calling])
    network.put_policy(NetworkPolicy("ns", "np", pods=_selector(1), ingress=rules))
    for node, present in (called_ports | ports).items():
        network.set_ports(node, present)
    return len(network.ledger(here.name).flows)


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.stdout.write(json.dumps(once(sys.argv[1])))
    else:
        found = figures(rounds=1)
        show(found, Console())
        write(found, Path("build/bench/policies_scale.json"))
