"""Which datapath the switches of tests have: the kernel's where there is one, as in a sandbox.

OVSNET_TEST_TUNNEL=geneve has nodes wrap packets to each other in that.
"""

from __future__ import annotations

import os

from ovsnet.names import TUNNEL_UDP_PORTS
from ovsnet.sandbox.node import kernel_datapath

USERSPACE = not kernel_datapath()
TYPE = "netdev" if USERSPACE else "system"
"""As in the column `datapath_type` of ovs-vswitchd.conf.db(5)."""

TUNNEL = os.environ.get("OVSNET_TEST_TUNNEL", "vxlan")
TUNNEL_PORT = TUNNEL_UDP_PORTS[TUNNEL]
