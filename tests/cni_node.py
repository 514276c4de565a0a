"""A node for tests of the plugin and the agent, with Open vSwitch and a stand-in controller.

Everything of a node lies in one temporary directory and in network namespaces of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datapath
from slowness import SLOW

from ovsnet import names
from ovsnet.cni.ranges import NodeRanges
from ovsnet.sandbox.openvswitch import OpenVSwitch, OpenVSwitchError, inside, network_namespace

OPENFLOW_1_5 = 6
HELLO, ERROR, ECHO_REQUEST, ECHO_REPLY = 0, 1, 2, 3
PORT_STATUS = 12
PORT_GONE = 1
HEADER = struct.Struct("!BBHI")
GATEWAY4, GATEWAY6 = "10.77.0.1", "fd00:77::1"
CIDRS = ("10.77.0.0/24", "fd00:77::/120")
CNI_PLUGINS = Path("/usr/lib/cni")


def answer_everyone(gateway4: str = GATEWAY4) -> str:
    """A flow that answers ARP for the gateway on every port, and forwards between known MACs."""
    return (
        f"table=0,priority=9,arp,arp_op=1,arp_tpa={gateway4} "
        "actions=move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],"
        f"set_field:{names.ROUTER_MAC}->eth_src,"
        "set_field:2->arp_op,move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[],"
        f"set_field:{names.ROUTER_MAC}->arp_sha,"
        "move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[],"
        f"set_field:{gateway4}->arp_spa,in_port"
    )


def answer_port(number: int, ipv4: str, pod_mac: str, gateway4: str) -> list[str]:
    """Flows that let one pod in: ARP for the gateway from its port, packets to its address."""
    arp = answer_everyone(gateway4).replace("table=0,", f"table=0,in_port={number},")
    return [
        arp,
        f"table=0,priority=5,ip,nw_dst={ipv4} actions=set_field:{names.ROUTER_MAC}->eth_src,"
        f"set_field:{pod_mac}->eth_dst,output:{number}",
    ]


class StandInController(threading.Thread):
    """Listens for OpenFlow in a node's namespace and calls `on_port` for each port that appears.

    The port's name is empty if the port is gone, and the number 0 when the switch has just
    connected. It says hello and answers echoes, no more;
    flows go in by ovs-ofctl.
    """

    def __init__(self, netns: str, port: int, on_port: Callable[[int, str, str], None]) -> None:
        super().__init__(daemon=True)
        self._listener = _in_namespace(netns, lambda: _listen(port))
        self._on_port = on_port
        self._open: list[socket.socket] = []
        self._ended = False

    def run(self) -> None:
        while not self._ended:
            if not select.select([self._listener], [], [], 0.1)[0]:
                continue
            connection, _ = self._listener.accept()
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.sendall(HEADER.pack(OPENFLOW_1_5, HELLO, 8, 1))
            self._on_port(0, "", "")
            data = b""
            while chunk := connection.recv(65536):
                data += chunk
                while len(data) >= 8 and len(data) >= HEADER.unpack_from(data)[2]:
                    _, kind, length, xid = HEADER.unpack_from(data)
                    message, data = data[8:length], data[length:]
                    if kind == ECHO_REQUEST:
                        reply = HEADER.pack(OPENFLOW_1_5, ECHO_REPLY, length, xid) + message
                        connection.sendall(reply)
                    elif kind == PORT_STATUS:
                        number = int.from_bytes(message[8:12], "big")
                        mac = message[16:22].hex(":")
                        name = message[24:40].rstrip(b"\0").decode()
                        self._on_port(number, "" if message[0] == PORT_GONE else name, mac)

    def end(self) -> None:
        self._ended = True
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.join()
        self._listener.close()


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener


def _in_namespace(netns: str, action: Callable[[], Any]) -> Any:
    from ovsnet.cni import netns as namespaces

    fd = os.open(f"/run/netns/{netns}", os.O_RDONLY)
    try:
        with namespaces.entered(fd):
            return action()
    finally:
        os.close(fd)


@dataclass(frozen=True)
class Pod:
    """A pod's sandbox: a network namespace with the names that Kubernetes gives."""

    netns: str
    namespace: str = "shop"
    name: str = "web-0"
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))
    container: str = field(default_factory=lambda: secrets.token_hex(32))

    @property
    def port(self) -> str:
        return names.port_name(self.namespace, self.name, self.uid)

    def environment(
        self, verb: str, bin_dirs: Sequence[Path], ifname: str = "eth0"
    ) -> dict[str, str]:
        return {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": self.container,
            "CNI_NETNS": f"/run/netns/{self.netns}",
            "CNI_IFNAME": ifname,
            "CNI_ARGS": (
                f"IgnoreUnknown=1;K8S_POD_NAMESPACE={self.namespace};K8S_POD_NAME={self.name};"
                f"K8S_POD_INFRA_CONTAINER_ID={self.container};K8S_POD_UID={self.uid}"
            ),
            "CNI_PATH": ":".join(str(d) for d in bin_dirs),
        }


