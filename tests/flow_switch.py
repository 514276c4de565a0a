"""A real Open vSwitch in a namespace with one userspace bridge, for tests of flows.

`FlowSwitch` replaces the flows of the bridge, dumps them, and traces packets. Commands to the
switch daemon go over one connection to its control socket (JSON-RPC, as ovs-appctl speaks it),
so that thousands of traces cost a millisecond each.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator

from flow_strategies import GROUPS
from ofproto_trace import UNDERLAY_COOKIE

from ovsnet.flows.flow import Flow
from ovsnet.flows.text import print_flow
from ovsnet.names import BRIDGE, GATEWAY_PORT, TUNNEL_PORT, Table
from ovsnet.sandbox.openvswitch import OpenVSwitch, OpenVSwitchError, network_namespace

PORTS = {1: GATEWAY_PORT, 2: TUNNEL_PORT, 3: "a", 4: "b", 5: "pod-c"}
UNDERLAY = "br-phy"
UNDERLAY_ADDRESSES = ("192.168.7.1/24", "fdaa::1/64")
NEIGHBOURS = ("192.168.7.2", "192.168.7.3", "fdaa::2")
NUMBERS = {name: number for number, name in PORTS.items()}


class Control:
    """The control socket of ovs-vswitchd."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(20)
        self._socket.connect(path)
        self._decoder = json.JSONDecoder()
        self._pending = ""

    def call(self, method: str, *arguments: str) -> str:
        """The answer to one command; OpenVSwitchError with the daemon's words if it refuses."""
        request = {"id": 0, "method": method, "params": list(arguments)}
        self._socket.sendall(json.dumps(request).encode())
        answer = self._receive()
        if answer["error"] is not None:
            raise OpenVSwitchError(f"{method}: {answer['error']}")
        return answer["result"]

    def close(self) -> None:
        self._socket.close()

    def _receive(self):
        while True:
            try:
                answer, end = self._decoder.raw_decode(self._pending)
            except ValueError:
                data = self._socket.recv(1 << 20)
                if not data:
                    raise OpenVSwitchError("ovs-vswitchd closed its control socket") from None
                self._pending += data.decode()
                continue
            self._pending = self._pending[end:]
            return answer


class FlowSwitch:
    """The bridge under test."""

    def __init__(self, ovs: OpenVSwitch) -> None:
        self.ovs = ovs
        self.control = Control(str(ovs.rundir / "ovs-vswitchd.ctl"))

    def replace(self, flows: Iterable[Flow]) -> None:
        """Make these the flows of the bridge, all at once."""
        lines = "".join(f"{print_flow(flow, PORTS)}\n" for flow in flows)
        self.ovs.ofctl("add-flows", BRIDGE, "--bundle", "-", stdin="delete\n" + lines)

    def dump(self, *options: str) -> str:
        """The flows as ovs-ofctl prints them."""
        return self.ovs.ofctl("dump-flows", BRIDGE, *options)

    def add_groups(self, buckets: str = "bucket=actions=output:3") -> None:
        """Make the groups that generated flows name."""
        for group in GROUPS:
            self.ovs.ofctl("add-group", BRIDGE, f"group_id={group},type=all,{buckets}")

    def datapath_ports(self) -> dict[int, int]:
        """The OpenFlow number of each port of the datapath."""
        found = re.findall(r"^ +\S+ (\d+)/(\d+): ", self.control.call("dpif/show"), re.MULTILINE)
        return {int(datapath): int(openflow) for openflow, datapath in found}

    def add_underlay(self) -> None:
        """Give the tunnel a way: an underlay bridge with addresses, and two neighbours on it."""
        ovs = self.ovs
        ovs.vsctl("add-br", UNDERLAY, "--", "set", "bridge", UNDERLAY, "datapath_type=netdev")
        ovs.vsctl("set", "bridge", UNDERLAY, "fail_mode=secure")
        ovs.vsctl("add-port", UNDERLAY, "wire", "--", "set", "interface", "wire", "type=internal")
        ovs.ofctl("add-flow", UNDERLAY, f"cookie={UNDERLAY_COOKIE:#x},actions=output:wire")
        ip = ["ip", "-n", str(ovs.netns)]
        for address in UNDERLAY_ADDRESSES:
            more = ["nodad"] if ":" in address else []
            subprocess.run([*ip, "address", "add", address, "dev", UNDERLAY, *more], check=True)
        subprocess.run([*ip, "link", "set", UNDERLAY, "up"], check=True)
        for number, neighbour in enumerate(NEIGHBOURS, 2):
            mac = f"02:00:00:00:00:{number:02x}"
            self.control.call("tnl/neigh/set", UNDERLAY, neighbour, mac)
        deadline = time.monotonic() + 10
        while any(
            a.split("/")[0] not in self.control.call("ovs/route/show") for a in UNDERLAY_ADDRESSES
        ):
            if time.monotonic() > deadline:
                raise OpenVSwitchError("the underlay's routes did not appear")
            time.sleep(0.05)

    def trace(self, packet: str, ct_next: Iterable[str] = ()) -> str:
        """What `ovs-appctl ofproto/trace` says of a packet."""
        states = [word for state in ct_next for word in ("--ct-next", state)]
        return self.control.call("ofproto/trace", BRIDGE, packet, *states)


@contextlib.contextmanager
def flow_switch(purpose: str, datapath_type: str = "netdev") -> Iterator[FlowSwitch]:
    """A switch with the ports `PORTS` in a namespace of its own, gone afterwards.

    What becomes of a packet in its flows is the same with every datapath. The userspace one's
    actions show what a tunnel makes of it, too.
    """
    with network_namespace(f"{purpose}-{os.getpid()}") as netns, OpenVSwitch(netns) as ovs:
        ovs.vsctl(
            *("add-br", BRIDGE, "--", "set", "bridge", BRIDGE, f"datapath_type={datapath_type}"),
            *("protocols=OpenFlow15", "fail_mode=secure", "other-config:disable-in-band=true"),
        )
        names = []
        for table in Table:
            names += ["--", f"--id=@t{int(table)}", "create", "Flow_Table", f"name={table.text}"]
            names += ["--", "set", "bridge", BRIDGE, f"flow_tables:{int(table)}=@t{int(table)}"]
        ovs.vsctl(*names[1:])
        for number, name in PORTS.items():
            kind = ["type=internal"]
            if name == TUNNEL_PORT:
                kind = ["type=vxlan", "options:remote_ip=flow", "options:key=flow"]
            ovs.vsctl(
                *("add-port", BRIDGE, name, "--", "set", "interface", name, *kind),
                f"ofport_request={number}",
            )
        switch = FlowSwitch(ovs)
        try:
            yield switch
        finally:
            switch.control.close()
