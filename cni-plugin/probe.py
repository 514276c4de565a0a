"""Asks, from inside a pod's namespace, whether the pod's flows are in.

An ARP request (RFC 826) for the gateway, or in an IPv6-only node a neighbour solicitation
(RFC 4861), is answered by the flows of the pod's own port alone. They arrive as one atomic bundle
with its policies, so an answer means that all of them are in.
"""

from __future__ import annotations

import queue
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address

from ovsnet.cni.links import mac_bytes
from ovsnet.cni.ranges import Addresses
from ovsnet.names import ROUTER_MAC

_ETH_ARP = 0x0806
_ETH_IPV6 = 0x86DD
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ARP_REQUEST, _ARP_REPLY = 1, 2
_ICMPV6 = 58
_SOLICITATION, _ADVERTISEMENT = 135, 136
_FRAME_BYTES = 2048
_ROUTER_MAC = mac_bytes(ROUTER_MAC)


def arp_request(mac: bytes, source: IPv4Address, target: IPv4Address) -> bytes:
    """The Ethernet frame that asks for `target`."""
    arp = _ARP.pack(1, 0x0800, 6, 4, _ARP_REQUEST, mac, source.packed, bytes(6), target.packed)
    return b"\xff" * 6 + mac + _ETH_ARP.to_bytes(2, "big") + arp


def is_arp_reply(frame: bytes, target: IPv4Address) -> bool:
    """True if the frame says that `target` is the virtual router.

    Only flows say so. Anything else that answers, such as the node's own stack, is no proof.
    """
    if len(frame) < 14 + _ARP.size or int.from_bytes(frame[12:14], "big") != _ETH_ARP:
        return False
    fields = _ARP.unpack_from(frame, 14)
    return (fields[4], fields[5], fields[6]) == (_ARP_REPLY, _ROUTER_MAC, target.packed)


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def neighbour_solicitation(mac: bytes, source: IPv6Address, target: IPv6Address) -> bytes:
    """The Ethernet frame that asks for `target`, sent to its solicited-node group."""
    low = target.packed[-3:]
    group = IPv6Address(b"\xff\x02" + bytes(9) + b"\x01\xff" + low)
    body = struct.pack("!BBHI", _SOLICITATION, 0, 0, 0) + target.packed + b"\x01\x01" + mac
    pseudo = source.packed + group.packed + struct.pack("!II", len(body), _ICMPV6)
    check = _checksum(pseudo + body)
    body = body[:2] + check.to_bytes(2, "big") + body[4:]
    header = struct.pack("!IHBB", 6 << 28, len(body), _ICMPV6, 255)
    ethernet = b"\x33\x33\xff" + low + mac + _ETH_IPV6.to_bytes(2, "big")
    return ethernet + header + source.packed + group.packed + body


def is_advertisement(frame: bytes, target: IPv6Address) -> bool:
    """True if the frame is the virtual router's neighbour advertisement of `target`."""
    return (
        len(frame) >= 78
        and int.from_bytes(frame[12:14], "big") == _ETH_IPV6
        and frame[6:12] == _ROUTER_MAC
        and frame[20] == _ICMPV6
        and frame[54] == _ADVERTISEMENT
        and frame[62:78] == target.packed
    )


class Closer:
    """Closes packet sockets in a thread of its own.

    Closing one waits for the kernel's synchronize_net, 15 to 40 ms, which nobody need wait for.
    """

    def __init__(self) -> None:
        self._sockets: queue.SimpleQueue[socket.socket | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="closer", daemon=True)
        self._thread.start()

    def close(self, packet_socket: socket.socket) -> None:
        """Close it soon."""
        self._sockets.put(packet_socket)

    def stop(self) -> None:
        """Close what is left and end the thread."""
        self._sockets.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (packet_socket := self._sockets.get()) is not None:
            packet_socket.close()


class Probe:
    """Questions for one pod's gateway. Make it inside the pod's namespace; use it anywhere."""

    def __init__(self, ifname: str, addresses: Addresses) -> None:
        mac = mac_bytes(addresses.pod_mac)
        self._answered: Callable[[bytes], bool]
        if addresses.ipv4 is not None and addresses.gateway4 is not None:
            gateway4 = addresses.gateway4
            protocol = _ETH_ARP
            self._question = arp_request(mac, addresses.ipv4, gateway4)
            self._answered = lambda frame: is_arp_reply(frame, gateway4)
        else:
            assert addresses.ipv6 is not None
            assert addresses.gateway6 is not None
            gateway6 = addresses.gateway6
            protocol = _ETH_IPV6
            self._question = neighbour_solicitation(mac, addresses.ipv6, gateway6)
            self._answered = lambda frame: is_advertisement(frame, gateway6)
        # Made with protocol 0 and bound afterwards: a socket that is made with a protocol is
        # attached at once to every link, and binding it then waits for synchronize_net.
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            self.socket.bind((ifname, protocol))
            self.socket.setblocking(False)
        except OSError:
            self.socket.close()
            raise

    def run(
        self,
        until: float,
        intervals: Iterator[float],
        given_up: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> bool:
        """Ask until an answer comes (True), or `until` on `clock` is over or `given_up` (False).

        `intervals` are the seconds to wait for an answer before asking again.
        """
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        for interval in intervals:
            now = clock()
            if now >= until or given_up():
                return False
            self._ask()
            again = min(now + interval, until)
            while (left := again - clock()) > 0:
                if poll.poll(max(1, round(left * 1000))) and self._hear():
                    return True
        return False

    def _ask(self) -> None:
        try:
            self.socket.send(self._question)
        except OSError:
            # Down for a moment, or its queue is full: the next question comes soon.
            return

    def _hear(self) -> bool:
        try:
            return self._answered(self.socket.recv(_FRAME_BYTES))
        except OSError:
            return False


def quickly_then_slowly() -> Iterator[float]:
    """Seconds between questions: 2 ms at first, then growing with the time waited, up to 25 ms.

    A question costs 30 µs of processor time. Asked every 2 ms by 32 pods that start together, they
    took the time away from the switch that all of them were waiting for.
    """
    interval = 0.002
    while True:
        yield interval
        interval = min(interval * 1.2, 0.025)
