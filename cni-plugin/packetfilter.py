"""The node's own packet filter: masquerade, and a wall behind the pods' ports.

One nftables table, `inet ovsnet`, replaced as a whole in one transaction (nft(8)).

What pods send to addresses outside the cluster leaves with the node's own address. So a pod that
wrapped a packet itself and sent it to another node's tunnel would be taken for the node, which may
speak for all its pods: what pods send to the tunnel's UDP port ends here, whatever its address.

With the userspace datapath every packet that arrives on a pod's port goes two ways: to Open
vSwitch, and up the node's own stack, which would deliver or forward it past every flow (Open
vSwitch's manual says to drop it there, userspace installation, "Using the userspace datapath").
The ports are known by their link group. With the kernel's datapath nothing gets that far, and the
rule matches nothing.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses

from ovsnet import names
from ovsnet.cni.links import ENDPOINTS
from ovsnet.cni.ranges import NodeRanges

TABLE = "ovsnet"


class PacketFilterError(Exception):
    """nft is missing or refused; the text has its words."""


@dataclass(frozen=True)
class PacketFilter:
    """Which packets are masqueraded: from the node's pods, to anywhere outside the cluster.

    `tunnel_port` is the UDP port of the overlay, None where there is none.
    """

    ranges: NodeRanges
    cluster: tuple[IPv4Network | IPv6Network, ...]
    masquerade: bool = True
    tunnel_port: int | None = None

    def script(self) -> str:
        """The nft script that replaces the table, whether there is one or not."""
        rules = "\n".join(f"    {rule}" for rule in self._rules())
        return (
            f"table inet {TABLE}\n"
            f"delete table inet {TABLE}\n"
            f"table inet {TABLE} {{\n"
            "  chain wall {\n"
            "    type filter hook prerouting priority raw; policy accept;\n"
            f"    iifgroup {ENDPOINTS} drop\n"
            "  }\n"
            "  chain forward {\n"
            "    type filter hook forward priority filter; policy accept;\n"
            f"{self._no_tunnel_from_pods()}"
            "  }\n"
            "  chain postrouting {\n"
            "    type nat hook postrouting priority srcnat; policy accept;\n"
            f"{rules}\n"
            "  }\n"
            "}\n"
        )

    def _no_tunnel_from_pods(self) -> str:
        if self.tunnel_port is None:
            return ""
        return f'    iifname "{names.GATEWAY_PORT}" udp dport {self.tunnel_port} drop\n'

    def _inside(self, own: IPv4Network | IPv6Network) -> Iterator[IPv4Network | IPv6Network]:
        """The cluster's ranges of one family with the node's own; nft wants no overlaps."""
        if isinstance(own, IPv4Network):
            return collapse_addresses([own, *(n for n in self.cluster if n.version == 4)])
        return collapse_addresses([own, *(n for n in self.cluster if n.version == 6)])

    def _rules(self) -> list[str]:
        rules = []
        for keyword, own in (("ip", self.ranges.ipv4), ("ip6", self.ranges.ipv6)):
            if own is None or not self.masquerade:
                continue
            inside = [str(net) for net in self._inside(own)]
            rules.append(
                f'oifname != "{names.GATEWAY_PORT}" {keyword} saddr {own}'
                f" {keyword} daddr != {{ {', '.join(inside)} }} masquerade"
            )
        return rules


class Installer:
    """Keeps the table in the kernel as it was installed."""

    def __init__(self) -> None:
        self._installed: tuple[PacketFilter, str] | None = None

    def ensure(self, wanted: PacketFilter) -> bool:
        """Install the table unless it is there unchanged; True if it was installed.

        After a restart it is installed once, as nobody knows who wrote what is there.

        Raises:
            PacketFilterError: nft failed.
        """
        if self._installed is not None and self._installed == (wanted, _list()):
            return False
        _nft(["-f", "-"], wanted.script())
        self._installed = wanted, _list()
        return True


def _list() -> str:
    try:
        return _nft(["list", "table", "inet", TABLE], "")
    except PacketFilterError:
        return ""


def _nft(arguments: list[str], stdin: str) -> str:
    try:
        done = subprocess.run(
            ["nft", *arguments], input=stdin, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise PacketFilterError(f"nft cannot be run: {error}") from None
    if done.returncode:
        raise PacketFilterError(f"nft {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
