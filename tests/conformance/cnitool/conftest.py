from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance import programs
from tests.conformance.cnitool.node import Cluster, Container


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One node for all tests."""
    made = Cluster(programs.cnitool())
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(autouse=True)
def nothing_stays(cluster: Cluster) -> Iterator[None]:
    """Whatever a test does, afterwards the node is as it was, for the next test in any case."""
    yield
    try:
        cluster.until(lambda: not cluster.left(), "nothing to be left", cluster.left)
    finally:
        cluster.clear()


@pytest.fixture
def container(cluster: Cluster) -> Iterator[Container]:
    """A container whose pod is scheduled to the node."""
    with cluster.container() as made:
        yield made
