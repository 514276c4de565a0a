"""nft takes the packet filter's script, whatever the node has and wants."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network

import pytest

from ovsnet.cni.packetfilter import PacketFilter
from ovsnet.cni.ranges import NodeRanges
from ovsnet.sandbox.openvswitch import inside, network_namespace

EVERYTHING = PacketFilter(
    NodeRanges.of(["10.77.3.0/24", "fd00:77:3::/64"]),
    (ip_network("10.77.0.0/16"), ip_network("fd00:77::/32")),
    (ip_network("10.96.0.0/16"), ip_network("198.51.100.0/24"), ip_network("fd00:96::/112")),
    tunnel_port=4789,
)
OVERLAPPING = tuple(
    ip_network(text) for text in ("10.96.0.0/16", "10.96.0.0/24", "10.64.0.0/10", "fd00::/16")
)


@pytest.fixture(scope="module")
def netns() -> Iterator[str]:
    with network_namespace(f"nft-{secrets.token_hex(4)}") as name:
        yield name


def nft(netns: str, *arguments: str, script: str = "") -> str:
    done = subprocess.run(
        inside(netns, ["nft", *arguments]),
        input=script,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "wanted",
    [
        EVERYTHING,
        replace(EVERYTHING, ranges=NodeRanges.of(["10.77.3.0/24"])),
        replace(EVERYTHING, ranges=NodeRanges.of(["fd00:77:3::/64"])),
        replace(EVERYTHING, cluster=(), services=()),
        replace(EVERYTHING, cluster=OVERLAPPING, services=(*OVERLAPPING, *EVERYTHING.services)),
        replace(EVERYTHING, masquerade=False, tunnel_port=None, node_ports=None),
        replace(EVERYTHING, node_ports=(80, 80)),
    ],
)
def test_the_script_is_taken_and_may_be_repeated(netns: str, wanted: PacketFilter) -> None:
    nft(netns, "-c", "-f", "-", script=wanted.script())
    nft(netns, "-f", "-", script=wanted.script())
    first = nft(netns, "list", "ruleset")
    nft(netns, "-f", "-", script=wanted.script())
    assert nft(netns, "list", "ruleset") == first
    assert first.count("table ") == 1
