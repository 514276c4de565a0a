"""Open vSwitch as the network brings it to hosts that have none."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_openvswitch import Program

from ovsnet.sandbox.openvswitch import network_namespace


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    with network_namespace(f"ovs-{secrets.token_hex(4)}") as netns:
        made = Program(netns, tmp_path)
        try:
            yield made
        finally:
            made.close()
