"""Two nodes whose pods talk over our flows, and beside them over a NORMAL switch and tunnel."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, ip_address, ip_network
from typing import NamedTuple

from ovsnet.controller.belief import Port
from ovsnet.controller.network import Network
from ovsnet.flows.balance import GROUPS
from ovsnet.flows.text import print_flow, print_group
from ovsnet.model import EndpointSlice, NetworkPolicy, Node, Phase, Pod, Service
from ovsnet.names import (
    BRIDGE,
    GATEWAY_OFPORT,
    GATEWAY_PORT,
    ROUTER_MAC,
    TUNNEL_OFPORT,
    TUNNEL_PORT,
    Table,
    host_mac,
    pod_mac,
    port_name,
)
from ovsnet.sandbox.openvswitch import OpenVSwitch, network_namespace

NAMESPACE = "bench"
PLAIN_BRIDGE = "br-plain"
MTU = 1450


class Place(NamedTuple):
    """A pod's namespace and its address there."""

    netns: str
    address: str


class Lab(NamedTuple):
    """Where to send from and to: a client, a server on the same node, and one on the other."""

    client: Place
    near: Place
    far: Place


class Labs(NamedTuple):
    """The same three places twice: over our flows, and over NORMAL.

    `enforce` makes policies all that there are in `NAMESPACE`, which all pods are in; `serve` makes
    services and slices all that there are.
    """

    ours: Lab
    plain: Lab
    enforce: Callable[[Iterable[NetworkPolicy]], None]
    serve: Callable[[Iterable[Service], Iterable[EndpointSlice]], None]


@contextlib.contextmanager
def labs() -> Iterator[Labs]:
    """Build both, side by side on the same two switches, and take them down afterwards."""
    tag = f"ob{os.getpid() % 10000}"
    nodes = [
        Node(
            f"{tag}n{i}",
            pod_cidrs=(ip_network(f"10.244.{i}.0/24"),),
            addresses=(ip_address(f"172.30.0.{i}"),),
        )
        for i in (1, 2)
    ]
    pods = [
        Pod(NAMESPACE, f"{tag}p{n}{k}", f"u{n}{k}", node=nodes[n - 1].name, phase=Phase.RUNNING)
        for n, k in ((1, 1), (1, 2), (2, 1))
    ]
    network = Network(id)
    network.set_nodes(nodes)
    network.set_pods(pods)
    with contextlib.ExitStack() as stack:
        switches = {}
        for node in nodes:
            stack.enter_context(network_namespace(node.name))
            switches[node.name] = stack.enter_context(OpenVSwitch(node.name))
        _ip("link", "add", "under1", "netns", nodes[0].name, "type", "veth",
            "peer", "name", "under2", "netns", nodes[1].name)  # fmt: skip
        ours, plain = [], []
        for number, node in enumerate(nodes, 1):
            _bridges(switches[node.name], node, number)
            here = [pod for pod in pods if pod.node == node.name]
            ports = []
            for k, pod in enumerate(here):
                stack.enter_context(network_namespace(pod.name))
                assert node.range4 is not None
                address = node.range4[k + 5]
                ports.append(_attach(switches[node.name], node, pod, address))
                ours.append(Place(pod.name, str(address)))
                plain.append(
                    Place(pod.name, _attach_plain(switches[node.name], node, pod, number, k))
                )
            network.set_ports(node.name, ports)

        def write() -> None:
            for name, switch in switches.items():
                text = "\n".join(map(print_flow, network.ledger(name).flows.values()))
                switch.ofctl("replace-flows", BRIDGE, "-", stdin=text)

        def enforce(policies: Iterable[NetworkPolicy]) -> None:
            network.set_policies(policies)
            write()

        def serve(services: Iterable[Service], slices: Iterable[EndpointSlice]) -> None:
            network.set_services(services)
            network.set_slices(slices)
            write()

        for switch in switches.values():
            # First those that others name.
            for group in sorted(GROUPS, key=lambda group: -group.id):
                switch.ofctl("add-group", BRIDGE, print_group(group))
        write()
        yield Labs(Lab(*ours), Lab(*plain), enforce, serve)


