from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import Place, PodPlace, wait_for
from sandbox_lab import Lab
from scene import Scene
from switch_state import expect_exact_flows
from wire import taps

from ovsnet.sandbox.layout import RUN_DIRECTORY

_PODS = {"a1": "node1", "b1": "node1", "a2": "node2", "b2": "node2", "a3": "node3"}
_AUDIT = "1"
_KEPT = ("c1", "d1", "c2")


def _instance(letter: str) -> str:
    return f"nettest{os.getpid()}{letter}"


def _clear_the_dead() -> None:
    """Take down what test runs have left that were killed."""
    for path in RUN_DIRECTORY.glob("nettest*"):
        pid = path.name.removeprefix("nettest")[:-1]
        if pid.isdecimal() and not Path("/proc", pid).exists():
            Lab(path.name).down()


@pytest.fixture(scope="session", autouse=True)
def _ended_by_a_signal() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does, so that sandboxes are taken down."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


def _sandbox(letter: str, nodes: int, *extra: str) -> Iterator[Lab]:
    if os.geteuid() != 0:
        pytest.skip("a sandbox needs root")
    _clear_the_dead()
    lab = Lab(_instance(letter), extra)
    try:
        lab.up(nodes)
        yield lab
    finally:
        lab.down()


def _introduce(pods: dict[str, PodPlace]) -> None:
    """Let pods of different nodes speak to each other once.

    Userspace Open vSwitch loses the first packet to a node whose link-layer address it does not
    know yet; the tests are about all the others.
    """
    for source in pods.values():
        for target in pods.values():
            if source.node != target.node:
                ping = ("ping", "-n", "-c", "5", "-i", "0.05", "-W", "1", target.address(4))
                source.run(*ping, check=False)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A sandbox of three nodes in which nothing is broken."""
    yield from _sandbox("a", 3)


@pytest.fixture(scope="session")
def pods(lab: Lab) -> dict[str, PodPlace]:
    """Two pods on node1 and node2 each, one on node3, who have all spoken to each other once."""
    made = lab.pods(_PODS.items())
    _introduce(made)
    expect_exact_flows(lab)
    return made


@pytest.fixture(scope="session")
def broken() -> Iterator[Lab]:
    """A sandbox of two nodes for tests that break things, and mend them at their end.

    Its controller compares all flows every second, its agents have less patience than usual,
    and an address rests for no time, so that nothing but their turn keeps it unused.
    """
    for made in _sandbox("b", 2, "--audit", _AUDIT):
        made.configure_agents(deadline=2.0, housekeeping=0.5, quarantine=0.0)
        _introduce(made.pods([("c1", "node1"), ("d1", "node1"), ("c2", "node2")]))
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
    with taps(places) as opened:
        found = Scene(lab, pods, opened, places)
        found.everything_has_arrived()
        yield found


@pytest.fixture
def scene(_watched: Scene) -> Scene:
    """All pods and nodes, watched; nothing that came before the test counts."""
    _watched.taps.forget()
    return _watched
