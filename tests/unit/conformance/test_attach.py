"""A cluster that is there is used if all of it runs, and never cleared away unasked."""

from __future__ import annotations

from functools import partial

import pytest
from click.testing import CliRunner
from places import wait_for

from ovsnet.sandbox import process
from ovsnet.sandbox.layout import Layout
from ovsnet.sandbox.process import Spec
from tests.conformance import __main__ as commands
from tests.conformance.cluster import cluster as clusters
from tests.conformance.cluster.cluster import Cluster, ClusterError
from tests.conformance.cluster.stock import Stock

USERS = ("up", "quick", "life", "upstream")
attach = clusters.attach


@pytest.fixture
def layout(tmp_path):
    found = Layout(tmp_path / "cluster", "ovsnet.unused")
    yield found
    process.end_all(found.root)


@pytest.fixture
def cluster(layout, monkeypatch, tmp_path):
    """Two programs of it run, and the control plane has answered."""
    goods = Stock(kubernetes=tmp_path, version="v1", archives=())
    monkeypatch.setattr(clusters, "stock", lambda _: goods)
    monkeypatch.setattr(clusters.roots, "node", lambda _: tmp_path)
    made = Cluster(layout, clusters.plan.plan(3), goods, tmp_path)
    for name in ("controlplane", "kubelet-node1"):
        process.start(layout, Spec(name, ("sleep", "1000")))
    made.kubeconfig.parent.mkdir(parents=True)
    made.kubeconfig.touch()
    return made


@pytest.fixture
def run(layout, began, monkeypatch):
    """Runs a command on this cluster."""
    monkeypatch.setattr(commands.clusters, "attach", partial(attach, instance=layout))
    return lambda name: CliRunner().invoke(commands.main, [name])


def kill(layout, name):
    process.end(process.known(layout, name))


def test_one_that_runs_is_used(cluster, layout, run, began):
    assert attach(print, layout) == cluster
    for name in USERS:
        assert run(name).exit_code == 0
    assert began == ["tests"] * 3


def test_where_there_is_none_one_is_started(layout, run, began):
    for name in USERS:
        run(name)
    assert began.count("up") == len(USERS)


@pytest.mark.parametrize("name", ["controlplane", "kubelet-node1"])
def test_one_of_which_a_program_has_ended_is_left_alone(cluster, layout, run, began, name):
    kill(layout, name)
    for command in USERS:
        result = run(command)
        assert result.exit_code == commands.FAILED
        assert f"{name} ended: {process.log_path(layout, name)}" in result.output
        assert "tests/conformance/run down takes it away" in result.output
    assert began == []
    assert process.log_path(layout, name).exists()
    assert sum(map(process.alive, process.records(layout).values())) == 1


def test_one_that_is_not_complete_is_left_alone(cluster, layout, run, began):
    cluster.kubeconfig.unlink()
    for command in USERS:
        result = run(command)
        assert result.exit_code == commands.FAILED
        assert "is not complete; tests/conformance/run down takes it away" in result.output
    assert began == []


def test_one_that_has_ended_as_a_whole_makes_room_and_is_mentioned(cluster, layout, run, began):
    for name in process.records(layout):
        kill(layout, name)
    result = run("up")
    assert "all programs of the cluster that was here have ended" in result.output
    assert began == ["up"]


def test_it_is_seen_when_a_program_ends_by_itself(layout, cluster):
    record = process.start(layout, Spec("brief", ("true",)))
    wait_for(lambda: not process.alive(record), "it to end")
    with pytest.raises(ClusterError, match="brief ended"):
        attach(print, layout)


def test_a_node_that_does_not_run_cannot_be_entered(layout, cluster, monkeypatch):
    monkeypatch.setattr(clusters, "INSTANCE", layout)
    process.start(layout, Spec("machine-node1", ("sleep", "1000")))
    kill(layout, "machine-node1")
    for name in ("node1", "node2"):
        result = CliRunner().invoke(commands.main, ["node", name, "true"])
        assert result.exit_code == 1
        assert f"{name} does not run: tests/conformance/run up starts a cluster" in result.output
