"""Root file systems made of Debian's packages: of the cluster's nodes, and of images."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.conformance.programs import MissingError, cache, cached, digest

SUITE = "bookworm"

_NODE = (
    "conntrack",
    "containerd",
    "ebtables",
    "ethtool",
    "iproute2",
    "iptables",
    "iputils-ping",
    "kmod",
    "mount",
    "nftables",
    "procps",
    "runc",
    "socat",
    "util-linux",
)
"""What a machine has that shall become a node: no Python, no Open vSwitch."""

_TOOLS = (
    "bash",
    "bind9-dnsutils",
    "busybox-static",
    "curl",
    "iperf",
    "iproute2",
    "iputils-ping",
    "netcat-openbsd",
    "wget",
)
"""What the tests of Kubernetes execute in the image of agnhost, and ours."""


def node(report: Callable[[str], None]) -> Path:
    """The directory with a node's root file system.

    Raises:
        MissingError: it cannot be made.
    """
    target = cache() / f"node-{SUITE}-{digest(more=' '.join(_NODE))}"
    with cached(target) as partial:
        if partial:
            report("making the nodes' root file system (a minute, this once)")
            _make(_NODE, partial / "root")
    return target / "root"


def tools(report: Callable[[str], None]) -> Path:
    """A tar file with the root file system of agnhost's image.

    Raises:
        MissingError: it cannot be made.
    """
    target = cache() / f"tools-{SUITE}-{digest(more=' '.join(_TOOLS))}"
    with cached(target) as partial:
        if partial:
            report("making the root file system of test images (a minute, this once)")
            _make(_TOOLS, partial / "root.tar")
    return target / "root.tar"


def _make(packages: tuple[str, ...], target: Path) -> None:
    if not shutil.which("mmdebstrap"):
        raise MissingError("mmdebstrap is not installed; apt-get install mmdebstrap")
    include = f"--include={','.join(packages)}"
    command = ["mmdebstrap", "--quiet", "--variant=minbase", include, SUITE, str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode:
        raise MissingError(f"mmdebstrap failed: {done.stderr.strip()[-2000:]}")
