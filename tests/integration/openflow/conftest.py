"""A real Open vSwitch in a namespace of its own."""

import os
from collections.abc import Iterator

import pytest

from ovsnet.sandbox.openvswitch import OpenVSwitch, network_namespace


@pytest.fixture
def netns() -> Iterator[str]:
    with network_namespace(f"ofs-{os.getpid()}") as name:
        yield name


@pytest.fixture
def switch(netns: str) -> Iterator[OpenVSwitch]:
    with OpenVSwitch(netns) as found:
        yield found
