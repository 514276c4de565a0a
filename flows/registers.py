"""The registers, by what they mean. Nothing else in the project names a register by number."""

from __future__ import annotations

from enum import IntEnum

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
        return term(self.bits.field, value << self.bits.offset, self._mask)

    def has_none_of(self, bits: int) -> Term:
        """The condition that none of these bits is set."""
        return term(self.bits.field, 0, bits << self.bits.offset)

    def set(self, value: int) -> SetField:
        """The action that writes `value` to these bits and leaves the others."""
        whole = self._mask == self.bits.field.full
        return SetField(self.bits.field, value << self.bits.offset, None if whole else self._mask)

    @property
    def _mask(self) -> int:
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


SOURCE = Register("source", "the sort of port it came in by", Subfield(Field.REG0, 0, 4))
DESTINATION = Register("destination", "the sort of port it leaves by", Subfield(Field.REG0, 4, 4))
ND_ANSWER = Register(
    "nd-answer",
    "1: an advertisement that `neighbour` is half done with",
    Subfield(Field.REG0, 9, 1),
)
SAID = Register(
    "said",
    "the direction of a tunnel packet as its node says: 1 as its connection began, 2 a reply",
    Subfield(Field.REG0, 10, 2),
)
OUT_PORT = Register("out-port", "the port that it leaves by", Subfield(Field.REG1, 0, 32))

NEVER_WRITTEN = Register(
    "never-written",
    "always 0: lets one condition stand in several flows, where one cannot hold its conjunctions",
    Subfield(Field.REG7, 0, 32),
)

STAMP_SERIAL = Register(
    "stamp-serial",
    "in the stamp alone: which writing of a stamp it is",
    Subfield(Field.REG6, 0, 32),
)

REGISTERS = (SOURCE, DESTINATION, ND_ANSWER, SAID, OUT_PORT, STAMP_SERIAL, NEVER_WRITTEN)
