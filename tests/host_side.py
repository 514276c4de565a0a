"""A node's own side of services: what leaves it for the switch, and what the switch hands it.

A node with its agent and a stand-in controller that lets nothing through, so the switch does
nothing of its own, and a client in a network namespace on the same wire as the node.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import select
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import frames
from cni_node import CIDRS, TestNode
from frames import Ends
from places import Place, wait_for

from ovsnet import names
from ovsnet.cni.ranges import NodeRanges
from ovsnet.sandbox.openvswitch import inside, network_namespace

RANGES = NodeRanges.of(CIDRS)
PROTOCOLS = {"tcp": frames.TCP, "udp": frames.UDP, "sctp": frames.SCTP}

OWN = {4: "192.0.2.1", 6: "2001:db8:2::1"}
"""The node's addresses on the wire that it shares with the client."""
LINK_LOCAL = "fe80::1%eth0"
"""Another one, to the client."""
CLIENT = {4: "192.0.2.9", 6: "2001:db8:2::9"}
FARAWAY = {4: "203.0.113.77", 6: "2001:db8:77::77"}
"""A client to whom the node has no other way than its default route."""
POD = {4: "10.77.0.9", 6: "fd00:77::9"}
GATEWAY = {4: str(RANGES.gateway.ipv4), 6: str(RANGES.gateway.ipv6)}
SERVICE = {v: str(r[names.SERVICE_OFFSET]) for v, r in ((4, RANGES.ipv4), (6, RANGES.ipv6)) if r}
NODE_PORT = {4: str(RANGES.node_port.ipv4), 6: str(RANGES.node_port.ipv6)}
CLUSTER_IP = {4: "10.96.0.77", 6: "fd00:96::77"}
EXTERNAL_IP = {4: "198.51.100.7", 6: "2001:db8:0:198::7"}

OPTIONS: dict[str, Any] = {
    "services": ["10.96.0.0/16", "fd00:96::/112"],
    "external": ["198.51.100.0/24", "2001:db8:0:198::/64"],
}

PORT = 30080
LISTENING = 8080
_NOBODY = "00:00:00:00:00:00"
_PACKET_OUTGOING = 4
_LONGEST = 65535

KUBE_PROXY = """\
*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-EXT-ABC - [0:0]
:KUBE-SVC-ABC - [0:0]
:KUBE-SEP-ABC - [0:0]
-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-SERVICES -d {cluster_ip} -p tcp -m tcp --dport 80 -j KUBE-SVC-ABC
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-NODEPORTS -p tcp -m tcp --dport {port} -j KUBE-EXT-ABC
-A KUBE-NODEPORTS -p udp -m udp --dport {port} -j KUBE-EXT-ABC
-A KUBE-EXT-ABC -j KUBE-MARK-MASQ
-A KUBE-EXT-ABC -j KUBE-SVC-ABC
-A KUBE-SVC-ABC -j KUBE-SEP-ABC
-A KUBE-SEP-ABC -p tcp -m tcp -j DNAT --to-destination {endpoint}
-A KUBE-SEP-ABC -p udp -m udp -j DNAT --to-destination {endpoint}
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
COMMIT
*filter
:KUBE-FORWARD - [0:0]
-A FORWARD -j KUBE-FORWARD
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
"""
"""Rules of kube-proxy's shape (pkg/proxy/iptables), with a service of one endpoint."""


@dataclass(frozen=True)
class Seen:
    """A frame on the gateway's port: out of the node into the switch, or the other way."""

    outgoing: bool
    frame: bytes

    @property
    def ends(self) -> Ends | None:
        return frames.ends(self.frame)

    @property
    def payload(self) -> bytes:
        """What is behind the IP header, which has neither options nor extensions."""
        return self.frame[14 + (20 if self.frame[14] >> 4 == 4 else 40) :]

    @property
    def flags(self) -> int:
        """Those of a TCP segment."""
        return self.payload[13]


