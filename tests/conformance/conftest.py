from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.cluster import cluster as clusters
from tests.conformance.cluster.cluster import Cluster
from tests.conformance.cluster.workload import Bench


@pytest.fixture(scope="session")
def kubernetes() -> Cluster:
    """The cluster that runs; whoever starts the tests has started it."""
    found = clusters.attach(print)
    assert found is not None, "no cluster is running: tests/conformance/run up starts one"
    return found


@pytest.fixture
def bench(kubernetes: Cluster) -> Iterator[Bench]:
    """A namespace of the test's own."""
    with Bench.made(kubernetes) as bench:
        yield bench
