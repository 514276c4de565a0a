"""Sees the stamp of the bridge change.

The stamp is the last message of every bundle, and the switch tells of it after all of the bundle
has taken effect.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from ovsnet.cni.flowmonitor import FlowMonitor
from ovsnet.cni.flowupdates import Event, FlowUpdate, Watched, oxm_match
from ovsnet.names import Table

STAMP = Watched(Table.STAMP)
"""Where the stamp is."""

_ITEM = struct.Struct("!HH")
_APPLY_ACTIONS = 4
_SET_FIELD = 25
_SERIAL_FIELD = 0x00010C04
"""The OXM header of the register in which the stamp bears its serial number."""


@dataclass(frozen=True)
class Stamp:
    """What the stamp says: the digest of all flows, and which writing of a stamp it is.

    The same flows may come back, and their digest with them; the serial number does not.
    """

    digest: int
    serial: int


@dataclass(frozen=True)
class Change:
    """The stamp as it is after a change; None: it was removed."""

    stamp: Stamp | None = None


def change_of(update: FlowUpdate) -> Change | None:
    """What an update says of the stamp; None if it is of some other flow."""
    if update.table != Table.STAMP or update.priority or update.match != oxm_match():
        return None
    if update.event is Event.REMOVED:
        return Change()
    return Change(Stamp(update.cookie, _serial(update.instructions)))


def _serial(instructions: bytes) -> int:
    """The constant that the stamp's one action would write to its register; 0 without it."""
    if len(instructions) < 24:
        return 0
    kind, _ = _ITEM.unpack_from(instructions)
    action, _ = _ITEM.unpack_from(instructions, 8)
    field, value = struct.unpack_from("!II", instructions, 12)
    if (kind, action, field) != (_APPLY_ACTIONS, _SET_FIELD, _SERIAL_FIELD):
        return 0
    return int(value)


class StampWatch(FlowMonitor):
    """One connection to the switch. `stamp` is what the switch has said last; None: there is none.

    A context manager. `cut` ends a `wait` from another thread.
    """

    def __init__(self, path: Path) -> None:
        """Connect to a bridge's management socket, and return when its stamp is known.

        Raises:
            WatchError: the bridge is not there, or cannot be watched.
        """
        self.stamp: Stamp | None = None
        super().__init__(path, (STAMP,))

    def told(self, update: FlowUpdate) -> None:
        """Take in a change of the stamp."""
        change = change_of(update)
        if change is not None:
            self.stamp = change.stamp

    def newest(self) -> Stamp | None:
        """The stamp, after everything that the switch has said up to now.

        Raises:
            WatchError: as `wait`.
        """
        self.catch_up()
        return self.stamp
