"""A real Open vSwitch in a namespace of its own, whose node has a certificate."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from trust_authority import Controllers, NodeFiles, node_credentials

from ovsnet.cni import sslrow
from ovsnet.cni.ovsdb import Database
from ovsnet.sandbox.openvswitch import OpenVSwitch, network_namespace


@pytest.fixture
def netns() -> Iterator[str]:
    with network_namespace(f"tls-{os.getpid()}") as name:
        yield name


@pytest.fixture
def switch(netns: str) -> Iterator[OpenVSwitch]:
    with OpenVSwitch(netns) as found:
        yield found


@pytest.fixture
def controllers() -> Controllers:
    return Controllers()


@pytest.fixture
def files(controllers: Controllers, switch: OpenVSwitch, tmp_path: Path) -> NodeFiles:
    """The node's files, of which its Open vSwitch knows."""
    good = node_credentials(controllers.held, "node-1")
    made = NodeFiles.of(tmp_path / "tls", good, controllers.held.bundle)
    database = Database(switch.db_socket)
    assert sslrow.ensure(database, made)
    database.close()
    return made
