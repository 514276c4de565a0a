"""The network between a sandbox's nodes, and the way between there and an address outside.

```
 node1  node2  node3  control        outside
   │      │      │       │              │
 ══╧══════╧══════╧═══════╧══ bridge ─ router     (all in the namespace `fabric`)
```
"""

from __future__ import annotations

import array
import fcntl
import socket
import struct
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from ovsnet.sandbox import netns, plan
from ovsnet.sandbox.layout import CONTROL, FABRIC, OUTSIDE, Layout

_SIOCETHTOOL = 0x8946
_ETHTOOL_STXCSUM = 0x00000017


class FabricError(Exception):
    """A link, address or route could not be made. The text has the reason."""


def ip_batch(namespace: Path, lines: Iterable[str]) -> None:
    """Run lines of `ip -batch` in a network namespace, all in one process.

    Raises:
        FabricError: one failed, with ip's own words.
    """
    done = subprocess.run(
        ["ip", "-netns", namespace.name, "-batch", "-"],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise FabricError(f"network namespace {namespace.name}: {done.stderr.strip()}")


def settle(namespace: Path, settings: Mapping[str, str]) -> None:
    """Write values below /proc/sys in a network namespace."""

    def write() -> None:
        for name, value in settings.items():
            Path("/proc/sys", name).write_text(value)

    netns.within(namespace, write)


def transmit_offload_off(namespace: Path, interface: str) -> None:
    """Let the kernel finish checksums itself on an interface.

    The userspace datapath reads packets as they are and calls those with half a checksum invalid.
    """

    # struct ethtool_value: command and value; struct ifreq: a name and a pointer to the former.
    value = array.array("I", (_ETHTOOL_STXCSUM, 0))
    request = struct.pack("16sP16x", interface.encode(), value.buffer_info()[0])

    def call() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            fcntl.ioctl(control, _SIOCETHTOOL, request)

    netns.within(namespace, call)


def build(layout: Layout, hosts: plan.Plan) -> None:
    """Make the fabric's links and routes; the namespaces are there, the nodes not configured yet.

    Raises:
        FabricError, OSError: something could not be made.
    """
    ip_batch(layout.netns(FABRIC), plan.fabric_links(hosts, layout.prefix))
    ip_batch(layout.netns(CONTROL), plan.control_links(hosts))
    ip_batch(layout.netns(OUTSIDE), plan.outside_links(hosts))
    for name in (CONTROL, OUTSIDE):
        transmit_offload_off(layout.netns(name), plan.UPLINK)


def make_namespaces(layout: Layout, hosts: plan.Plan) -> None:
    """Make the network namespaces of all hosts, with their settings.

    Raises:
        FileExistsError: one is there already.
        OSError: the kernel refused.
    """
    forwarding = {FABRIC, *(node.name for node in hosts.nodes)}
    for name in plan.namespaces(hosts):
        make_namespace(layout, name, forwards=name in forwarding)


def make_namespace(layout: Layout, name: str, *, forwards: bool) -> None:
    """Make one network namespace, with its settings.

    Raises:
        FileExistsError: it is there already.
        OSError: the kernel refused.
    """
    path = layout.netns(name)
    netns.create(path)
    settle(path, plan.HOST_SETTINGS | (plan.ROUTER_SETTINGS if forwards else {}))


def plug_in(layout: Layout, name: str) -> None:
    """Make the link between the fabric and the network namespace of a host that comes later.

    Raises:
        FabricError: it is there already, or the namespace is not.
    """
    ip_batch(layout.netns(FABRIC), plan.fabric_port(name, layout.prefix))


def unplug(layout: Layout, name: str) -> None:
    """Take the link to a host away, as if its cable were pulled.

    Raises:
        FabricError: there is none.
    """
    ip_batch(layout.netns(FABRIC), [f"link delete {plan.fabric_port_name(name)}"])
