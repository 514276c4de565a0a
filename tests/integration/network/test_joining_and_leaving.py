"""Nodes that come and go while the network runs, and events in any order."""

from __future__ import annotations

import random

import pytest
from sandbox_lab import NAMESPACE, Lab, PodPlace, wait_for
from switch_state import dump, expect_exact_flows

from ovsnet.sandbox import netns, node


def reaches(source: PodPlace, target: PodPlace) -> bool:
    command = ("ping", "-n", "-c", "1", "-W", "1")
    return all(source.run(*command, target.address(v), check=False).returncode == 0 for v in (4, 6))


def knows(lab: Lab, name: str, address: str) -> bool:
    """Whether a node's flows mention an underlay address."""
    dumped = lab.ovs(name, "ovs-ofctl", "-O", "OpenFlow15", "dump-flows", "br-int")
    return address in dumped


def test_a_node_that_joins_is_reached_and_one_that_leaves_is_forgotten(broken: Lab) -> None:
    """Last of its sandbox's tests but one: the node that left stays away."""
    c1 = broken.running(["c1"])["c1"]
    others = broken.nodes
    name = broken.join()
    broken.wait_for_agent(name)
    expect_exact_flows(broken)
    made = broken.pods([("joined", name)])["joined"]
    for version_of in (c1, broken.running(["c2"])["c2"]):
        wait_for(lambda p=version_of: reaches(p, made), f"{version_of.name} to reach {made.name}")
        wait_for(lambda p=version_of: reaches(made, p), f"{made.name} to reach {version_of.name}")
    underlay = broken.underlay(name)
    assert all(knows(broken, other, str(underlay.ipv4)) for other in others)

    broken.kill(node.process_name(node.KUBELET, name))
    broken.api("DELETE", f"/api/v1/nodes/{name}")
    for other in others:
        wait_for(
            lambda o=other: not knows(broken, o, str(underlay.ipv4)),
            f"{other} to forget {name}",
        )
    assert {n["name"] for n in broken.status()["nodes"]} == set(others)
    assert not reaches(c1, made)

    # It comes back, with its pod, as a node that has been away does.
    broken.start(node.process_name(node.KUBELET, name))
    wait_for(lambda: len(broken.api("GET", "/api/v1/nodes")["items"]) == 3, "the node to register")
    expect_exact_flows(broken)


SEEDS = (11,)
ROUNDS = 30


@pytest.mark.parametrize("seed", SEEDS)
def test_after_any_churn_every_switch_is_as_if_nothing_had_happened(whole: Lab, seed: int) -> None:
    """Pods come and go while parts are killed, watches cut and flows tampered with."""
    chance = random.Random(seed)
    alive: dict[str, str] = {}
    numbers = iter(range(1000))

    def create() -> None:
        name, place = f"churn-{next(numbers)}", chance.choice(("node1", "node2"))
        whole.post_pod(name, place)
        alive[name] = place

    def delete() -> None:
        if alive:
            name = chance.choice(sorted(alive))
            del alive[name]
            path = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}"
            whole.api("DELETE", path, {"gracePeriodSeconds": chance.choice((0, 1))})

    def kill() -> None:
        parts = ("controller", "agent-node1", "agent-node2", "kubelet-node1", "kubelet-node2")
        name = chance.choice(parts)
        whole.kill(name)
        whole.start(name)

    def interrupt() -> None:
        whole.fault(cutWatches=True, compact=chance.random() < 0.5)

    def tamper() -> None:
        name = chance.choice(("node1", "node2"))
        ofctl = ("ovs-ofctl", "-O", "OpenFlow15")
        table = chance.randrange(14)
        if chance.random() < 0.5:
            whole.ovs(name, *ofctl, "del-flows", "br-int", f"table={table}")
        else:
            flow = f"table={table},priority={chance.randrange(65536)},ip actions=drop"
            whole.ovs(name, *ofctl, "add-flow", "br-int", flow)

    steps = [create] * 6 + [delete] * 4 + [kill] * 2 + [interrupt] * 2 + [tamper] * 2
    for _ in range(ROUNDS):
        chance.choice(steps)()
    made = whole.running(sorted(alive))
    expect_exact_flows(whole)
    c1 = whole.running(["c1"])["c1"]
    for place in made.values():
        wait_for(lambda p=place: reaches(c1, p) and reaches(p, c1), f"{place.name} to work")
    assert all(dump(whole, name) for name in whole.nodes)
    for name in ("node1", "node2"):
        expected = sum(where == name for where in alive.values())
        wait_for(
            lambda n=name, e=expected: len(whole.pod_namespaces(n)) == e + len(_kept(n)),
            f"{name} to have the namespaces of its pods and no others",
        )
    assert netns.exists(c1.netns)


def _kept(name: str) -> tuple[str, ...]:
    return {"node1": ("c1", "d1"), "node2": ("c2",)}[name]
