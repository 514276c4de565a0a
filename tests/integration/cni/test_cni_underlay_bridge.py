"""The underlay device in a bridge of Open vSwitch: made, interrupted, restarted, taken away."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from cni_node import TestNode

from ovsnet import names
from ovsnet.cni import bridging, standby, uplink
from ovsnet.cni import netns as namespaces
from ovsnet.cni.netlink import Netlink
from ovsnet.cni.ovsdb import Database
from ovsnet.sandbox.openvswitch import inside, network_namespace

NODE4, NODE6 = "172.18.7.11", "fd00:18:7::11"
ROUTER4, ROUTER6 = "172.18.7.1", "fd00:18:7::1"
FAR4, FAR6 = "203.0.113.9", "2001:db8::9"
VIRTUAL = "172.18.7.99"
NEIGHBOUR = "172.18.7.200"
BRIDGE = "br-phy"
STEPS = ("bridged", "mirrored", "standing by", "led")
RELEASE_STEPS = ("given back", "released")

_NODE = f"""
address add {NODE4}/24 brd + dev uplink
address add {NODE6}/64 dev uplink nodad
link set lo up
link set uplink up
route add default via {ROUTER4} dev uplink metric 100
route add default via {ROUTER6} dev uplink metric 100
route add 198.51.100.0/24 via 192.0.2.1 dev uplink onlink
route add {FAR4}/32 via {ROUTER4} dev uplink table 77 metric 5
rule add to 203.0.113.0/24 lookup 77 pref 500
neighbour add {NEIGHBOUR} lladdr 02:00:00:00:00:99 dev uplink nud permanent
"""
_ROUTER = f"""
address add {ROUTER4}/24 dev fabric
address add {ROUTER6}/64 dev fabric nodad
address add {FAR4}/32 dev lo
address add {FAR6}/128 dev lo
link set lo up
link set fabric up
"""


class Host(TestNode):
    """A node with an underlay device, and a router at the other end of it."""

    __test__ = False

    def __enter__(self) -> Host:
        super().__enter__()
        try:
            self.router = self._stack.enter_context(network_namespace(f"{self.netns}-r"))
            make = f"link add uplink netns {self.netns} type veth peer name fabric"
            _ip(self.router, make)
            _ip(self.netns, _NODE)
            _ip(self.router, _ROUTER)
            subprocess.run(
                inside(self.router, ["ethtool", "-K", "fabric", "tx", "off"]),
                check=True,
                capture_output=True,
            )
            self.wait(
                lambda: "NO-CARRIER" not in self.run("ip", "link", "show", "uplink"), "a link"
            )
        except BaseException:
            self.__exit__()
            raise
        return self

    def routes(self) -> list[tuple[str, ...]]:
        """All routes but those that every device has by itself, in the order of their texts."""
        found = []
        for family in ("-4", "-6"):
            for route in json.loads(self.run("ip", "-j", family, "route", "show", "table", "all")):
                if route.get("table") == "local" or route["dst"].startswith(("fe80", "ff00")):
                    continue
                if route["dev"] == names.GATEWAY_PORT:
                    continue
                keys = ("table", "dst", "gateway", "dev", "metric", "prefsrc", "flags")
                found.append((family, *(str(route.get(key)) for key in keys)))
        return sorted(found)

    def addresses(self, device: str) -> set[str]:
        """A device's addresses with their lengths, without link-local ones."""
        done = subprocess.run(
            inside(self.netns, ["ip", "-j", "address", "show", "dev", device]),
            capture_output=True,
            text=True,
            check=False,
        )
        infos = [i for link in json.loads(done.stdout or "[]") for i in link.get("addr_info", [])]
        return {f"{i['local']}/{i['prefixlen']}" for i in infos if not i["local"].startswith("fe8")}

    def way(self, address: str) -> str:
        """The device by which the node sends to an address."""
        return str(json.loads(self.run("ip", "-j", "route", "get", address))[0]["dev"])

    def reaches(self, address: str, source: str = "") -> bool:
        """True if three pings are answered, each once."""
        chosen = ["-I", source] if source else []
        done = subprocess.run(
            inside(self.netns, ["ping", *chosen, "-c3", "-i0.02", "-W2", address]),
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode == 0

    def reached_once(self) -> bool:
        """True if the router's pings are answered once each, in both families."""
        for address in (NODE4, NODE6):
            done = subprocess.run(
                inside(self.router, ["ping", "-c5", "-i0.02", "-W2", address]),
                capture_output=True,
                text=True,
                check=False,
            )
            if "5 received" not in done.stdout or "duplicates" in done.stdout:
                return False
        return True

    def led(self) -> bool:
        """True if the node sends by the bridge."""
        return {self.way(a) for a in (ROUTER4, ROUTER6, FAR4, FAR6)} == {BRIDGE}

    def log_has(self, words: str) -> bool:
        return words in self.log()[self._log_start :]


def _ip(netns: str, lines: str) -> None:
    for line in filter(None, lines.splitlines()):
        family = ["-6"] if ":" in line.replace("02:00:00:00:00:99", "") else []
        subprocess.run(["ip", "-n", netns, *family, *line.split()], check=True, capture_output=True)


class Conversation:
    """A TCP connection from the node to the router that says something all the time."""

    def __init__(self, host: Host, far: str) -> None:
        family = socket.AF_INET6 if ":" in far else socket.AF_INET

        def listen() -> socket.socket:
            listener = socket.socket(family)
            listener.bind((far, 0))
            listener.listen()
            return listener

        listener = _within(host.router, listen)
        with listener:
            self._near = _within(
                host.netns, lambda: socket.create_connection(listener.getsockname()[:2], 10)
            )
            self._far, _ = listener.accept()
        self._near.settimeout(60)
        self.answers = 0
        self.failure: OSError | None = None
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._echo), threading.Thread(target=self._talk)]
        for thread in self._threads:
            thread.start()

    def _echo(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._far.recv(4096):
                self._far.sendall(data)

    def _talk(self) -> None:
        try:
            while not self._ended.wait(0.005):
                self._near.sendall(bytes(700))
                got = 0
                while got < 700:
                    got += len(self._near.recv(4096))
                self.answers += 1
        except OSError as error:
            self.failure = error

    def goes_on(self) -> bool:
        """True if an answer came that was asked for from now on."""
        before = self.answers
        # After 15 s without an answer TCP tries again up to as much later.
        end = time.monotonic() + 60
        while self.answers < before + 2:
            if self.failure is not None or time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    def end(self) -> None:
        self._ended.set()
        self._threads[1].join()
        self._near.close()
        self._threads[0].join()
        self._far.close()


def _within(netns: str, action: Any) -> Any:
    fd = os.open(f"/run/netns/{netns}", os.O_RDONLY)
    try:
        with namespaces.entered(fd):
            return action()
    finally:
        os.close(fd)


@contextlib.contextmanager
def conversations(host: Host) -> Iterator[list[Conversation]]:
    both = [Conversation(host, FAR4), Conversation(host, FAR6)]
    try:
        yield both
    finally:
        for one in both:
            one.end()


OPTIONS = {"underlay_bridge": BRIDGE, "tunnel": True, "mtu": 0}


@pytest.fixture
def host() -> Iterator[Host]:
    with Host(options=OPTIONS) as made:
        yield made


def released(host: Host, kill_at: str = "") -> None:
    """Let go as an uninstall does; end before the step `kill_at` is over."""

    class KilledError(Exception):
        pass

    def checkpoint(step: str) -> None:
        if step == kill_at:
            raise KilledError

    def act() -> None:
        with Netlink() as netlink, contextlib.suppress(KilledError):
            bridging.release(netlink, Database(host.ovs.db_socket), BRIDGE, checkpoint)

    _within(host.netns, act)


def test_the_node_goes_by_the_bridge_and_back(host: Host) -> None:
    before, addresses = host.routes(), host.addresses("uplink")
    with conversations(host) as talks:
        host.start_agent()
        assert host.led()
        assert host.addresses(BRIDGE) == addresses == host.addresses("uplink")
        by_bridge = [
            tuple(BRIDGE if part == "uplink" else part for part in route) for route in before
        ]
        assert set(by_bridge) <= set(host.routes())
        main = [r for r in host.routes() if r[1] == "None"]
        assert {r[4] for r in main} == {BRIDGE}
        assert NEIGHBOUR in host.run("ip", "neighbour", "show", "dev", BRIDGE, "nud", "permanent")
        mac = json.loads(host.run("ip", "-j", "link", "show", "uplink"))[0]["address"]
        assert json.loads(host.run("ip", "-j", "link", "show", BRIDGE))[0]["address"] == mac
        assert host.reached_once()
        assert all(host.reaches(a) for a in (ROUTER4, ROUTER6, FAR4, FAR6))
        assert all(talk.goes_on() for talk in talks)
        host.stop_agent()
        assert host.led()
        released(host)
        assert host.routes() == before
        assert host.addresses("uplink") == addresses
        assert BRIDGE not in host.run("ip", "link")
        assert BRIDGE not in host.ovs.vsctl("list-br")
        assert "ovsnet-underlay" not in host.run("nft", "list", "tables")
        assert "28535" not in host.run("ip", "rule") + host.run("ip", "-6", "rule")
        assert host.reached_once()
        assert all(talk.goes_on() for talk in talks)


def test_nothing_is_changed_by_a_second_agent(host: Host) -> None:
    host.start_agent()
    routes = host.routes()
    host.restart_agent()
    time.sleep(2 * host.options["housekeeping"])
    assert not host.log_has("underlay's addresses and routes")
    assert host.routes() == routes


@pytest.mark.parametrize("step", STEPS)
def test_an_agent_killed_at_a_step(host: Host, step: str) -> None:
    with conversations(host) as talks:
        host.start_agent(kill_at=step, ready=False)
        host.wait(host.agent_died, f"the agent to die at {step}")
        host.stop_agent(signal.SIGKILL)
        assert all(host.reaches(a) for a in (ROUTER4, ROUTER6, FAR4, FAR6))
        host.start_agent()
        assert host.led()
        assert host.reached_once()
        assert all(talk.goes_on() for talk in talks)


@pytest.mark.parametrize("kill_at", RELEASE_STEPS)
@pytest.mark.parametrize("step", STEPS)
def test_a_release_at_any_step(host: Host, step: str, kill_at: str) -> None:
    """Of what an agent has begun, by one that is interrupted and repeated."""
    before = host.routes()
    with conversations(host) as talks:
        host.start_agent(kill_at=step, ready=False)
        host.wait(host.agent_died, f"the agent to die at {step}")
        host.stop_agent(signal.SIGKILL)
        released(host, kill_at)
        assert all(host.reaches(a) for a in (ROUTER4, ROUTER6, FAR4, FAR6))
        released(host)
        assert host.routes() == before
        assert BRIDGE not in host.run("ip", "link")
        assert all(talk.goes_on() for talk in talks)


@pytest.mark.parametrize("agent", [True, False], ids=["with an agent", "without an agent"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_switch_ends_and_returns(host: Host, how: signal.Signals, agent: bool) -> None:
    host.start_agent()
    with conversations(host) as talks:
        if not agent:
            host.stop_agent()
        assert host.ovs.switch_pid is not None
        os.kill(host.ovs.switch_pid, how)
        host.ovs.stop_switch()
        host.wait(lambda: host.way(FAR4) == host.way(FAR6) == "uplink", "the device to stand in")
        # Without an agent the packet filter's entry must have run out.
        host.wait(lambda: host.reaches(FAR4), "the way by the device", 60)
        assert host.reaches(FAR6)
        assert host.way(ROUTER4) == "uplink"
        assert all(talk.goes_on() for talk in talks)
        host.ovs.start_switch()
        if not agent:
            host.start_agent()
        host.wait(host.led, "the bridge to be back")
        host.wait(host.reached_once, "packets to come once")
        assert all(talk.goes_on() for talk in talks)


def test_the_switch_returns_with_a_bridge_anew(host: Host) -> None:
    """As after a reboot: the port is another one, and has nothing."""
    host.start_agent()
    host.ovs.stop_switch()
    host.run("ip", "link", "delete", BRIDGE)
    assert all(host.reaches(a) for a in (ROUTER4, ROUTER6, FAR4, FAR6))
    with conversations(host) as talks:
        host.ovs.start_switch()
        host.wait(host.led, "the bridge to be back")
        assert host.addresses(BRIDGE) == host.addresses("uplink")
        host.wait(host.reached_once, "packets to come once")
        assert all(talk.goes_on() for talk in talks)


def test_an_address_comes_and_goes(host: Host) -> None:
    host.start_agent()
    host.run("ip", "address", "add", f"{VIRTUAL}/32", "dev", "uplink")
    host.wait(lambda: f"{VIRTUAL}/32" in host.addresses(BRIDGE), "the address")
    host.run("ip", "address", "delete", f"{VIRTUAL}/32", "dev", "uplink")
    host.wait(lambda: f"{VIRTUAL}/32" not in host.addresses(BRIDGE), "the address to go")
    assert host.addresses(BRIDGE) == host.addresses("uplink")


def test_a_route_that_comes_by_the_device(host: Host) -> None:
    host.start_agent()
    host.run("ip", "route", "add", "192.0.2.128/25", "via", ROUTER4, "dev", "uplink")
    host.wait(lambda: host.way("192.0.2.200") == BRIDGE, "the route to lead by the bridge")


def test_a_network_that_another_device_has_too(host: Host) -> None:
    """Its route is for the kernel the same, and must stay."""
    host.run("ip", "link", "add", "other", "type", "veth", "peer", "name", "rehto")
    host.run("ip", "link", "set", "rehto", "up")
    host.run("ip", "link", "set", "other", "up")
    host.run("ip", "address", "add", "172.18.7.77/24", "dev", "other")
    host.start_agent()
    before = host.routes()
    kept = ("-4", "None", "172.18.7.0/24", "None")
    assert {route[4] for route in before if route[:4] == kept} == {"other", BRIDGE}
    host.stop_agent()
    released(host)
    assert {route[4] for route in host.routes() if route[:4] == kept} == {"other", "uplink"}


def test_the_overlay_goes_by_the_bridge(host: Host) -> None:
    """A packet for the tunnel comes out, and one that comes is the tunnel's."""
    host.start_agent()

    def listen() -> socket.socket:
        found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        found.bind((ROUTER4, 4789))
        found.settimeout(1)
        return found

    with _within(host.router, listen) as far:
        frame = "ffffffffffff0a0000000001080600010800060400010a0000000001" + "0" * 40
        packet = (
            f"in_port={names.GATEWAY_OFPORT} packet={frame} "
            f"actions=set_field:{ROUTER4}->tun_dst,set_field:9->tun_id,"
            f"output:{names.TUNNEL_OFPORT}"
        )

        def arrives() -> bool:
            host.ovs.ofctl("packet-out", names.BRIDGE, packet)
            with contextlib.suppress(TimeoutError):
                return far.recv(2000)[4:7] == bytes([0, 0, 9])
            return False

        host.wait(arrives, "a packet of the overlay")

        def received() -> int:
            statistics = host.ovs.vsctl(
                "get", "Interface", names.TUNNEL_PORT, "statistics:rx_packets"
            )
            return int(statistics)

        header = bytes([8, 0, 0, 0, 0, 0, 9, 0])

        def counted() -> bool:
            far.sendto(header + bytes.fromhex(frame), (NODE4, 4789))
            return received() > 0

        host.wait(counted, "the tunnel to receive")


def test_a_bridge_that_is_somebody_elses(host: Host) -> None:
    host.ovs.vsctl("add-br", BRIDGE, "--", "set", "Bridge", BRIDGE, "datapath_type=netdev")
    before = host.routes()
    host.start_agent(ready=False)
    host.wait(lambda: host.log_has("that the agent has not made for uplink"), "the reason")
    assert host.routes() == before
    assert uplink.MARK not in host.ovs.vsctl("get", "Bridge", BRIDGE, "external_ids")


def test_a_device_that_is_a_port_already(host: Host) -> None:
    host.ovs.vsctl(
        *("add-br", "theirs", "--", "set", "Bridge", "theirs", "datapath_type=netdev", "--"),
        *("add-port", "theirs", "uplink"),
    )
    host.start_agent(ready=False)
    host.wait(lambda: host.log_has("is a port of the bridge theirs already"), "the reason")
    assert BRIDGE not in host.ovs.vsctl("list-br")


def test_a_release_without_open_vswitch(host: Host) -> None:
    before = host.routes()
    host.start_agent()
    host.stop_agent()
    host.ovs.stop()
    released(host)
    assert host.routes() == before
    assert BRIDGE not in host.run("ip", "link")
    assert host.reached_once()


@pytest.mark.parametrize("runs", [True, False], ids=["beside a switch", "without a switch"])
def test_uninstalling_gives_the_device_back(host: Host, runs: bool) -> None:
    before = host.routes()
    host.start_agent()
    host.stop_agent()
    if not runs:
        host.ovs.stop()
    command = [sys.executable, "-m", "ovsnet.cni.uninstall", "--state-dir", host.state.parent]
    subprocess.run(inside(host.netns, command), capture_output=True, check=runs)
    assert host.routes() == before
    assert {BRIDGE, names.BRIDGE, names.GATEWAY_PORT}.isdisjoint(
        link["ifname"] for link in json.loads(host.run("ip", "-j", "link"))
    )
    assert host.reached_once()


def test_an_overlay_that_cannot_work_is_told(host: Host) -> None:
    host.options |= {"underlay_bridge": "", "mtu": 1450}
    host.start_agent()
    told = "pods of other nodes cannot be reached"
    host.wait(lambda: host.log_has(told), "the warning")
    host.stop_agent()
    host.options["tunnel"] = False
    host.start_agent()
    time.sleep(2 * host.options["housekeeping"])
    assert not host.log_has(told)


def test_the_option_is_taken_back(host: Host) -> None:
    before = host.routes()
    host.start_agent()
    host.stop_agent()
    host.options["underlay_bridge"] = ""
    host.start_agent()
    host.wait(lambda: BRIDGE not in host.ovs.vsctl("list-br"), "the bridge to go")
    assert [r for r in host.routes() if r[4] != names.GATEWAY_PORT] == before
    assert standby.TABLE == 28535
