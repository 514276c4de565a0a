"""Waiting until what the API server says is in effect on every node."""

from __future__ import annotations

import contextlib
from typing import Any

from lab_nodes import CommandError
from places import wait_for
from sandbox_lab import Lab
from switch_state import network, stamp


def expect_settled(lab: Lab, seconds: float = 20) -> None:
    """Return when the objects that the API server has now are in effect for every packet.

    That the controller has heard of them is read from the switches' stamps; from then on its status
    speaks of revisions that they are in.
    """
    wait_for(lambda: _heard(lab), "the stamps of what the API server says", seconds)
    wait_for(
        lambda: in_effect(lab),
        lambda: f"all nodes to have settled: {revisions(lab)}",
        seconds,
    )


def _heard(lab: Lab) -> bool:
    # Asked of the switches first: what has settled in them is what is computed afterwards.
    made = network(lab)
    with contextlib.suppress(CommandError):
        return all(
            stamp(lab, name) == made.ledger(name).digest for name in made.nodes if name in lab.nodes
        )
    return False


def revisions(lab: Lab) -> dict[str, dict[str, Any]]:
    """Every node's revisions, desired, acknowledged and settled, as the status document has them;
    none while the controller does not answer.
    """
    with contextlib.suppress(OSError):
        nodes = lab.status()["nodes"]
        return {node["name"]: node["revision"] for node in nodes if node["name"] in lab.nodes}
    return {}


def in_effect(lab: Lab) -> bool:
    """Whether all nodes have settled."""
    found = revisions(lab)
    return found.keys() == set(lab.nodes) and all(
        each["settled"] == each["desired"] for each in found.values()
    )