@dataclass
class HostSide:
    node: TestNode
    here: Place
    client: Place
    gate: socket.socket
    seen: list[Seen] = field(default_factory=list)

    def read(self) -> list[Seen]:
        """All that has passed the gateway's port since the last `forget`."""
        while True:
            try:
                data, address = self.gate.recvfrom(_LONGEST)
            except BlockingIOError:
                return self.seen
            self.seen.append(Seen(address[2] == _PACKET_OUTGOING, data))

    def forget(self) -> None:
        self.read()
        self.seen.clear()

    def sent(self) -> list[Ends]:
        """The ends of all IP packets that the node has sent into the switch."""
        return [s.ends for s in self.read() if s.outgoing and s.ends is not None]

    def sent_to(self, *ports: int) -> list[Ends]:
        """Those of packets to these ports."""
        return [ends for ends in self.sent() if ends.target_port in ports]

    def wait(self, fits: Callable[[Seen], bool], what: str) -> Seen:
        """The first frame that fits and that the node has sent into the switch."""

        def found() -> list[Seen]:
            select.select([self.gate], [], [], 0.1)
            return [s for s in self.read() if s.outgoing and fits(s)]

        return wait_for(found, lambda: f"{what}; seen were {self.sent()}")[0]

    def wait_for_ends(self, ends: Ends) -> Seen:
        return self.wait(lambda seen: seen.ends == ends, str(ends))

    def hand_in(self, source_mac: str, packet: bytes) -> None:
        """Let the switch hand the node a packet."""
        frame = frames.ethernet(RANGES.gateway.pod_mac, source_mac, _kind(packet), packet)
        self.node.ovs.ofctl(
            "packet-out",
            names.BRIDGE,
            f"in_port=controller packet={frame.hex()} actions=output:{names.GATEWAY_OFPORT}",
        )

    def settled(self, damage: tuple[str, ...]) -> str:
        """What the agent logs while it makes good some damage."""
        logged = len(self.node.log())
        with self.node.agent_held():
            self.node.run(*damage)
        self.node.wait(lambda: "changes=" in self.node.log()[logged:], "a repair")
        return self.node.log()[logged:]


def packet(ends: Ends, payload: bytes = b"", flags: int = frames.SYN) -> bytes:
    """A TCP segment, a datagram or an SCTP INIT with these ends."""
    source, target = ends.source, ends.target
    ports = {"sport": ends.source_port, "dport": ends.target_port}
    if ends.protocol == frames.TCP:
        body = frames.tcp(source, target, payload, flags, **ports)
    elif ends.protocol == frames.UDP:
        body = frames.udp(source, target, payload, **ports)
    else:
        body = _sctp_init(ends.source_port, ends.target_port)
    return frames.ip(source, target, ends.protocol, body)


def unreachable(source: str, refused: bytes) -> bytes:
    """What tells the sender of a packet that nobody listens at its port; see `says_unreachable`."""
    asked = frames.ends(frames.ethernet(_NOBODY, _NOBODY, _kind(refused), refused))
    assert asked is not None
    four = asked.source.version == 4
    protocol, kind, code = (frames.ICMP, 3, 3) if four else (frames.ICMPV6, 1, 4)
    body = frames.icmp(source, asked.source, kind, code, bytes(4) + refused)
    return frames.ip(source, asked.source, protocol, body)


def _kind(packet: bytes) -> int:
    return frames.IPV4 if packet[0] >> 4 == 4 else frames.IPV6


def _sctp_init(source_port: int, target_port: int) -> bytes:
    """RFC 9260, sections 3.1 and 3.3.2; the checksum is that of appendix A."""
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 0x12345678, 1500, 1, 1, 1)
    before = struct.pack("!HHI", source_port, target_port, 0)
    crc = 0xFFFFFFFF
    for byte in before + bytes(4) + chunk:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return before + struct.pack("<I", crc ^ 0xFFFFFFFF) + chunk


def says_unreachable(seen: Seen, refused: Ends) -> bool:
    """Whether a frame tells the sender of such a packet that nobody listens at its port: RFC 792,
    type 3 code 3, and RFC 4443, section 3.1, type 1 code 4. The packet is in it.
    """
    if seen.ends is None or seen.ends.target != refused.source:
        return False
    said = (seen.ends.protocol, *seen.payload[:2])
    if said not in ((frames.ICMP, 3, 3), (frames.ICMPV6, 1, 4)):
        return False
    return frames.ends(seen.frame[:14] + seen.payload[8:]) == refused


def ends_of(protocol: str, source: str, sport: int, target: str, dport: int) -> Ends:
    return Ends(PROTOCOLS[protocol], ip_address(source), sport, ip_address(target), dport)


def call(place: Place, protocol: str, target: str, port: int, payload: bytes = b"?") -> int:
    """Send a first packet to a port from a socket that is then closed; returns its own port."""

    def send() -> int:
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        if protocol == "sctp":
            own = 20000 + secrets.randbelow(9000)
            with socket.socket(family, socket.SOCK_RAW, frames.SCTP) as raw:
                raw.sendto(_sctp_init(own, port), (target, 0))
            return own
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        with socket.socket(family, kind) as sock:
            sock.setblocking(False)
            sock.connect_ex((target, port))
            if protocol == "udp":
                sock.send(payload)
            return int(sock.getsockname()[1])

    return place.within(send)


