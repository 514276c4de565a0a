"""The connections of pods that the switch tracks, as its control socket tells them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ovsnet.cni.control import Control, ControlError, datapaths

ZONE = 0xFFF0
"""The connection tracking zone of all pod traffic; the flows' `CT_ZONE`."""

MOST = 100_000
"""So many connections are told at the most."""

_MOST_TRACKED = 400_000
"""Of more than that no list is made: while ovs-vswitchd makes one it does nothing else."""

_SECONDS = 20.0
_PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "sctp": 132}
_LINE = re.compile(r"(?P<protocol>\w+),orig=\((?P<original>[^)]*)\)")


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
    """Reads what dpctl/dump-conntrack prints. What is no connection is passed over.

    A protocol that Open vSwitch has no name for stands there as its number.
    """
    for line in lines:
        found = _LINE.match(line)
        if found is None:
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
    number = control.ask("dpctl/ct-get-nconns", datapath).strip()
    if number.isdecimal() and int(number) > _MOST_TRACKED:
        raise TrackedError(
            f"it tracks {number} connections: making a list of more than {_MOST_TRACKED} would"
            " keep the switch from its work"
        )
    return list(parse(control.ask("dpctl/dump-conntrack", datapath, f"zone={ZONE}").splitlines()))
