"""What pods send to addresses outside the cluster leaves with the node's own address.

One nftables table, `inet ovsnet`, replaced as a whole in one transaction (nft(8)).
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from ovsnet import names
from ovsnet.cni.ranges import NodeRanges

TABLE = "ovsnet"


class MasqueradeError(Exception):
    """nft is missing or refused; the text has its words."""


@dataclass(frozen=True)
class Masquerade:
    """Which packets are masqueraded: from the node's pods, to anywhere outside the cluster."""

    ranges: NodeRanges
    cluster: tuple[IPv4Network | IPv6Network, ...]

    def script(self) -> str:
        """The nft script that replaces the table, whether there is one or not."""
        rules = "\n".join(f"    {rule}" for rule in self._rules())
        return (
            f"table inet {TABLE}\n"
            f"delete table inet {TABLE}\n"
            f"table inet {TABLE} {{\n"
            "  chain postrouting {\n"
            "    type nat hook postrouting priority srcnat; policy accept;\n"
            f"{rules}\n"
            "  }\n"
            "}\n"
        )

    def _rules(self) -> list[str]:
        rules = []
        for family, keyword, own in (
            (4, "ip", self.ranges.ipv4),
            (6, "ip6", self.ranges.ipv6),
        ):
            if own is None:
                continue
            inside = sorted({str(n) for n in self.cluster if n.version == family} | {str(own)})
            rules.append(
                f'oifname != "{names.GATEWAY_PORT}" {keyword} saddr {own}'
                f" {keyword} daddr != {{ {', '.join(inside)} }} masquerade"
            )
        return rules


class Installer:
    """Keeps the table in the kernel as it was installed."""

    def __init__(self) -> None:
        self._installed: tuple[Masquerade, str] | None = None

    def ensure(self, wanted: Masquerade) -> bool:
        """Install the table unless it is there unchanged; True if it was installed.

        After a restart it is installed once, as nobody knows who wrote what is there.

        Raises:
            MasqueradeError: nft failed.
        """
        if self._installed is not None and self._installed == (wanted, _list()):
            return False
        _nft(["-f", "-"], wanted.script())
        self._installed = wanted, _list()
        return True


def remove() -> None:
    """Remove the table if it is there.

    Raises:
        MasqueradeError: nft failed.
    """
    _nft(["-f", "-"], f"table inet {TABLE}\ndelete table inet {TABLE}\n")


def _list() -> str:
    try:
        return _nft(["list", "table", "inet", TABLE], "")
    except MasqueradeError:
        return ""


def _nft(arguments: list[str], stdin: str) -> str:
    try:
        done = subprocess.run(
            ["nft", *arguments], input=stdin, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise MasqueradeError(f"nft cannot be run: {error}") from None
    if done.returncode:
        raise MasqueradeError(f"nft {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
