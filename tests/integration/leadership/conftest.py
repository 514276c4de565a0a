"""A sandbox of two nodes and three controllers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from places import PodPlace
from replicated_lab import ReplicatedLab
from sandbox_lab import Lab
from sandbox_runs import introduce, sandbox

REPLICAS = 3


@pytest.fixture(scope="module")
def secure() -> bool:
    """Whether switches, agents and controllers speak TLS."""
    return False


@pytest.fixture(scope="module")
def made() -> Iterator[Lab]:
    with sandbox("lead", "a", 2) as lab:
        yield lab


@pytest.fixture(scope="module")
def _replicated(made: Lab, secure: bool) -> ReplicatedLab:
    replicated = ReplicatedLab(made, REPLICAS, secure=secure)
    replicated.replicate()
    return replicated


@pytest.fixture(scope="module")
def pods(_replicated: ReplicatedLab) -> dict[str, PodPlace]:
    """Two pods on node1 and one on node2, who have spoken to each other."""
    found = _replicated.lab.pods([("c1", "node1"), ("d1", "node1"), ("c2", "node2")])
    introduce(found.values())
    return found


@pytest.fixture
def replicated(_replicated: ReplicatedLab, pods: dict[str, PodPlace]) -> Iterator[ReplicatedLab]:
    """All controllers run, one leads and the others are warm, before each test and after it."""
    _replicated.mend()
    yield _replicated
    _replicated.lab.mend(tuple(pods))
    _replicated.mend()
