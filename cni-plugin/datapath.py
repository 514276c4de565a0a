"""Which datapath forwards the packets, and whether this Open vSwitch may be trusted with them."""

from __future__ import annotations

import errno
import re
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ovsnet.cni import control
from ovsnet.cni.netlink import Message, Netlink, NetlinkError, attribute_text

_NETLINK_GENERIC = 16
_GENL_ID_CTRL = 16
_CTRL_CMD_GETFAMILY = 3
_CTRL_ATTR_FAMILY_NAME = 2
_GENL_HEADER = struct.Struct("=BBH")
_KERNEL_FAMILY = "ovs_datapath"

_FIXED = {
    (2, 13): 11,
    (2, 14): 9,
    (2, 15): 8,
    (2, 16): 7,
    (2, 17): 6,
    (3, 0): 4,
    (3, 1): 1,
}
"""CVE-2023-1668: the first fixed release of each branch; branches before have none."""


def kernel_has_openvswitch() -> bool:
    """True if the kernel has the Open vSwitch datapath. Asking loads the module if there is one."""
    name = attribute_text(_CTRL_ATTR_FAMILY_NAME, _KERNEL_FAMILY)
    body = _GENL_HEADER.pack(_CTRL_CMD_GETFAMILY, 1, 0) + name
    with Netlink(_NETLINK_GENERIC) as netlink:
        try:
            netlink.run([Message(_GENL_ID_CTRL, 0, body, f"look for {_KERNEL_FAMILY}")])
        except NetlinkError as error:
            if error.errno == errno.ENOENT:
                return False
            raise
    return True


@dataclass(frozen=True)
class Choice:
    """The datapath to use, and why."""

    userspace: bool
    reason: str


def choose(option: str, *, kernel: bool) -> Choice:
    """The datapath that the option asks for; `auto` prefers the kernel's."""
    if option == "auto":
        if kernel:
            return Choice(userspace=False, reason="the kernel has the openvswitch module")
        return Choice(userspace=True, reason="the kernel has no openvswitch module")
    return Choice(userspace=option == "netdev", reason="configured")


def version_warning(version: str) -> str:
    """What is wrong with this version of Open vSwitch; empty if nothing is known.

    Distributions fix old versions without changing the number, so this cannot be a reason to
    refuse one.
    """
    try:
        major, minor, patch = (int(part) for part in version.partition("-")[0].split(".")[:3])
    except ValueError:
        return f"Open vSwitch does not say which version it is: {version!r}"
    first_fixed = _FIXED.get((major, minor))
    older = (major, minor) < min(_FIXED)
    if older or (first_fixed is not None and patch < first_fixed):
        return (
            f"Open vSwitch {version} has CVE-2023-1668 (a packet with IP protocol 0 can change how"
            " others are treated) unless the distribution fixed it; update to 3.1.1 or later"
        )
    return ""


def switch_answers(rundir: Path) -> bool:
    """True if ovs-vswitchd accepts connections on its control socket."""
    found = control.dial(rundir)
    if found is None:
        return False
    found.close()
    return True


def has_flows(rundir: Path, bridge: str) -> bool:
    """True if the bridge has any flow: a controller has programmed it.

    The database tells too, but up to 5 s late.
    """
    target = f"unix:{rundir / bridge}.mgmt"
    done = subprocess.run(
        ["ovs-ofctl", "-O", "OpenFlow15", "--timeout=5", "dump-aggregate", target],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"flow_count=(\d+)", done.stdout)
    return found is not None and int(found[1]) > 0


def lacks_handlers(rundir: Path, proc: Path = Path("/proc")) -> bool:
    """True if ovs-vswitchd runs without a thread that handles the kernel's upcalls.

    Open vSwitch 3.1 starts none if it counts its processors during the first 10 s after a boot;
    every packet that misses is then lost until it is reconfigured. False if its threads cannot be
    seen from here.
    """
    try:
        pid = int((rundir / "ovs-vswitchd.pid").read_text())
        threads = list((proc / str(pid) / "task").iterdir())
        names = [(thread / "comm").read_text() for thread in threads]
    except (OSError, ValueError):
        return False
    return any(n.startswith("revalidator") for n in names) and not any(
        n.startswith("handler") for n in names
    )
