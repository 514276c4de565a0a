"""The agent killed between any two steps: nothing leaks, and the pod works after a restart."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cni_node import Pod, TestNode

Conf = dict[str, Any] | None
ADD_STEPS = ("begun", "addressed", "linked", "plugged", "configured", "answered")
DELEGATED_STEPS = ("begun", "delegated", "addressed", "linked", "answered")
DEL_STEPS = ("removing", "unplugged", "unlinked")
HOST_LOCAL = {
    "cniVersion": "1.0.0",
    "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd00:77::/120"}]],
    },
}


@pytest.fixture(scope="module")
def node() -> Iterator[TestNode]:
    with TestNode() as started:
        yield started


def killed_at(node: TestNode, step: str, verb: str, pods: Sequence[Pod], conf: Conf = None) -> None:
    """Start the agent anew so that the first request to reach `step` kills it, and let it."""
    node.stop_agent()
    node.start_agent(kill_at=step)
    with ThreadPoolExecutor(len(pods)) as pool:
        outcomes = list(pool.map(lambda pod: node.call(verb, pod, conf), pods))
    assert all(outcome.code == 11 for outcome in outcomes if outcome.status)
    node.wait(node.agent_died, f"the agent to die at {step}")
    node.stop_agent(signal.SIGKILL)


@pytest.mark.parametrize("step", ADD_STEPS)
def test_a_kill_in_an_add(node: TestNode, step: str) -> None:
    with node.pod(name="retried") as retried, node.pod(name="deleted") as deleted:
        with node.pod(name="forgotten") as forgotten:
            killed_at(node, step, "ADD", (retried, deleted, forgotten))
        # The runtime never comes back for the forgotten one, and its namespace is gone.
        node.start_agent(ready=False)
        node.wait(lambda: node.call("DEL", deleted).status == 0, "DEL to succeed")
        node.wait(lambda: node.call("ADD", retried).status == 0, "ADD to succeed")
        port = node.add(retried)["interfaces"][0]["name"]
        node.wait(lambda: node.ports() == {port}, "the other two to be gone")
        assert node.links() == {port}
        assert node.call("CHECK", retried).status == 0
        node.delete(retried)
        node.expect_nothing_left()


@pytest.mark.parametrize("step", DEL_STEPS)
def test_a_kill_in_a_delete(node: TestNode, step: str) -> None:
    with node.pod(name="repeated") as repeated, node.pod(name="again") as again:
        node.stop_agent()
        node.start_agent()
        node.add(repeated)
        node.add(again)
        killed_at(node, step, "DEL", (repeated, again))
        node.start_agent()
        node.delete(repeated)
        # A new sandbox of the same pod follows the one whose removal was cut short.
        node.add(again)
        assert node.call("CHECK", again).status == 0
        node.delete(again)
        node.expect_nothing_left()


@pytest.mark.parametrize("step", DELEGATED_STEPS)
def test_a_kill_with_delegated_addresses(node: TestNode, step: str) -> None:
    directory = node.directory / "ipam"
    conf = HOST_LOCAL | {"ipam": HOST_LOCAL["ipam"] | {"dataDir": str(directory)}}
    with node.pod() as pod:
        killed_at(node, step, "ADD", (pod,), conf)
        node.start_agent(ready=False)
        node.wait(lambda: node.call("DEL", pod, conf).status == 0, "DEL to succeed")
        node.expect_nothing_left()
        leases = [p.name for p in directory.rglob("*") if p.name.startswith(("10.", "fd"))]
        assert leases == []
