"""gc: what is not listed goes, and nothing else."""

from __future__ import annotations

from ovsnet.sandbox import netns
from tests.conformance.cnitool.node import Cluster, Container, container_id

OURS = {"type": "ovsnet"}


def test_gc_on_a_node_without_containers(cluster: Cluster, container: Container) -> None:
    assert cluster.cnitool("gc", container).status == 0


def test_cnitool_lets_go_of_all_that_libcni_has_kept(
    cluster: Cluster, container: Container
) -> None:
    """cnitool gives no list: libcni deletes everything of which it has a result."""
    with cluster.container() as other:
        cluster.cnitool("add", container)
        cluster.cnitool("add", other)
        assert cluster.cnitool("gc", container).status == 0
        assert cluster.ports() == set()


def test_without_a_list_nothing_that_runs_is_removed(
    cluster: Cluster, container: Container
) -> None:
    result = cluster.cnitool("add", container).result
    cluster.forget()
    assert cluster.cnitool("gc", container).status == 0
    cluster.ping(container, result)
    cluster.cnitool("del", container)


def test_without_a_list_what_is_dead_is_removed(cluster: Cluster, container: Container) -> None:
    cluster.cnitool("add", container)
    cluster.forget()
    netns.delete(container.netns)
    assert cluster.cnitool("gc", container).status == 0
    assert cluster.ports() == set()


def test_what_is_listed_stays(cluster: Cluster, container: Container) -> None:
    with cluster.container() as other:
        result = cluster.cnitool("add", container).result
        cluster.cnitool("add", other)
        assert cluster.gc([container_id(container)]) == {}
        assert cluster.ports() == {container.port}
        cluster.ping(container, result)
        assert cluster.cnitool("check", container).status == 0
        assert cluster.cnitool("check", other).status != 0
    cluster.cnitool("del", container)


def test_what_libcni_has_forgotten_is_found_by_the_plugin(
    cluster: Cluster, container: Container
) -> None:
    with cluster.container() as other:
        cluster.cnitool("add", container)
        cluster.cnitool("add", other)
        cluster.forget()
        assert cluster.gc([container_id(container)]) == {}
        assert cluster.ports() == {container.port}
    cluster.cnitool("del", container)


def test_an_empty_list_removes_all(cluster: Cluster, container: Container) -> None:
    cluster.cnitool("add", container)
    cluster.forget()
    assert cluster.gc([]) == {}
    assert cluster.ports() == set()


def test_another_network_is_let_alone(cluster: Cluster, container: Container) -> None:
    conf = cluster.conf(OURS, name="blue")
    cluster.cnitool("add", container, conf, network="blue")
    assert cluster.gc([]) == {}
    assert cluster.ports() == {container.port}
    cluster.cnitool("del", container, conf, network="blue")


def test_gc_can_be_switched_off(cluster: Cluster, container: Container) -> None:
    conf = cluster.conf(OURS, disableGC=True)
    cluster.cnitool("add", container, conf)
    assert cluster.gc([], conf) == {}
    assert cluster.ports() == {container.port}
    cluster.cnitool("del", container, conf)


def test_before_1_1_libcni_alone_collects(cluster: Cluster, container: Container) -> None:
    conf = cluster.conf(OURS, version="1.0.0")
    cluster.cnitool("add", container, conf)
    assert cluster.gc([], conf) == {}
    assert cluster.ports() == set()