def connected(place: Place, target: str, port: int, own_port: int = 0) -> socket.socket:
    """A UDP socket that speaks with one other end; link-local addresses are with their device."""

    def make() -> socket.socket:
        family, kind, _, _, address = socket.getaddrinfo(target, port, type=socket.SOCK_DGRAM)[0]
        sock = socket.socket(family, kind)
        sock.settimeout(20)
        sock.bind(("", own_port))
        sock.connect(address)
        return sock

    return place.within(make)


def udp_program(side: HostSide, address: str) -> socket.socket:
    """A socket of a program of the node's, on `LISTENING`."""
    return side.here.within(lambda: _bound(address, socket.SOCK_DGRAM))


def tcp_program(side: HostSide, address: str) -> socket.socket:
    """The same for TCP."""

    def listen() -> socket.socket:
        sock = _bound(address, socket.SOCK_STREAM)
        sock.listen()
        return sock

    return side.here.within(listen)


def _bound(address: str, kind: socket.SocketKind) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    sock.settimeout(20)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, LISTENING))
    return sock


def refuses(place: Place, target: str, port: int) -> bool:
    """Whether a datagram to that port is answered by a kernel that has no program there."""
    with connected(place, target, port) as sock:
        sock.send(b"?")
        try:
            sock.recv(1)
        except ConnectionRefusedError:
            return True
    return False


def mac_of(place: Place) -> str:
    """The MAC of the place's interface."""
    shown = place.run("ip", "-j", "link", "show", place.interface).stdout
    return str(json.loads(shown)[0]["address"])


@contextlib.contextmanager
def host_side(**options: Any) -> Iterator[HostSide]:
    """A node with a client, and a look at the gateway's port."""
    with contextlib.ExitStack() as stack:
        node = stack.enter_context(TestNode(options=OPTIONS | options))
        name = stack.enter_context(network_namespace(f"client-{secrets.token_hex(4)}"))
        _wire(node.netns, name)
        node.start_agent()
        here = Place("node", Path("/run/netns", node.netns), "eth0", *map(ip_address, OWN.values()))
        client = Place(
            "client", Path("/run/netns", name), "eth0", *map(ip_address, CLIENT.values())
        )
        gate = here.within(_tap)
        stack.callback(gate.close)
        yield HostSide(node, here, client, gate)


def _wire(node: str, client: str) -> None:
    """A wire between node and client, both of which can use their addresses at once. The node finds
    its way to everybody by the client, and checks strictly that sources come from where they are.
    """
    lines = {
        node: [
            f"link add eth0 type veth peer name eth0 netns {client}",
            *(f"addr add {OWN[v]}/{length} dev eth0 {extra}" for v, length, extra in _LENGTHS),
            f"addr add {LINK_LOCAL.partition('%')[0]}/64 dev eth0 nodad",
            "link set eth0 up",
            *(f"-{v} route add default via {CLIENT[v]}" for v in OWN),
        ],
        client: [
            *(f"addr add {CLIENT[v]}/{length} dev eth0 {extra}" for v, length, extra in _LENGTHS),
            "link set eth0 up",
            *(f"-{v} route add default via {OWN[v]}" for v in OWN),
        ],
    }
    for netns, commands in lines.items():
        for line in commands:
            _run(netns, "ip", *line.split())
        # The node's stack sees what the client's leaves to a device that is none.
        _run(netns, "ethtool", "-K", "eth0", "tx", "off")
    _run(node, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1")


_LENGTHS = ((4, 24, ""), (6, 64, "nodad"))


def _run(netns: str, *command: str) -> None:
    done = subprocess.run(inside(netns, command), capture_output=True, text=True, check=False)
    assert done.returncode == 0, (command, done.stderr)


def _tap() -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    sock.bind((names.GATEWAY_PORT, 3))
    sock.setblocking(False)
    return sock


@contextlib.contextmanager
def beside_kube_proxy(side: HostSide) -> Iterator[None]:
    """Rules of kube-proxy's shape for as long as this lasts, with a service on `PORT`."""
    for version, program in ((4, "iptables"), (6, "ip6tables")):
        endpoint = "10.77.5.5:80" if version == 4 else "[fd00:77:0:5::5]:80"
        text = KUBE_PROXY.format(cluster_ip=CLUSTER_IP[version], port=PORT, endpoint=endpoint)
        done = subprocess.run(
            inside(side.node.netns, [f"{program}-restore"]),
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    try:
        yield
    finally:
        for program in ("iptables", "ip6tables"):
            for table in ("nat", "filter"):
                for flag in ("-F", "-X"):
                    side.node.run(program, "-t", table, flag)
