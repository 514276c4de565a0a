"""Where packets come from and go to: network namespaces with addresses. And waiting for things."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, TypeVar

from slowness import SLOW

from ovsnet.sandbox import netns
from ovsnet.sandbox.kubelet.sandboxes import Sandbox

T = TypeVar("T")

SECONDS = 20.0


def wait_for(check: Callable[[], T], what: str | Callable[[], str], seconds: float = SECONDS) -> T:
    """The first true value of `check`; fails in words when there is none in time."""
    deadline = time.monotonic() + seconds * SLOW
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > deadline:
            words = what if isinstance(what, str) else what()
            raise AssertionError(f"waited {seconds * SLOW:g} s in vain for {words}")
        time.sleep(0.02)


@dataclass(frozen=True)
class Place:
    """A network namespace with addresses: a pod, a node, the outside."""

    name: str
    netns: Path
    interface: str
    ipv4: IPv4Address
    ipv6: IPv6Address

    def address(self, version: int) -> str:
        return str(self.ipv4 if version == 4 else self.ipv6)

    def within(self, work: Callable[[], T]) -> T:
        return netns.within(self.netns, work)

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = self.within(
            lambda: subprocess.run(command, capture_output=True, text=True, check=False)
        )
        assert not check or done.returncode == 0, (self.name, command, done.stdout, done.stderr)
        return done


@dataclass(frozen=True)
class PodPlace(Place):
    """A pod's namespace, and whose it is."""

    node: str = ""
    uid: str = ""
    container: str = ""

    @property
    def mac(self) -> str:
        return "0a:58:" + self.ipv4.packed.hex(":")


def pod_place(item: dict[str, Any], sandboxes: Mapping[str, Sandbox]) -> PodPlace:
    """The namespace of a pod of the API; `sandboxes` are by uid."""
    uid = item["metadata"]["uid"]
    addresses = [ip_address(entry["ip"]) for entry in item["status"]["podIPs"]]
    target = sandboxes[uid].target
    return PodPlace(
        f"{item['metadata']['namespace']}/{item['metadata']['name']}",
        Path(target.netns),
        "eth0",
        *addresses,
        node=item["spec"]["nodeName"],
        uid=uid,
        container=target.container_id,
    )