@dataclass(frozen=True)
class Outcome:
    """What an execution of the plugin gave."""

    status: int
    output: dict[str, Any]
    stderr: str

    @property
    def code(self) -> int:
        return int(self.output["code"])

    @property
    def message(self) -> str:
        return str(self.output["msg"])


class TestNode:
    """One node. Use as a context manager."""

    __test__ = False

    def __init__(
        self,
        *,
        cidrs: Sequence[str] = CIDRS,
        options: dict[str, Any] | None = None,
        let_in: Callable[[str], bool] = lambda port: True,
        controller: bool = True,
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="ovsnet-cni-"))
        self.netns = f"cni-{secrets.token_hex(4)}"
        self.gateway4 = str(NodeRanges.of(cidrs).gateway.ipv4)
        self.let_in = let_in
        self._with_controller = controller
        self._stack = contextlib.ExitStack()
        self._agent: subprocess.Popen[bytes] | None = None
        self.controller: StandInController | None = None
        self.conf_dir = self.directory / "net.d"
        self.bin_dir = self.directory / "bin"
        self.state = self.directory / "state" / "agent.db"
        self.options: dict[str, Any] = {
            "node": "node-1",
            "pod_cidrs": list(cidrs),
            "cluster_cidrs": ["10.77.0.0/16", "fd00:77::/56"],
            "controllers": ["tcp:127.0.0.1:6653"],
            "ovsdb": str(self.directory / "ovs" / "db.sock"),
            "ovs_rundir": str(self.directory / "ovs"),
            "datapath": datapath.TYPE,
            "mtu": 1450,
            "tunnel": False,
            "cni_conf_dir": str(self.conf_dir),
            "cni_bin_dir": str(self.bin_dir),
            "chain": [],
            "socket": str(self.directory / "agent.sock"),
            "state_dir": str(self.state.parent),
            "deadline": 15.0 * SLOW,
            "housekeeping": 0.5,
        } | (options or {})

    def __enter__(self) -> TestNode:
        try:
            self._stack.callback(shutil.rmtree, self.directory, True)
            self._stack.enter_context(network_namespace(self.netns))
            self.ovs = self._stack.enter_context(OpenVSwitch(self.netns, self.directory / "ovs"))
            self._stack.callback(self.stop_agent)
            if self._with_controller:
                self.start_controller()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start_controller(self) -> None:
        self.controller = StandInController(self.netns, 6653, self._on_port)
        self.controller.start()
        self._stack.callback(self.stop_controller)

    def stop_controller(self) -> None:
        if self.controller is not None:
            self.controller.end()
            self.controller = None

    def _on_port(self, number: int, port: str, mac: str) -> None:
        if number == 0:
            # The switch may be gone already.
            with contextlib.suppress(OpenVSwitchError):
                self.ovs.ofctl("add-flow", names.BRIDGE, "priority=0 actions=drop")
            return
        address = names.address_of_host_mac(mac)
        if not port:
            with contextlib.suppress(Exception):
                self.ovs.ofctl("del-flows", names.BRIDGE, f"in_port={number}")
        if address is None or not port or not self.let_in(port):
            return
        flows = answer_port(number, str(address), names.pod_mac(address), self.gateway4)
        # In one go: where many pods start and end at once, every program that is started counts.
        with contextlib.suppress(Exception):
            self.ovs.ofctl("add-flows", names.BRIDGE, "-", stdin="\n".join(flows))

    def start_agent(self, *, kill_at: str = "", ready: bool = True) -> None:
        """Start the agent; `kill_at` names the checkpoint at which it dies by SIGKILL."""
        self._log_start = len(self.log())
        config = self.directory / "agent.toml"
        config.write_text("\n".join(f"{k} = {json.dumps(v)}" for k, v in self.options.items()))
        program = (
            "import os, signal, sys\n"
            "from pathlib import Path\n"
            "from ovsnet import logs\n"
            "from ovsnet.cni import agent, config\n"
            "logs.configure(sys.stderr)\n"
            f"def checkpoint(step):\n"
            f"    if step == {kill_at!r}: os.kill(os.getpid(), signal.SIGKILL)\n"
            f"agent.run(config.load(Path({str(config)!r})), checkpoint)\n"
        )
        command = [sys.executable, "-m", "ovsnet.cni.agent", "--config", str(config)]
        if kill_at:
            command = [sys.executable, "-c", program]
        with (self.directory / "agent.log").open("ab") as log:
            self._agent = subprocess.Popen(
                inside(self.netns, command), stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        if ready:
            self.wait(self.is_ready, "the agent to be ready")

    @contextlib.contextmanager
    def agent_held(self) -> Iterator[None]:
        """The agent does nothing for the time of the block."""
        assert self._agent is not None
        self._agent.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._agent.send_signal(signal.SIGCONT)

    def is_ready(self) -> bool:
        assert self._agent is not None
        assert self._agent.poll() is None, self.log()
        return "node is set up" in self.log()[self._log_start :] and self.plugin.exists()

    def agent_died(self) -> bool:
        assert self._agent is not None
        return self._agent.poll() is not None

    @property
    def agent_pid(self) -> int:
        assert self._agent is not None
        return self._agent.pid

    def stop_agent(self, number: int = signal.SIGTERM) -> None:
        if self._agent is not None:
            self._agent.send_signal(number)
            self._agent.wait(20)
            self._agent = None

    def restart_agent(self) -> None:
        self.stop_agent()
        self.start_agent()

    def log(self) -> str:
        path = self.directory / "agent.log"
        return path.read_text() if path.exists() else ""

    def wait(self, ready: Callable[[], bool], what: str, seconds: float = 20) -> None:
        end = time.monotonic() + seconds * SLOW
        while not ready():
            assert time.monotonic() < end, f"waited in vain for {what}\n{self.log()}"
            time.sleep(0.02)

    @property
    def plugin(self) -> Path:
        return self.bin_dir / "ovsnet"

    @contextlib.contextmanager
    def pod(self, **names_: str) -> Iterator[Pod]:
        with network_namespace(f"pod-{secrets.token_hex(4)}") as netns:
            yield Pod(netns, **names_)

    def call(
        self,
        verb: str,
        pod: Pod | None = None,
        conf: dict[str, Any] | bytes | None = None,
        ifname: str = "eth0",
        **environment: str | None,
    ) -> Outcome:
        """Execute the plugin; `environment` overrides variables, None removes one."""
        variables: dict[str, str | None] = {"CNI_COMMAND": verb}
        if pod is not None:
            variables = dict(pod.environment(verb, (self.bin_dir, CNI_PLUGINS), ifname))
        variables |= environment
        value = {"cniVersion": "1.1.0", "name": "ovsnet", "type": "ovsnet"}
        stdin = conf if isinstance(conf, bytes) else json.dumps(value | (conf or {})).encode()
        done = subprocess.run(
            [self.plugin],
            env={k: v for k, v in variables.items() if v is not None},
            input=stdin,
            capture_output=True,
            check=False,
            timeout=60,
        )
        output = json.loads(done.stdout) if done.stdout.strip() else {}
        return Outcome(done.returncode, output, done.stderr.decode())

    def add(self, pod: Pod, conf: dict[str, Any] | None = None) -> dict[str, Any]:
        outcome = self.call("ADD", pod, conf)
        assert outcome.status == 0, (outcome, self.log())
        return outcome.output

    def delete(self, pod: Pod, conf: dict[str, Any] | None = None) -> None:
        outcome = self.call("DEL", pod, conf)
        assert outcome.status == 0, (outcome, self.log())

    def ports(self) -> set[str]:
        """Ports of the bridge that are not the network's own."""
        return set(self.ovs.vsctl("list-ports", names.BRIDGE).split()) - names.RESERVED_PORTS

    def links(self) -> set[str]:
        """Veth links in the node's namespace."""
        done = self.run("ip", "-j", "link", "show", "type", "veth")
        return {link["ifname"] for link in json.loads(done or "[]")}

    def run(self, *command: str) -> str:
        done = subprocess.run(
            inside(self.netns, command), capture_output=True, text=True, check=True
        )
        return done.stdout

    def in_pod(self, pod: Pod, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            inside(pod.netns, command), capture_output=True, text=True, check=False
        )

    def leftovers(self) -> dict[str, Any]:
        """What is left of pods: nothing, once all are deleted."""
        import sqlite3

        with contextlib.closing(sqlite3.connect(self.state)) as db:
            records = db.execute("SELECT container_id, state FROM attachment").fetchall()
            held = db.execute("SELECT COUNT(*) FROM address WHERE free_at IS NULL").fetchone()[0]
        found = {"ports": self.ports(), "links": self.links(), "records": records, "held": held}
        return {k: v for k, v in found.items() if v}

    def expect_nothing_left(self) -> None:
        self.wait(lambda: not self.leftovers(), "everything to be gone")
