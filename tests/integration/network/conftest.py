from __future__ import annotations

from collections.abc import Iterator

import datapath
import pytest
from places import Place, PodPlace, wait_for
from sandbox_lab import Lab
from sandbox_runs import introduce, sandbox
from scene import Scene
from switch_state import expect_exact_flows
from wire import taps

_PODS = {"a1": "node1", "b1": "node1", "a2": "node2", "b2": "node2", "a3": "node3"}
_AUDIT = "1"
_KEPT = ("c1", "d1", "c2")


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A sandbox of three nodes in which nothing is broken."""
    with sandbox("nettest", "a", 3) as made:
        yield made


@pytest.fixture(scope="session")
def pods(lab: Lab) -> dict[str, PodPlace]:
    """Two pods on node1 and node2 each, one on node3, who have all spoken to each other once."""
    made = lab.pods(_PODS.items())
    introduce(made.values())
    expect_exact_flows(lab)
    return made


@pytest.fixture(scope="session")
def broken() -> Iterator[Lab]:
    """A sandbox of two nodes for tests that break things, and mend them at their end.

    Its controller compares all flows every second, its agents have less patience than usual,
    and an address rests for no time, so that nothing but their turn keeps it unused.
    """
    with sandbox("nettest", "b", 2, "--audit", _AUDIT) as made:
        made.configure_agents(deadline=2.0, housekeeping=0.5, quarantine=0.0)
        introduce(made.pods([("c1", "node1"), ("d1", "node1"), ("c2", "node2")]).values())
        yield made


@pytest.fixture
def whole(broken: Lab) -> Iterator[Lab]:
    """The sandbox for breaking. After the test its switches must be as they should be, and nothing
    may be left of the pods that the test made.
    """
    before = {name: broken.leftovers(name) for name in broken.nodes}
    yield broken
    broken.mend(_KEPT)
    expect_exact_flows(broken)
    for name in broken.nodes:
        wait_for(
            lambda name=name: broken.leftovers(name) == before[name],
            lambda name=name: f"{name} to be as before: {broken.leftovers(name)}, {before[name]}",
        )


@pytest.fixture(scope="session")
def _watched(lab: Lab, pods: dict[str, PodPlace]) -> Iterator[Scene]:
    places: dict[str, Place] = {
        **pods,
        **{name: lab.host(name) for name in lab.nodes},
        "outside": lab.outside,
        "fabric of node2": lab.underlay("node2"),
    }
    # With the userspace datapath the tunnel's packets never come to the node's own stack.
    with taps(places, {"fabric of node2": datapath.TUNNEL_PORT}) as opened:
        found = Scene(lab, pods, opened, places)
        found.everything_has_arrived()
        yield found


@pytest.fixture
def scene(_watched: Scene) -> Scene:
    """All pods and nodes, watched; nothing that came before the test counts."""
    _watched.taps.forget()
    return _watched
