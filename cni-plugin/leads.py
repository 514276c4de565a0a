"""Knows to which endpoints the flows of UDP services lead connections, and where they lead no more.

Such a flow commits a connection in the tracker's zone of services: it translates the destination,
and gives the connection a mark of its own, that of the set of endpoints and the endpoint. Where no
flow leads any more, there is an endpoint that is gone or not ready, or its service is gone.

A connection has to have both, mark and endpoint, of one flow. The kernel commits a connection anew
with every packet until there is an answer: what it has of the endpoint stays, and the mark becomes
that of the flow which the packet has met.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ovsnet.cni.flowmonitor import FlowMonitor
from ovsnet.cni.flowupdates import Event, FlowUpdate, Watched, WatchError
from ovsnet.cni.stampwatch import STAMP, Stamp, change_of
from ovsnet.names import SERVICE_ZONE, Table

_UDP_OVER = (
    bytes.fromhex("80000a020800 8000140111"),
    bytes.fromhex("80000a0286dd 8000140111"),
)
"""What a match has of UDP over IPv4, and over IPv6 (OXM: eth_type, ip_proto)."""

WATCHED = (
    *(
        Watched(table, fields)
        for table in (Table.STICKY, Table.BALANCE, Table.ENDPOINT)
        for fields in _UDP_OVER
    ),
    STAMP,
)
"""Where flows stand that lead UDP connections to endpoints; and the stamp."""

_ITEM = struct.Struct("!HH")
_APPLY_ACTIONS = 4
_SET_FIELD = 25
_EXPERIMENTER = 0xFFFF
_CT_MARK = struct.Struct("!II")
_CT_MARK_FIELD = 0x0001D604

_CT = struct.Struct("!HHIHHIH")
"""Head of Open vSwitch's action `ct` (nicira-ext.h, NXAST_CT): type, length, whose, which, flags,
where the zone stands (0: it is the next word), zone.
"""
_CT_SIZE = 24
_NICIRA, _NXAST_CT, _NXAST_NAT = 0x00002320, 35, 36
_COMMIT = 1

_NAT = struct.Struct("!HHIH2xHH")
"""Head of Open vSwitch's action `nat` (NXAST_NAT): type, length, whose, which, flags, what follows.
"""
_DESTINATION = 2
_IPV4_AND_PORT, _IPV6_AND_PORT = 0x11, 0x14
_PORT = struct.Struct("!H")


class Lead(NamedTuple):
    """Where a flow leads connections: their mark, and the endpoint's address, packed, and port."""

    mark: int
    address: bytes
    port: int


def leads_of(instructions: bytes) -> frozenset[Lead]:
    """Where a flow's instructions lead connections in the zone of services.

    Raises:
        WatchError: a length in them is wrong.
    """
    return frozenset(
        lead
        for kind, instruction in _items(instructions)
        if kind == _APPLY_ACTIONS
        for action, body in _items(instruction[8:])
        if action == _EXPERIMENTER
        for lead in _committed(body)
    )


def _committed(action: bytes) -> Iterator[Lead]:
    if len(action) < _CT_SIZE:
        return
    _, _, vendor, which, flags, elsewhere, zone = _CT.unpack_from(action)
    if (vendor, which, elsewhere, zone) != (_NICIRA, _NXAST_CT, 0, SERVICE_ZONE):
        return
    nested = list(_items(action[_CT_SIZE:]))
    marks = [mark for item in nested for mark in _mark(*item)]
    targets = [target for item in nested for target in _target(*item)]
    if flags & _COMMIT and marks and targets:
        yield Lead(marks[-1], *targets[-1])


def _mark(kind: int, action: bytes) -> Iterator[int]:
    if kind == _SET_FIELD and len(action) >= _ITEM.size + _CT_MARK.size:
        field, value = _CT_MARK.unpack_from(action, _ITEM.size)
        if field == _CT_MARK_FIELD:
            yield value


def _target(kind: int, action: bytes) -> Iterator[tuple[bytes, int]]:
    if kind != _EXPERIMENTER or len(action) < _NAT.size:
        return
    _, _, vendor, which, flags, present = _NAT.unpack_from(action)
    if (vendor, which) != (_NICIRA, _NXAST_NAT) or not flags & _DESTINATION:
        return
    octets = {_IPV4_AND_PORT: 4, _IPV6_AND_PORT: 16}.get(present, 0)
    end = _NAT.size + octets
    if octets and len(action) >= end + _PORT.size:
        yield action[_NAT.size : end], _PORT.unpack_from(action, end)[0]


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Instructions or actions one after the other: type, and all of it."""
    at = 0
    while at < len(data):
        if len(data) - at < _ITEM.size:
            raise WatchError("the switch sent half an action")
        kind, length = _ITEM.unpack_from(data, at)
        if length < 8 or at + length > len(data):
            raise WatchError(f"the switch sent an action of {length} octets")
        yield kind, data[at : at + length]
        at += length


class Leads:
    """Where flows of UDP services lead, from what the switch tells of its flows.

    `stamp` is the flows' stamp; None: there is none, so they are not all there.
    """

    def __init__(self) -> None:
        self.stamp: Stamp | None = None
        self._of_flow: dict[tuple[int, int, bytes], frozenset[Lead]] = {}
        self._standing: Counter[Lead] = Counter()
        self._withdrawn: set[Lead] = set()

    def told(self, update: FlowUpdate) -> None:
        """Take in a change of a flow.

        Raises:
            WatchError: it makes no sense.
        """
        if update.table == Table.STAMP:
            change = change_of(update)
            if change is not None:
                self.stamp = change.stamp
            return
        # A flow that takes another's place is told as added, and of the other one nothing.
        key = update.table, update.priority, update.match
        before = self._of_flow.pop(key, frozenset())
        after = frozenset[Lead]()
        if update.event is not Event.REMOVED:
            after = leads_of(update.instructions)
        if after:
            self._of_flow[key] = after
        self._standing.update(after)
        self._standing.subtract(before)
        for lead in before:
            if not self._standing[lead]:
                del self._standing[lead]
                self._withdrawn.add(lead)

    @property
    def serves(self) -> bool:
        """Whether any UDP service has an endpoint."""
        return bool(self._standing)

    def stands(self, lead: Lead) -> bool:
        """Whether a flow leads there."""
        return lead in self._standing

    def withdrawn(self) -> frozenset[Lead]:
        """Where flows led, and none does any more; see `forget`."""
        self._withdrawn = {lead for lead in self._withdrawn if lead not in self._standing}
        return frozenset(self._withdrawn)

    def forget(self, leads: frozenset[Lead]) -> None:
        """Tell of these as withdrawn no more, until they are it again."""
        self._withdrawn -= leads


class LeadWatch(FlowMonitor):
    """One connection to the switch, whose flows have these `leads`. A context manager."""

    def __init__(self, path: Path) -> None:
        """Connect to a bridge's management socket, and return when its flows are known.

        Raises:
            WatchError: the bridge is not there, or cannot be watched.
        """
        self.leads = Leads()
        super().__init__(path, WATCHED)

    def told(self, update: FlowUpdate) -> None:
        """Take in a change of a flow."""
        self.leads.told(update)
