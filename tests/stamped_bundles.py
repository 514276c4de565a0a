"""Bundles of flows that end with a stamp, as all of the controller's do."""

from __future__ import annotations

from ovsnet.flows.stamp import stamp_flow
from ovsnet.flows.text import print_flow
from ovsnet.names import BRIDGE, Table
from ovsnet.sandbox.openvswitch import OpenVSwitch


class StampedBundles:
    """Writes bundles to the bridge of a switch."""

    def __init__(self, ovs: OpenVSwitch) -> None:
        self.ovs = ovs
        self.serial = 0

    def send(self, *messages: str) -> tuple[int, int]:
        """Send flow-mods in ovs-ofctl's syntax, and a stamp after them; its digest and number."""
        self.serial += 1
        # Flows that come and go have the same digests again and again.
        digest = 1 + self.serial % 2
        stamp = print_flow(stamp_flow(digest, self.serial))
        stamp = stamp.replace(Table.STAMP.text, str(int(Table.STAMP)))
        text = "".join(f"flow {message}\n" for message in (*messages, f"add {stamp}"))
        self.ovs.ofctl("bundle", BRIDGE, "-", stdin=text)
        return digest, self.serial
