"""Each protocol version, as libcni speaks it, and how the two agree on one."""

from __future__ import annotations

import json

import pytest

from ovsnet.cni.conf import VERSIONS
from tests.conformance.cnitool.node import Cluster, Container

OURS = {"type": "ovsnet"}


@pytest.mark.parametrize("version", VERSIONS)
def test_add_and_del_in_every_version(cluster: Cluster, container: Container, version: str) -> None:
    conf = cluster.conf(OURS, version=version)
    result = cluster.cnitool("add", container, conf).result
    assert result["cniVersion"] == version
    families = [ip.get("version") for ip in result["ips"]]
    assert families == (["4", "6"] if version < "1.0.0" else [None, None])
    assert ("mtu" in result["interfaces"][1]) == (version == "1.1.0")
    cluster.ping(container, result)
    check = cluster.cnitool("check", container, conf)
    if version == "0.3.1":
        # libcni itself knows that there was no such verb.
        assert check.failed_with("does not support the CHECK command")
    else:
        assert check.status == 0
    assert cluster.cnitool("del", container, conf).status == 0


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["0.3.1", "0.4.0"], "0.4.0"),
        (["0.4.0", "1.0.0"], "1.0.0"),
        (["0.3.1", "0.4.0", "1.0.0", "1.1.0"], "1.1.0"),
        (["1.0.0", "1.1.0", "9.9.9"], "1.1.0"),
    ],
)
def test_libcni_takes_the_newest_that_it_knows(
    cluster: Cluster, container: Container, offered: list[str], chosen: str
) -> None:
    conf = cluster.conf(OURS, version="0.3.1", cniVersions=offered)
    assert cluster.cnitool("add", container, conf).result["cniVersion"] == chosen
    cluster.cnitool("del", container, conf)


def test_the_agents_own_configuration_offers_all(cluster: Cluster, container: Container) -> None:
    value = json.loads((cluster.agents_conf / "10-ovsnet.conflist").read_text())
    assert value["cniVersions"] == list(VERSIONS)
    assert cluster.cnitool("add", container).result["cniVersion"] == "1.1.0"
    cluster.cnitool("del", container)


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", "0.3.0", "2.0.0"])
def test_a_version_that_is_not_spoken(cluster: Cluster, container: Container, version: str) -> None:
    conf = cluster.conf(OURS, version=version)
    assert cluster.cnitool("add", container, conf).status != 0


def test_a_result_of_an_older_version_checks_in_a_newer(
    cluster: Cluster, container: Container
) -> None:
    """A node is upgraded while the container runs: libcni converts the result that it kept."""
    assert cluster.cnitool("add", container, cluster.conf(OURS, version="0.4.0")).status == 0
    newer = cluster.conf(OURS, version="1.1.0")
    assert cluster.cnitool("check", container, newer).status == 0
    assert cluster.cnitool("del", container, newer).status == 0
