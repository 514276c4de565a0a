"""Which datapath the switches of tests have: the kernel's where there is one, as in a sandbox."""

from __future__ import annotations

from ovsnet.sandbox.node import kernel_datapath

USERSPACE = not kernel_datapath()
TYPE = "netdev" if USERSPACE else "system"
"""As in the column `datapath_type` of ovs-vswitchd.conf.db(5)."""
