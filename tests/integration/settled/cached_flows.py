"""A switch that has thousands of flows cached, and a stream of packets through it.

Two namespaces are its ports. Whoever sends from `FORBIDDEN_PORT` is now allowed, now not, by a
bundle that ends with a stamp, as every bundle of the controller's does.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import datapath
from slowness import SLOW
from stamped_bundles import StampedBundles

from ovsnet.sandbox.netns import within
from ovsnet.sandbox.openvswitch import NETNS_DIRECTORY, OpenVSwitch, network_namespace

BRIDGE = "br-int"
SENDER, RECEIVER = "192.0.2.1", "192.0.2.2"
STREAM_PORT = 700
"""The stream's source port, below those of the packets that fill the cache."""

_FIRST_CACHED_PORT = 1024
_TARGET_PORT = 9
_UDP = struct.Struct("!HHHH")
_NUMBER = struct.Struct("!I")
_INTERVAL = 0.001
_MOST_PACKETS = 60_000


@dataclass(frozen=True)
class Change:
    """What a bundle does with the stream, and the digest and the number of its stamp."""

    allowed: bool
    digest: int
    serial: int


class Switch:
    """The switch, its two ports, and what is written to it."""

    def __init__(self, ovs: OpenVSwitch, ends: tuple[str, str]) -> None:
        self.ovs = ovs
        self.ends = ends
        self._bundles = StampedBundles(ovs)

    def cached(self) -> int:
        """How many flows the datapath has cached."""
        found = re.search(r"current (\d+)", self.ovs.appctl("upcall/show"))
        assert found
        return int(found[1])

    def fill(self, flows: int) -> None:
        """Have the switch cache so many flows: one packet from each of as many ports."""
        self.ovs.appctl("upcall/set-flow-limit", "100000")

        def send() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw:
                for number in range(flows):
                    header = _UDP.pack(_FIRST_CACHED_PORT + number, _TARGET_PORT, _UDP.size, 0)
                    raw.sendto(header, (RECEIVER, 0))
                    if number % 25 == 24:
                        # The socket by which the switch receives holds a limited number.
                        time.sleep(0.004)

        within(NETNS_DIRECTORY / self.ends[0], send)

    def write(self, *, allowed: bool, others: int = 0) -> Change:
        """Allow or forbid the stream by one bundle; `others` bundles that concern nobody before."""
        for _ in range(others):
            self.bundle(
                f"add table=0,priority=60,udp,tp_src=1,cookie={self._bundles.serial},actions=drop"
            )
        order = "delete_strict" if allowed else "add"
        action = "" if allowed else ",actions=drop"
        return Change(
            allowed,
            *self.bundle(f"{order} table=0,priority=50,udp,tp_src={STREAM_PORT}{action}"),
        )

    def bundle(self, *messages: str) -> tuple[int, int]:
        """Send flow-mods in ovs-ofctl's syntax, and a stamp after them; its digest and number."""
        return self._bundles.send(*messages)

    def set_up(self) -> None:
        """Make the bridge, its ports, and flows that look at every bit of the source port."""
        vsctl = self.ovs.vsctl
        vsctl(
            *("add-br", BRIDGE, "--", "set", "bridge", BRIDGE, f"datapath_type={datapath.TYPE}"),
            *("protocols=OpenFlow15", "fail_mode=secure", f"other_config:dp-sn={datapath.TYPE}"),
            # Cached flows stay though nobody uses them, also where the machine is slow: they are
            # dropped when a round takes longer than half of max-revalidator.
            *("--", "set", "Open_vSwitch", ".", "other_config:max-idle=600000"),
            "other_config:max-revalidator=2000",
        )
        self._connect()
        one_by_one = [
            f"add table=0,priority=30,udp,tp_src={1 << bit}/{1 << bit},tp_dst=1,actions=drop"
            for bit in range(16)
        ]
        self.bundle(*one_by_one, "add table=0,priority=10,udp,in_port=1,actions=output:2")

    def _connect(self) -> None:
        for number, (end, address) in enumerate(zip(self.ends, (SENDER, RECEIVER), strict=True), 1):
            port = f"end{number}"
            commands = (
                f"link add {port} type veth peer name eth0 netns {end}",
                f"link set {port} up",
            )
            _ip(self.ovs.netns, *commands)
            _ip(
                end,
                f"link set eth0 address 02:00:00:00:00:0{number}",
                f"address add {address}/24 dev eth0",
                "link set eth0 up",
            )
            subprocess.run(
                ["nsenter", f"--net={NETNS_DIRECTORY / end}", "ethtool", "-K", "eth0", "tx", "off"],
                check=True,
                capture_output=True,
            )
            interface = ("--", "set", "interface", port, f"ofport_request={number}")
            self.ovs.vsctl("add-port", BRIDGE, port, *interface)
        _ip(self.ends[0], f"neigh add {RECEIVER} lladdr 02:00:00:00:00:02 dev eth0")


def _ip(netns: str | None, *commands: str) -> None:
    assert netns is not None
    text = "".join(f"{command}\n" for command in commands)
    subprocess.run(["ip", "-n", netns, "-batch", "-"], input=text, text=True, check=True)


@contextlib.contextmanager
def running() -> Iterator[Switch]:
    """A switch with both of its ends, and all of it gone afterwards."""
    mark = f"setl-{os.getpid()}"
    with (
        network_namespace(mark) as own,
        network_namespace(f"{mark}-a") as first,
        network_namespace(f"{mark}-b") as second,
        OpenVSwitch(own) as ovs,
    ):
        switch = Switch(ovs, (first, second))
        switch.set_up()
        yield switch


class Stream:
    """A packet about every millisecond from one end to the other, while its context lasts."""

    def __init__(self, switch: Switch) -> None:
        self._ends = switch.ends
        self.sent: list[float] = []
        self.arrived: set[int] = set()
        self._news = threading.Condition()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._send, self._receive)]
        self._receiver = within(NETNS_DIRECTORY / self._ends[1], self._bound)
        self._sender = within(NETNS_DIRECTORY / self._ends[0], self._connected)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._sender.close()
        self._receiver.close()

    def send_more(self, packets: int) -> None:
        """Return when so many more packets have been sent."""
        with self._news:
            goal = len(self.sent) + packets
            assert self._news.wait_for(lambda: len(self.sent) >= goal, 20 * SLOW)

    def between(self, begin: float, end: float) -> tuple[int, int]:
        """How many packets were sent in this time, and how many of them arrived."""
        sent = [n for n, moment in enumerate(self.sent) if begin <= moment < end]
        return len(sent), sum(n in self.arrived for n in sent)

    def _bound(self) -> socket.socket:
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        receiver.bind((RECEIVER, _TARGET_PORT))
        receiver.settimeout(0.2)
        return receiver

    def _connected(self) -> socket.socket:
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sender.bind((SENDER, STREAM_PORT))
        sender.connect((RECEIVER, _TARGET_PORT))
        return sender

    def _send(self) -> None:
        for number in range(_MOST_PACKETS):
            if self._stop.is_set():
                return
            with self._news:
                self.sent.append(time.monotonic())
                self._news.notify_all()
            self._sender.send(_NUMBER.pack(number))
            time.sleep(_INTERVAL)

    def _receive(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                data = self._receiver.recv(64)
                if len(data) == _NUMBER.size:
                    self.arrived.add(_NUMBER.unpack(data)[0])
