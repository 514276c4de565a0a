"""The registers, by what they mean. Nothing else in the project names a register by number."""

from __future__ import annotations

from enum import IntEnum, IntFlag

import msgspec

from ovsnet.flows.fields import Field
from ovsnet.flows.flow import SetField, Subfield, Term, term


class Register(msgspec.Struct, frozen=True):
    """Some bits of a register that carry one meaning from table to table."""

    name: str
    purpose: str
    bits: Subfield

    def matches(self, value: int) -> Term:
        """The condition that these bits hold `value`."""
        return term(self.bits.field, value << self.bits.offset, self.mask)

    def within(self, first: int, run: int) -> Term:
        """The condition that the value is one of a run from `first` on: a power of two of values,
        of which the first is a multiple.
        """
        mask = self.mask & ~(run - 1 << self.bits.offset)
        return term(self.bits.field, first << self.bits.offset, mask)

    def has(self, bits: int) -> Term:
        """The condition that all of these bits are set."""
        return term(self.bits.field, bits << self.bits.offset, bits << self.bits.offset)

    def has_none_of(self, bits: int) -> Term:
        """The condition that none of these bits is set."""
        return term(self.bits.field, 0, bits << self.bits.offset)

    def set(self, value: int) -> SetField:
        """The action that writes `value` to these bits and leaves the others."""
        whole = self.mask == self.bits.field.full
        return SetField(self.bits.field, value << self.bits.offset, None if whole else self.mask)

    def add(self, bits: int) -> SetField:
        """The action that sets these bits and leaves all others."""
        return SetField(self.bits.field, bits << self.bits.offset, bits << self.bits.offset)

    @property
    def mask(self) -> int:
        """These bits within their field."""
        return ((1 << self.bits.bits) - 1) << self.bits.offset


class Side(IntEnum):
    """Where a packet comes from or goes to, in `SOURCE` and `DESTINATION`."""

    POD = 1
    TUNNEL = 2
    GATEWAY = 3


class Said(IntEnum):
    """What a packet's node says of its direction, in `SAID`."""

    NOTHING = 0
    FORWARD = 1
    REPLY = 2


class Natted(IntFlag):
    """What services do to a connection, in `NATTED` and in the ct_mark of its entries."""

    SERVED = 1
    """It has an endpoint: its destination is translated."""

    SOURCE = 2
    """Its source is translated."""

    REFUSED = 4
    """There is no endpoint: the node answers for it."""


SOURCE = Register("source", "the sort of port it came in by", Subfield(Field.REG0, 0, 4))
DESTINATION = Register("destination", "the sort of port it leaves by", Subfield(Field.REG0, 4, 4))
SAID = Register(
    "said",
    "the direction of a tunnel packet as its node says: 1 as its connection began, 2 a reply",
    Subfield(Field.REG0, 10, 2),
)
FOR_NODE = Register(
    "for-node",
    "1: the packet is for the node itself, or for its node port address",
    Subfield(Field.REG0, 12, 1),
)
NATTED = Register(
    "natted",
    "what services do to the connection: see `Natted`; its bits go into ct_mark, too",
    Subfield(Field.REG0, 13, 3),
)
MARKS = Subfield(Field.CT_MARK, 0, NATTED.bits.bits)
"""The bits of a connection's mark that say what services do to it; they are those of `NATTED`."""

BY_NODE = Subfield(Field.CT_MARK, MARKS.bits, 1)
"""The bit of a connection's mark that says that its answers go by the node: see `hostport`."""

LOCAL_ONLY = Register(
    "local-only",
    "1: only endpoints on this node will do, and where there is none the packet is dropped",
    Subfield(Field.REG0, 16, 1),
)
AFFINE = Register(
    "affine",
    "1: a client keeps its endpoint (session affinity)",
    Subfield(Field.REG0, 17, 1),
)
KEEP_SOURCE = Register(
    "keep-source",
    "1: the endpoint is to see the client's own address, though it is on the node's network",
    Subfield(Field.REG0, 18, 1),
)
INSIDE = Register(
    "inside",
    "1: it comes from a pod of this node or from the node itself, not from beyond",
    Subfield(Field.REG3, 16, 1),
)
OUT_PORT = Register("out-port", "the port that it leaves by", Subfield(Field.REG1, 0, 32))

NEVER_WRITTEN = Register(
    "never-written",
    "always 0: lets one condition stand in several flows, where one cannot hold its conjunctions",
    Subfield(Field.REG7, 0, 32),
)

SLOT = Register("slot", "the hash that an endpoint is chosen by", Subfield(Field.REG2, 0, 16))
INDEX = Register(
    "index",
    "the number of the chosen endpoint within its service, from 0",
    Subfield(Field.REG2, 16, 16),
)
COUNT = Register(
    "count", "how many endpoints there are to choose from", Subfield(Field.REG3, 0, 16)
)
SERVICE_HIGH = Register(
    "service-high", "which set of endpoints: its id's upper half", Subfield(Field.REG4, 0, 32)
)
SERVICE_LOW = Register(
    "service-low", "which set of endpoints: its id's lower half", Subfield(Field.REG5, 0, 32)
)
REMEMBERED = Register(
    "remembered", "the endpoint that the client had last, by its mark", Subfield(Field.REG8, 0, 32)
)

STAMP_SERIAL = Register(
    "stamp-serial",
    "in the stamp alone: which writing of a stamp it is",
    Subfield(Field.REG6, 0, 32),
)

REGISTERS = (
    SOURCE,
    DESTINATION,
    SAID,
    FOR_NODE,
    NATTED,
    LOCAL_ONLY,
    AFFINE,
    KEEP_SOURCE,
    INSIDE,
    OUT_PORT,
    SLOT,
    INDEX,
    COUNT,
    SERVICE_HIGH,
    SERVICE_LOW,
    REMEMBERED,
    STAMP_SERIAL,
    NEVER_WRITTEN,
)
