from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest

from ovsnet.sandbox import health, plan, state
from ovsnet.sandbox.health import ProcessHealth
from ovsnet.sandbox.layout import Layout
from ovsnet.sandbox.process import Record, Spec
from ovsnet.sandbox.state import BusyError, NotRunningError, Opening, Phase

OPENING = Opening("2025-01-31T12:00:00Z", userspace=True, api_url="http://127.0.0.1:1")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "sandbox", "ovsnet.unused")


def describe(layout: Layout, phase: Phase = Phase.UP) -> state.State:
    records = {
        name: Record(Spec(name, ("x",)), pid, 1)
        for name, pid in (("controller", 7), ("agent-node2", 8))
    }
    return state.describe(layout, plan.plan(2), OPENING, phase, records)


def test_what_is_written_can_be_read(layout: Layout) -> None:
    layout.root.mkdir()
    written = describe(layout)
    state.write(layout, written)
    assert state.read(layout) == written
    assert state.running(layout) == written
    document = msgspec.json.decode(layout.state.read_bytes())
    # These are relied upon by scripts.
    assert document["controller"] == {
        "url": "http://127.0.0.1:9095", "netns": "/run/netns/ovsnet.unused-control", "pid": 7
    }  # fmt: skip
    assert document["kubeconfig"] == str(layout.kubeconfig)
    assert [node["name"] for node in document["nodes"]] == ["node1", "node2"]
    assert document["nodes"][1]["pids"]["agent"] == 8
    assert document["nodes"][0]["pids"]["agent"] is None
    assert document["datapath"] == "netdev"


def test_a_sandbox_that_is_not_up(layout: Layout) -> None:
    with pytest.raises(NotRunningError, match="no sandbox is running"):
        state.running(layout)
    layout.root.mkdir()
    state.write(layout, describe(layout, Phase.STARTING))
    with pytest.raises(NotRunningError, match="interrupted"):
        state.running(layout)
    layout.state.write_text("{")
    assert state.read(layout) is None


def test_a_node_that_is_not_there(layout: Layout) -> None:
    with pytest.raises(NotRunningError, match="no node 'x'; it has: node1, node2"):
        describe(layout).node("x")


def test_only_one_changes_a_sandbox(layout: Layout) -> None:
    with state.lock(layout), pytest.raises(BusyError), state.lock(layout, seconds=0.1):
        pass
    with state.lock(layout, seconds=0.1):
        assert layout.root.is_dir()


def test_a_lock_on_a_directory_that_was_removed_is_no_lock(layout: Layout) -> None:
    """Whoever waited while another removed the sandbox begins with a directory of its own."""
    entered = threading.Event()
    leave = threading.Event()

    def remove() -> None:
        with state.lock(layout):
            entered.set()
            leave.wait(10)
            layout.root.rmdir()

    thread = threading.Thread(target=remove)
    thread.start()
    entered.wait(10)
    threading.Timer(0.1, leave.set).start()
    with state.lock(layout):
        assert layout.root.is_dir()
        with pytest.raises(BusyError), state.lock(layout, seconds=0):
            pass
    thread.join()


def node_item(name: str, ready: str = "True") -> dict[str, object]:
    return {
        "metadata": {"name": name},
        "spec": {"podCIDRs": ["10.244.0.0/24"]},
        "status": {"conditions": [{"type": "Ready", "status": ready, "message": "why"}]},
    }


POD_ITEM = {
    "metadata": {"namespace": "shop", "name": "web-0"},
    "spec": {"nodeName": "node1"},
    "status": {"phase": "Running", "podIPs": [{"ip": "10.244.0.3"}]},
}
RUNS = ProcessHealth("agent-node1", 5, alive=True)


def test_health(layout: Layout) -> None:
    current = describe(layout)
    nodes = [node_item("node2"), node_item("node1")]
    well = health.assess(current, [RUNS], nodes, [POD_ITEM])
    assert well.healthy
    assert [(n.name, n.pods, n.running) for n in well.nodes] == [("node1", 1, 1), ("node2", 0, 0)]
    assert well.pods[0].addresses == ("10.244.0.3",)

    ended = msgspec.structs.replace(RUNS, alive=False)
    assert not health.assess(current, [ended], nodes, []).healthy
    assert not health.assess(current, [RUNS], nodes[:1], []).healthy
    unready = health.assess(current, [RUNS], [node_item("node1", "False"), nodes[0]], [])
    assert not unready.healthy
    assert unready.nodes[0].fault == "why"
    assert not health.assess(current, [RUNS], nodes, [], "no answer").healthy
