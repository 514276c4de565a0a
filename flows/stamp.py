"""The stamp: one flow that says which set of flows a switch holds.

It goes in as the last message of every bundle. A controller that comes back reads it and knows
at once whether there is anything to do. The agent beside the switch sees it change, and reports
when what it stands for is in effect; the serial number in it tells the report of one writing of a
stamp from that of another, which may have the same digest.
"""

from __future__ import annotations

from ovsnet.flows.flow import Flow, SetField
from ovsnet.flows.registers import STAMP_SERIAL
from ovsnet.names import Table

STAMP_KEY = (Table.STAMP, 0, ())
"""Key of the one flow in the table that no packet reaches."""


def stamp_flow(digest: int, serial: int = 0) -> Flow:
    """The flow that carries the digest of all others as its cookie. Drops; matches no packet.

    Its one action would write `serial`, of 32 bits; without a number it has no action.
    """
    actions = (STAMP_SERIAL.set(serial),) if serial else ()
    return Flow(Table.STAMP, 0, (), actions, digest)


def serial_of(flow: Flow) -> int | None:
    """The serial number of a stamp; None if the flow is no stamp of ours."""
    if flow.key != STAMP_KEY:
        return None
    match flow.actions:
        case ():
            return 0
        case (SetField(STAMP_SERIAL.bits.field, serial),) if serial:
            return serial
    return None
