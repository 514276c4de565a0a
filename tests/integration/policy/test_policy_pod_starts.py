"""A pod starts inside its policies: what is sent to it from before it starts never gets in.

Pods start and end one after another, several at once, executed through the plugin as a runtime
does, while a pod beside them and one on another node send to every address that they may get. What
comes into a pod is seen by a socket that was opened in its namespace before it had an interface.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network, ip_network
from pathlib import Path

from places import Place
from policy_objects import peer, policy, rule
from town import QUIET, Town

from ovsnet.sandbox import netns

STARTS = int(os.environ.get("OVSNET_TEST_POD_STARTS", "160"))
"""How many pods start under the policy; the whole number is 1,000."""

SEEN_WITHOUT = 8
"""How many start without it, to show that a packet that gets in is seen."""

AT_ONCE = 4
NODE = "node1"
PORT = 7200
_EVERY_PROTOCOL = 0x0003
_HELLO = b"from before you were"


class Rain:
    """Datagrams from pods to every address of a range, over and over. `rounds` counts them."""

    def __init__(self, senders: list[Place], over: IPv4Network) -> None:
        self._targets = [str(a) for a in over.hosts()][1:]
        self._senders = senders
        self._ended = threading.Event()
        self.rounds = [0] * len(senders)

    @contextlib.contextmanager
    def falling(self) -> Iterator[Rain]:
        threads = [
            threading.Thread(target=self._fall, args=(i, each), daemon=True)
            for i, each in enumerate(self._senders)
        ]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()

    def _fall(self, number: int, place: Place) -> None:
        with place.within(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as made:
            while not self._ended.is_set():
                for target in self._targets:
                    with contextlib.suppress(OSError):
                        made.sendto(_HELLO, (target, PORT))
                    # A packet every millisecond or so: no queue of the switch overflows.
                    time.sleep(0.0005)
                self.rounds[number] += 1

    def two_more_rounds(self) -> None:
        """Return when every sender has sent to every address after now."""
        wanted = [count + 2 for count in self.rounds]
        while any(a < b for a, b in zip(self.rounds, wanted, strict=True)):
            time.sleep(0.005)


def started_and_ended(town: Town, rain: Rain, number: int) -> int:
    """Start a pod, let it rain on it, and end it; how many of the datagrams have come in."""
    lab, name = town.lab, f"start-{number}"
    uid = lab.post_pod(name, NODE, "shop", str(uuid.uuid4()), labels={"app": "start"})
    target = lab.container(NODE, "shop", name, uid["metadata"]["uid"])
    try:
        with listening(Path(target.netns)) as seen:
            added = lab.plugin(NODE, "ADD", target)
            assert added.status == 0, added.message
            rain.two_more_rounds()
            return sum(_HELLO in frame for frame in frames(seen))
    finally:
        lab.plugin(NODE, "DEL", target)
        netns.delete(Path(target.netns))
        lab.api("DELETE", f"/api/v1/namespaces/shop/pods/{name}", {"gracePeriodSeconds": 0})


def listening(path: Path) -> socket.socket:
    """A socket that sees all that comes into a namespace, on interfaces that come later, too."""

    def make() -> socket.socket:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_EVERY_PROTOCOL))
        made.setblocking(False)
        return made

    return netns.within(path, make)


def frames(seen: socket.socket) -> Iterator[bytes]:
    with contextlib.suppress(BlockingIOError):
        while True:
            frame, address = seen.recvfrom(2048)
            if address[2] != socket.PACKET_OUTGOING:  # type: ignore[attr-defined]
                yield frame


def test_nothing_gets_into_a_pod_before_its_policies(town: Town) -> None:
    # More pods start than the range has addresses, so they are used again soon.
    town.lab.configure_agents(quarantine=1.0)
    town.enforce(policy("shop/closed", "app=start", ingress=[rule([peer("app=nobody")])]))
    (over,) = (
        ip_network(text)
        for text in town.lab.api("GET", f"/api/v1/nodes/{NODE}")["spec"]["podCIDRs"]
        if "." in text
    )
    assert isinstance(over, IPv4Network)
    senders = [town.quiet[name] for name in (NODE, "node2")]
    assert all(place.name.startswith(QUIET) for place in senders)
    with (
        town.lab.stopped(f"kubelet-{NODE}"),
        Rain(list(senders), over).falling() as rain,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        came = list(pool.map(lambda n: started_and_ended(town, rain, n), range(STARTS)))
        assert came == [0] * STARTS
        town.enforce()
        without = range(STARTS, STARTS + SEEN_WITHOUT)
        came = list(pool.map(lambda n: started_and_ended(town, rain, n), without))
        # Each sender has sent to each of them at least once.
        assert all(count >= len(senders) for count in came), came
