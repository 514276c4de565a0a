"""A node with its agent, three pods, and services whose flows the test writes.

The flows have the shape of the controller's, at a smaller size: which of two endpoints a client
gets is decided by whether its port's number is even. Connections that are new after a change are
labelled, so that one which was ended and came back is not taken for one that stayed.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from cni_node import TestNode, answer_everyone
from places import Place, wait_for
from stamped_bundles import StampedBundles
from streams import udp_socket

from ovsnet import names
from ovsnet.cni.revalidation import connected
from ovsnet.cni.servedudp import ServedUdp, parse
from ovsnet.names import SERVICE_ZONE, Table
from ovsnet.sandbox.openvswitch import NETNS_DIRECTORY

SERVICE = {4: "10.96.0.10", 6: "fd00:96::a"}
UDP_PORT, TCP_PORT = 53, 80
FIRST_PORT = 2000
"""The lowest port that packets of `burst` come from."""

_ELSEWHERE = "203.0.113.9"
_UDP = struct.Struct("!HHHH")
_NUMBER = struct.Struct("!I")
_INTERVAL = 0.003
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Endpoint:
    """A pod behind the services."""

    place: Place
    port: str
    number: int

    def mark(self, version: int) -> int:
        """The mark of UDP connections to it."""
        return 0xE0000000 + 16 * version + self.number

    @property
    def mac(self) -> str:
        return names.pod_mac(self.place.ipv4)


class Sending:
    """Numbered packets from one port of the client: which have been sent, and which came where."""

    def __init__(self) -> None:
        self.sent = 0
        self.arrived: dict[int, Endpoint] = {}

    def last(self, number: int) -> set[Endpoint | None]:
        """Where the last ones came, up to the newest that came anywhere; None: they did not."""
        end = max(dict(self.arrived), default=0) + 1
        return {self.arrived.get(each) for each in range(end - number, end)}


class Served:
    """The scene. `even` and `odd` are the endpoints of clients with ports of such numbers."""

    def __init__(self, node: TestNode, client: Endpoint, even: Endpoint, odd: Endpoint) -> None:
        self.node = node
        self.client, self.even, self.odd = client, even, odd
        self.bundles = StampedBundles(node.ovs)

    def write(self) -> None:
        """All flows of the services, as after a start of the controller or the switch; returns when
        they are in effect.
        """
        messages = [
            "add " + answer_everyone(),
            f"add table={int(Table.SERVICE_STATE)},priority=10,ct_state=+trk+dnat"
            f" actions=goto_table:{int(Table.ROUTE)}",
            f"add table={int(Table.SERVICE_STATE)},priority=1"
            f" actions=goto_table:{int(Table.BALANCE)}",
        ]
        for version, kind in ((4, "ip"), (6, "ipv6")):
            source, destination = ("nw_src", "nw_dst") if version == 4 else ("ipv6_src", "ipv6_dst")
            messages.append(
                f"add table=0,priority=50,{kind},{destination}={SERVICE[version]}"
                f" actions=ct(zone={SERVICE_ZONE},nat,table={int(Table.SERVICE_STATE)})"
            )
            for endpoint in (self.even, self.odd):
                messages.append(
                    f"add table=0,priority=50,{kind},{source}={endpoint.place.address(version)}"
                    f" actions=ct(zone={SERVICE_ZONE},nat,table={int(Table.ROUTE)})"
                )
            for pod in (self.client, self.even, self.odd):
                messages.append(
                    f"add table={int(Table.ROUTE)},priority=10,{kind}"
                    f",{destination}={pod.place.address(version)}"
                    f" actions=set_field:{pod.mac}->eth_dst,output:{self._ofport(pod)}"
                )
            messages += self.balance(version, "udp", UDP_PORT, None)
            messages += self.balance(version, "tcp", TCP_PORT, None)
        self.bundles.send(*messages)
        with connected(self.node.ovs.rundir) as cache:
            cache.finish()

    def _ofport(self, pod: Endpoint) -> int:
        """The number of a pod's port, which another run of the switch may number otherwise."""
        return int(self.node.ovs.vsctl("get", "Interface", pod.port, "ofport"))

    def restart_switch(self) -> None:
        """End the switch, start another one, and write its flows."""
        self.node.ovs.stop_switch()
        self.node.ovs.start_switch()
        wait_for(self.node.ovs.management_socket(names.BRIDGE).exists, "the bridge")
        pods = self.client, self.even, self.odd
        wait_for(lambda: all(self._ofport(pod) > 0 for pod in pods), "the ports")
        self.write()

    def remove_even(self, version: int, *more: str) -> None:
        """The endpoint of even ports is gone for UDP: new connections get the other one."""
        udp, tcp = ("udp", "tcp") if version == 4 else ("udp6", "tcp6")
        balance = int(Table.BALANCE)
        self.bundles.send(
            f"delete_strict table={balance},priority=20,{udp},tp_src=0/1",
            f"delete_strict table={balance},priority=20,{udp},tp_src=1/1",
            f"add table={balance},priority=20,{udp}"
            f" actions={self._commit(self.odd, version, UDP_PORT, self.odd.mark(version), 7)}",
            *self.balance(version, tcp[:3], TCP_PORT, 7),
            *more,
        )

    def balance(self, version: int, protocol: str, port: int, label: int | None) -> Iterator[str]:
        """Orders that add the flows which choose an endpoint."""
        name = protocol if version == 4 else f"{protocol}6"
        for endpoint, parity in ((self.even, 0), (self.odd, 1)):
            mark = endpoint.mark(version) if protocol == "udp" else 1 + parity
            yield (
                f"add table={int(Table.BALANCE)},priority=20,{name},tp_src={parity}/1"
                f" actions={self._commit(endpoint, version, port, mark, label)}"
            )

    def _commit(
        self, endpoint: Endpoint, version: int, port: int, mark: int, label: int | None
    ) -> str:
        address = endpoint.place.address(version)
        target = f"{address}:{port}" if version == 4 else f"[{address}]:{port}"
        fields = f"set_field:{mark:#x}->ct_mark"
        if label is not None:
            fields += f",set_field:{label}->ct_label"
        return (
            f"ct(commit,zone={SERVICE_ZONE},nat(dst={target}),exec({fields})"
            f",table={int(Table.ROUTE)})"
        )

    def tracked(self) -> list[str]:
        """What is tracked of connections to services."""
        return self.node.ovs.appctl("dpctl/dump-conntrack", f"zone={SERVICE_ZONE}").splitlines()

    def udp(self, endpoint: Endpoint, version: int = 4) -> list[ServedUdp]:
        """The UDP connections of an endpoint."""
        return [c for c in parse(self.tracked()) if c.mark == endpoint.mark(version)]

    def expect_none(self, endpoint: Endpoint, version: int = 4) -> None:
        wait_for(
            lambda: not self.udp(endpoint, version),
            lambda: f"{len(self.udp(endpoint, version))} connections to end\n{self.node.log()}",
        )

    def fill_cache(self, number: int) -> None:
        """Have the switch cache so many flows that have to do with no service: it takes the longer
        to put its cache right.
        """
        self.node.ovs.appctl("upcall/set-flow-limit", "100000")
        every_bit = (
            f"add table=0,priority=60,udp,nw_dst={_ELSEWHERE},tp_src={1 << bit}/{1 << bit},tp_dst=1"
            " actions=drop"
            for bit in range(16)
        )
        self.bundles.send(*every_bit)
        ports = range(FIRST_PORT, FIRST_PORT + number)
        wait_for(lambda: self._cached(ports) >= number, f"{number} cached flows")

    def _cached(self, ports: Sequence[int]) -> int:
        self.burst(ports, _ELSEWHERE)
        found = re.search(r"current (\d+)", self.node.ovs.appctl("upcall/show"))
        assert found
        return int(found[1])

    def burst(self, ports: Sequence[int], to: str = SERVICE[4]) -> None:
        """A UDP packet from each of these ports of the client, to the service."""

        def send() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw:
                for count, port in enumerate(ports, 1):
                    raw.sendto(_UDP.pack(port, UDP_PORT, _UDP.size, 0), (to, 0))
                    if count % 25 == 0:
                        # The socket by which the switch receives holds a limited number.
                        time.sleep(0.004)

        self.client.place.within(send)

    def connect(self, even: int, odd: int = 0) -> None:
        """Have so many connections to each endpoint; packets that get lost are sent again."""
        ports = [FIRST_PORT + 2 * n for n in range(even)]
        ports += [FIRST_PORT + 2 * n + 1 for n in range(odd)]

        def there() -> bool:
            known = {c.source_port for c in parse(self.tracked())}
            missing = [port for port in ports if port not in known]
            self.burst(missing)
            return not missing

        wait_for(there, f"{even} and {odd} connections")

    @contextlib.contextmanager
    def sending(self, version: int, port: int) -> Iterator[Sending]:
        """The client sends from this port every few ms for the time of the block."""
        found = Sending()
        ended = threading.Event()
        receivers = [(e, udp_socket(e.place, version, UDP_PORT)) for e in (self.even, self.odd)]
        sender = udp_socket(self.client.place, version, port)

        def receive(endpoint: Endpoint, receiver: socket.socket) -> None:
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    data = receiver.recv(64)
                    if len(data) == _NUMBER.size:
                        found.arrived[_NUMBER.unpack(data)[0]] = endpoint

        def send() -> None:
            while not ended.wait(_INTERVAL):
                sender.sendto(_NUMBER.pack(found.sent), (SERVICE[version], UDP_PORT))
                found.sent += 1

        threads = [threading.Thread(target=receive, args=each, daemon=True) for each in receivers]
        threads.append(threading.Thread(target=send, daemon=True))
        for thread in threads:
            thread.start()
        try:
            yield found
        finally:
            ended.set()
            for thread in threads:
                thread.join()
            for made in (sender, *(receiver for _, receiver in receivers)):
                made.close()

    @contextlib.contextmanager
    def newcomers(self) -> Iterator[None]:
        """Clients with ever new even ports send for the time of the block."""
        ended = threading.Event()

        def run() -> None:
            port = 10_000
            while not ended.is_set() and port < 60_000:
                self.burst(range(port, port + 50, 2))
                port += 50

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


@contextlib.contextmanager
def served() -> Iterator[Served]:
    """The scene, with all flows."""
    with contextlib.ExitStack() as stack:
        node = stack.enter_context(TestNode())
        node.start_agent()
        pods = [_pod(stack, node, number) for number in range(3)]
        scene = Served(node, *pods)
        scene.write()
        yield scene


def _pod(stack: contextlib.ExitStack, node: TestNode, number: int) -> Endpoint:
    pod = stack.enter_context(node.pod(name=f"pod-{number}"))
    result = node.add(pod)
    addresses = [ip_address(entry["address"].split("/")[0]) for entry in result["ips"]]
    place = Place(pod.name, NETNS_DIRECTORY / pod.netns, "eth0", *addresses)
    # The stand-in for a controller does not answer for the gateway's IPv6 address.
    place.run(
        *f"ip -6 neigh replace fd00:77::1 lladdr {names.ROUTER_MAC} dev eth0 nud permanent".split()
    )
    return Endpoint(place, pod.port, number)
