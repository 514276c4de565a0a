"""Nodes that come and go while the network runs, and events in any order."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import pytest
from lab_nodes import CommandError
from places import PodPlace, wait_for
from sandbox_lab import NAMESPACE, Lab
from switch_state import dump, expect_exact_flows

from ovsnet.sandbox import netns, node


def reaches(source: PodPlace, target: PodPlace) -> bool:
    command = ("ping", "-n", "-c", "1", "-W", "1")
    return all(source.run(*command, target.address(v), check=False).returncode == 0 for v in (4, 6))


def knows(lab: Lab, name: str, address: str) -> bool:
    """Whether a node's flows mention an underlay address."""
    dumped = lab.ovs(name, "ovs-ofctl", "-O", "OpenFlow15", "dump-flows", "br-int")
    return address in dumped


@pytest.fixture
def joined(whole: Lab) -> Iterator[str]:
    """One more node."""
    name = whole.join()
    whole.wait_for_agent(name)
    yield name
    whole.leave(name)


def test_a_node_that_joins_is_reached_and_one_that_leaves_is_forgotten(
    whole: Lab, joined: str
) -> None:
    others = whole.running(["c1", "c2"])
    expect_exact_flows(whole)
    made = whole.pods([("joined", joined)])["joined"]
    for other in others.values():
        wait_for(lambda p=other: reaches(p, made), f"{other.name} to reach {made.name}")
        wait_for(lambda p=other: reaches(made, p), f"{made.name} to reach {other.name}")
    underlay = str(whole.underlay(joined).ipv4)
    assert all(knows(whole, place.node, underlay) for place in others.values())

    whole.kill(node.process_name(node.KUBELET, joined))
    since = whole.log_size("controller")
    whole.api("DELETE", f"/api/v1/nodes/{joined}")
    for place in others.values():
        wait_for(
            lambda p=place: not knows(whole, p.node, underlay),
            f"{place.node} to forget {joined}",
        )
    whole.wait_for_log("controller", f"node={joined}.*left the cluster", since)
    assert joined not in {each["name"] for each in whole.status()["nodes"]}
    assert not any(reaches(place, made) for place in others.values())

    # It comes back, as a node does whose object was deleted by mistake.
    whole.start(node.process_name(node.KUBELET, joined))
    wait_for(
        lambda: all(knows(whole, place.node, underlay) for place in others.values()),
        f"the others to know {joined} again",
    )
    expect_exact_flows(whole)


SEEDS = (11, 12)
ROUNDS = 60


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
        name = chance.choice((*parts, "ovs-vswitchd-node2"))
        whole.kill(name)
        whole.start(name)

    def interrupt() -> None:
        whole.fault(cutWatches=True, compact=chance.random() < 0.5)

    def tamper() -> None:
        name = chance.choice(("node1", "node2"))
        ofctl = ("ovs-ofctl", "-O", "OpenFlow15")
        table = chance.randrange(14)
        if chance.random() < 0.5:
            command = ("del-flows", "br-int", f"table={table}")
        else:
            flow = f"table={table},priority={chance.randrange(65536)},ip actions=drop"
            command = ("add-flow", "br-int", flow)
        # A switch that has just been killed cannot be tampered with either.
        with contextlib.suppress(CommandError):
            whole.ovs(name, *ofctl, *command)

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
