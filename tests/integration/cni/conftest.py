from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from cni_node import Pod, TestNode
from host_side import HostSide, beside_kube_proxy, host_side


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


@pytest.fixture(scope="module")
def plain() -> Iterator[HostSide]:
    """A node with what it leads into its switch, and nobody else's packet filter."""
    with host_side() as made:
        yield made


@pytest.fixture(params=["alone", "beside kube-proxy"])
def side(plain: HostSide, request: pytest.FixtureRequest) -> Iterator[HostSide]:
    """The same, and once more with kube-proxy's rules beside ours."""
    beside = request.param != "alone"
    with beside_kube_proxy(plain) if beside else contextlib.nullcontext():
        plain.forget()
        yield plain
