"""The connections of pods that the switch tracks, as its control socket tells them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ovsnet.cni.control import Control, ControlError, datapaths
from ovsnet.names import POLICY_ZONE

MOST = 100_000
"""So many connections are told at the most."""

_USERSPACE = "netdev@"
_MOST_USERSPACE = 30_000
"""Of more than that no list is made: the thread that makes it forwards the packets, too, and needs
0.1 s for as many.
"""

_MOST_KERNEL = 400_000
"""The kernel goes on forwarding, but ovs-vswitchd takes no changes meanwhile."""

_KERNEL_COUNT = Path("/proc/sys/net/netfilter/nf_conntrack_count")

_SECONDS = 20.0
_PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "sctp": 132}
_LINE = re.compile(r"(?P<protocol>\w+),orig=\((?P<original>[^)]*)\)")
_OVER = re.compile(r"protoinfo=\(state=(?:TIME_WAIT|CLOSED)\b")
"""What both ends have closed, or one has reset, is tracked for a while yet."""


class TrackedError(Exception):
    """The connections cannot be told; the text says why."""


class Tracked(NamedTuple):
    """A connection by its first packet; ports are 0 where the protocol has none."""

    protocol: int
    source: str
    destination: str
    source_port: int
    destination_port: int


def parse(lines: Iterable[str]) -> Iterator[Tracked]:
    """Reads what dpctl/dump-conntrack prints. What is no connection, or none any more, is passed
    over.

    A protocol that Open vSwitch has no name for stands there as its number.
    """
    for line in lines:
        found = _LINE.match(line)
        if found is None or _OVER.search(line):
            continue
        name = found["protocol"]
        protocol = _PROTOCOLS.get(name) or (int(name) if name.isdecimal() else 0)
        fields = dict(pair.partition("=")[::2] for pair in found["original"].split(","))
        if protocol and {"src", "dst"} <= fields.keys():
            ports = (int(fields.get(side, "0")) for side in ("sport", "dport"))
            yield Tracked(protocol, fields["src"], fields["dst"], *ports)


def connections(rundir: Path) -> list[Tracked]:
    """All connections of pods.

    Raises:
        TrackedError: ovs-vswitchd does not tell them, or there are too many to ask for.
    """
    try:
        with Control(rundir, _SECONDS) as control:
            shown = control.ask("upcall/show")
            found: list[Tracked] = []
            for datapath in datapaths(shown):
                found += _of(control, datapath)
            return found
    except ControlError as error:
        raise TrackedError(str(error)) from None


def _of(control: Control, datapath: str) -> list[Tracked]:
    if datapath.startswith(_USERSPACE):
        number, most = control.ask("dpctl/ct-get-nconns", datapath), _MOST_USERSPACE
    else:
        number, most = _kernel_count(), _MOST_KERNEL
    if int(number) > most:
        raise TrackedError(
            f"it tracks {number.strip()} connections: making a list of more than {most} would keep"
            " the switch from its work"
        )
    shown = control.ask("dpctl/dump-conntrack", datapath, f"zone={POLICY_ZONE}")
    return list(parse(shown.splitlines()))


def _kernel_count() -> str:
    """How many connections the kernel tracks; Open vSwitch does not tell. 0: it tracks none."""
    try:
        return _KERNEL_COUNT.read_text()
    except FileNotFoundError:
        return "0"
