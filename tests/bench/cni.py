"""ADD and DEL against Debian's bridge and host-local plugins, one at a time and many at once.

Every execution is a process of its own, as a runtime does it. The switch answers for the gateway
by a flow that is there beforehand, so what a controller takes comes on top; `lets_in` puts
something else in its place.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cni_node import CNI_PLUGINS, Pod, TestNode, answer_everyone

from ovsnet import names
from ovsnet.cni import netns
from ovsnet.sandbox.openvswitch import network_namespace
from tests.bench.figures import Figure, figure

MOST = 32
CIDR = "10.77.0.0/16"
BASELINE = "bridge + host-local"


class Contender(NamedTuple):
    """A plugin with its configuration, in the namespace of its node."""

    executable: Path
    conf: dict[str, object]
    namespace: int
    gone: Callable[[], bool]


class Samples:
    """What one contender took, in ms and executions a second."""

    def __init__(self) -> None:
        self.add: dict[int, list[float]] = {}
        self.delete: dict[int, list[float]] = {}
        self.add_rate: dict[int, list[float]] = {}
        self.delete_rate: dict[int, list[float]] = {}


def static_flows(node: TestNode) -> None:
    """Let every pod in by one flow."""
    node.ovs.ofctl("add-flow", names.BRIDGE, answer_everyone(node.gateway4))


@contextlib.contextmanager
def _ours(lets_in: Callable[[TestNode], None]) -> Iterator[Contender]:
    options = {"cluster_cidrs": [CIDR], "quarantine": 1.0, "housekeeping": 5.0}
    with TestNode(cidrs=(CIDR,), options=options, let_in=lambda port: False) as node:
        node.start_agent()
        lets_in(node)
        conf: dict[str, object] = {"cniVersion": "1.0.0", "name": "ovsnet", "type": "ovsnet"}
        fd = os.open(f"/run/netns/{node.netns}", os.O_RDONLY)
        yield Contender(node.plugin, conf, fd, lambda: not node.links())
        os.close(fd)


@contextlib.contextmanager
def _baseline() -> Iterator[Contender]:
    with network_namespace(f"cni-base-{secrets.token_hex(3)}") as name:
        directory = Path("/run") / name
        ipam = {"type": "host-local", "subnet": CIDR, "dataDir": str(directory)}
        conf = {
            "cniVersion": "1.0.0",
            "name": "base",
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipam": ipam,
        }
        fd = os.open(f"/run/netns/{name}", os.O_RDONLY)
        yield Contender(CNI_PLUGINS / "bridge", conf, fd, lambda: True)
        os.close(fd)
        subprocess.run(["rm", "-r", str(directory)], check=False)


def _execute(contender: Contender, verb: str, pod: Pod) -> float:
    """Execute the plugin; returns milliseconds."""
    environment = pod.environment(verb, (contender.executable.parent, CNI_PLUGINS))
    stdin = json.dumps(contender.conf).encode()
    with netns.entered(contender.namespace):
        begun = time.perf_counter()
        done = subprocess.run(
            [contender.executable], env=environment, input=stdin, capture_output=True, check=False
        )
        took = time.perf_counter() - begun
    assert done.returncode == 0, (contender.executable, verb, done.stdout)
    return took * 1000


def _round(contender: Contender, pods: Sequence[Pod], at_once: int, samples: Samples) -> None:
    fresh = [Pod(p.netns, name=p.name) for p in pods]
    with ThreadPoolExecutor(at_once) as pool:
        for verb, times, rates in (
            ("ADD", samples.add, samples.add_rate),
            ("DEL", samples.delete, samples.delete_rate),
        ):
            begun = time.perf_counter()
            took = list(pool.map(lambda pod, v=verb: _execute(contender, v, pod), fresh))
            rates.setdefault(at_once, []).append(len(fresh) / (time.perf_counter() - begun))
            times.setdefault(at_once, []).extend(took)
    while not contender.gone():
        time.sleep(0.01)


def figures(rounds: int, lets_in: Callable[[TestNode], None] = static_flows) -> list[Figure]:
    """Measure both in turn, `rounds` times."""
    ours, base = Samples(), Samples()
    with contextlib.ExitStack() as stack:
        contenders = (
            (stack.enter_context(_ours(lets_in)), ours),
            (stack.enter_context(_baseline()), base),
        )
        tag = secrets.token_hex(3)
        pods = [
            Pod(stack.enter_context(network_namespace(f"pod-{tag}-{i}")), name=f"web-{i}")
            for i in range(MOST)
        ]
        for _ in range(rounds):
            for at_once in (1, 8, MOST):
                for contender, samples in contenders:
                    _round(contender, pods, at_once, samples)
    return _rows(ours, base)


def _rows(ours: Samples, base: Samples) -> list[Figure]:
    rows = []
    for at_once in ours.add:
        how = "one at a time" if at_once == 1 else f"{at_once} at once"
        add, delete = base.add[at_once], base.delete[at_once]
        rows += [
            figure(f"ADD, {how}", "ms", ours.add[at_once], (BASELINE, add), 1.5),
            figure(f"DEL, {how}", "ms", ours.delete[at_once], (BASELINE, delete), 1.0),
        ]
        if at_once > 1:
            rates = (BASELINE, base.add_rate[at_once])
            rows.append(
                figure(f"ADD, {how}", "per s", ours.add_rate[at_once], rates, less_is_better=False)
            )
    return rows
