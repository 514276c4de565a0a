"""status: 50 when the node carries no pods, 51 when running ones are affected."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.cnitool.node import NODE, Cluster, Container

OURS = {"type": "ovsnet"}


@pytest.fixture(autouse=True)
def ready_again(cluster: Cluster) -> Iterator[None]:
    yield
    cluster.until(cluster.is_ready, "the node to be ready again", cluster.status)


def test_a_node_that_is_ready(cluster: Cluster, container: Container) -> None:
    assert cluster.cnitool("status", container).status == 0
    assert cluster.status() == {}


def test_no_controller(cluster: Cluster, container: Container) -> None:
    """No pod can be added, but running ones go on, which a node that is not ready would lose."""
    cluster.kill("controller")
    try:
        cluster.until(
            lambda: cluster.cnitool("add", container).failed_with("no connection to a controller"),
            "the loss to be noticed",
        )
        assert cluster.status() == {}
        assert cluster.cnitool("status", container).status == 0
    finally:
        cluster.start_controller()


def test_no_agent(cluster: Cluster) -> None:
    cluster.kill(f"agent-{NODE}")
    try:
        error = cluster.status()
        assert (error["code"], "agent is not running" in error["msg"]) == (50, True)
    finally:
        cluster.start_again(f"agent-{NODE}")


def test_no_switch(cluster: Cluster) -> None:
    cluster.kill(f"ovs-vswitchd-{NODE}")
    try:
        error = cluster.status()
        assert (error["code"], "ovs-vswitchd does not run" in error["msg"]) == (51, True)
    finally:
        cluster.start_switch()


def test_no_database(cluster: Cluster) -> None:
    cluster.kill(f"ovsdb-server-{NODE}")
    try:
        error = cluster.status()
        assert (error["code"], "database" in error["msg"]) == (50, True)
    finally:
        cluster.start_again(f"ovsdb-server-{NODE}")


def test_a_delegated_ipam_plugin_is_missing(cluster: Cluster) -> None:
    conf = cluster.conf({**OURS, "ipam": {"type": "no-such-ipam"}})
    assert "no-such-ipam" in cluster.status(conf)["msg"]


def test_before_1_1_there_is_no_status(cluster: Cluster) -> None:
    cluster.kill(f"agent-{NODE}")
    try:
        assert cluster.status(cluster.conf(OURS, version="1.0.0")) == {}
    finally:
        cluster.start_again(f"agent-{NODE}")
