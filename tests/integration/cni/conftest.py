from __future__ import annotations

from collections.abc import Iterator

import pytest
from cni_node import Pod, TestNode


@pytest.fixture(scope="module")
def node() -> Iterator[TestNode]:
    """One node for all tests of a module, with its agent running."""
    with TestNode() as started:
        started.start_agent()
        started.wait(lambda: any(started.conf_dir.glob("*")), "the network configuration")
        yield started


@pytest.fixture
def pod(node: TestNode) -> Iterator[Pod]:
    """A pod that is not attached yet; whatever a test attaches is gone afterwards."""
    with node.pod() as made:
        yield made
        node.delete(made)
    node.expect_nothing_left()
