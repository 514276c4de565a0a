from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsnet.sandbox.layout import LayoutError, from_environment, layout, node_names

INSTANCES = st.from_regex(r"\A[a-z][a-z0-9]{0,15}\Z")


@given(INSTANCES, INSTANCES)
def test_no_sandbox_takes_anothers_namespaces_for_its_own(one: str, other: str) -> None:
    first, second = layout(one), layout(other)
    ours = second.netns("node1").name.startswith(f"{first.prefix}-")
    assert ours == (one == other)
    assert (first.root == second.root) == (one == other)


@pytest.mark.parametrize("name", ["", "..", "a/b", "a-b", "Node", "1a", "a" * 17, "a\n"])
def test_a_name_that_could_lead_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(LayoutError, match="cannot name a sandbox"):
        layout(name)


def test_the_usual_sandbox_and_another() -> None:
    usual = from_environment({})
    assert str(usual.netns("node1")) == "/run/netns/ovsnet-node1"
    assert str(usual.state) == "/run/ovsnet/sandbox/state.json"
    other = from_environment({"OVSNET_SANDBOX": "mine"})
    assert str(other.netns("node1")) == "/run/netns/ovsnet.mine-node1"
    assert str(other.node("node2").ovs) == "/run/ovsnet/mine/nodes/node2/ovs"


def test_everything_lies_below_the_root() -> None:
    found = layout("mine")
    node = found.node("node1")
    paths = (
        found.state, found.processes, found.logs, found.kubeconfig, found.inner_kubeconfig,
        found.kubectl_cache, node.ovs, node.cni_configuration, node.cni_plugins, node.agent,
        node.kubelet,
    )  # fmt: skip
    assert all(path.is_relative_to(found.root) for path in paths)
    assert len(set(paths)) == len(paths)


def test_node_names() -> None:
    assert node_names(3) == ("node1", "node2", "node3")