def run(place: Place, *command: str) -> str:
    """What a command prints in a pod's namespace."""
    done = subprocess.run(
        ["nsenter", f"--net=/run/netns/{place.netns}", *command],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout


def _bridges(switch: OpenVSwitch, node: Node, number: int) -> None:
    peer = f"172.30.0.{3 - number}"
    words = [
        *("add-br", "br-phy", "--", "set", "bridge", "br-phy", "datapath_type=netdev"),
        *("--", "add-port", "br-phy", f"under{number}"),
        *("--", "add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev"),
        *("fail_mode=secure", "protocols=OpenFlow15"),
        *("--", "add-port", BRIDGE, GATEWAY_PORT, "--", "set", "interface", GATEWAY_PORT),
        *("type=internal", f"ofport_request={GATEWAY_OFPORT}"),
        *("--", "add-port", BRIDGE, TUNNEL_PORT, "--", "set", "interface", TUNNEL_PORT),
        *("type=vxlan", f"ofport_request={TUNNEL_OFPORT}"),
        *("options:remote_ip=flow", "options:key=flow"),
        *("--", "add-br", PLAIN_BRIDGE, "--", "set", "bridge", PLAIN_BRIDGE),
        *("datapath_type=netdev", "--", "add-port", PLAIN_BRIDGE, "plain-tun0"),
        *("--", "set", "interface", "plain-tun0", "type=vxlan"),
        *(f"options:remote_ip={peer}", "options:key=77"),
    ]
    for table in Table:
        words += ["--", f"--id=@t{table.value}", "create", "Flow_Table", f"name={table.text}"]
        words += ["--", "set", "bridge", BRIDGE, f"flow_tables:{table.value}=@t{table.value}"]
    switch.vsctl(*words)
    for link in (f"under{number}", "br-phy"):
        _ip("-n", node.name, "link", "set", link, "up")
    _ip("-n", node.name, "address", "add", f"172.30.0.{number}/24", "dev", "br-phy")


def _attach(switch: OpenVSwitch, node: Node, pod: Pod, address: IPv4Address) -> Port:
    name = port_name(pod.namespace, pod.name, pod.uid)
    _veth(node.name, name, host_mac(address), pod.name, "eth0", pod_mac(address))
    assert node.range4 is not None
    gateway = str(node.range4[1])
    inside = ("-n", pod.name)
    _ip(*inside, "address", "add", f"{address}/32", "dev", "eth0")
    _ip(*inside, "route", "add", gateway, "dev", "eth0")
    _ip(*inside, "route", "add", "default", "via", gateway)
    _ip(*inside, "neighbour", "add", gateway, "lladdr", ROUTER_MAC, "dev", "eth0")
    switch.vsctl("add-port", BRIDGE, name)
    number = int(switch.vsctl("get", "interface", name, "ofport"))
    return Port(number, name, host_mac(address))


def _attach_plain(switch: OpenVSwitch, node: Node, pod: Pod, number: int, k: int) -> str:
    address = f"10.99.0.{number * 10 + k}"
    name = f"plain{k}"
    _veth(node.name, name, f"02:00:00:00:{number:02x}:{k:02x}", pod.name, "eth1", "")
    _ip("-n", pod.name, "address", "add", f"{address}/24", "dev", "eth1")
    switch.vsctl("add-port", PLAIN_BRIDGE, name)
    return address


def _veth(node: str, near: str, near_mac: str, pod: str, far: str, far_mac: str) -> None:
    macs = ("address", far_mac) if far_mac else ()
    _ip("-n", node, "link", "add", near, "address", near_mac, "mtu", str(MTU), "type", "veth",
        "peer", "name", far, *macs, "mtu", str(MTU), "netns", pod)  # fmt: skip
    _ip("-n", node, "link", "set", near, "up")
    _ip("-n", pod, "link", "set", far, "up")
    subprocess.run(
        ["nsenter", f"--net=/run/netns/{pod}", "ethtool", "-K", far, "tx", "off"],
        check=True, capture_output=True,
    )  # fmt: skip


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
