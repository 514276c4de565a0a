"""How a connection gets one of several endpoints: by a hash, in a few groups that never change.

A group of the switch makes a hash of a connection's addresses and ports, of which some bits are its
slot, and flows turn that into the number of an endpoint. Both are the same for all services that
have so many endpoints, so that a service itself needs one flow for each endpoint and no group.

A client that is to keep its endpoint begins with the one that its address comes to: it may begin
several connections before the switch remembers the first.

The number of slots is a power of two, as the switch's hash is. It is so much larger than that of
the endpoints that no endpoint's share is off by more than a sixteenth. An entry of the switch's
cache stands for one slot, so there are no more slots than that takes.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ovsnet.flows.fields import Field
from ovsnet.flows.flow import (
    Action,
    Block,
    Flow,
    Goto,
    Group,
    HashSource,
    Move,
    Owner,
    OwnerKind,
    Resubmit,
    SelectGroup,
    Subfield,
    block,
)
from ovsnet.flows.priorities import USUAL
from ovsnet.flows.registers import COUNT, INDEX, SLOT
from ovsnet.names import Table

MOST_ENDPOINTS = 4096
"""Endpoints of one set at most: what the largest number of slots divides evenly enough."""

_SLOTS_PER_ENDPOINT = 16
_BASIS = 1


class _Choice(msgspec.Struct, frozen=True):
    """A way to a slot: the group, and of how many slots it chooses."""

    group: int
    slots: int


_WAYS = (
    _Choice(1, 1 << 4),
    _Choice(2, 1 << 8),
    _Choice(3, 1 << 12),
    _Choice(4, 1 << 16),
)


def _group(way: _Choice) -> SelectGroup:
    """A group whose one bucket takes the slot from the hash. It is a group only because none but a
    group has the switch make a hash (ovs-ofctl(8), dp_hash).
    """
    slot = _slot(way)
    hashed = Subfield(Field.DP_HASH, 0, slot.bits)
    return SelectGroup(way.group, _BASIS, ((Move(hashed, slot), Resubmit(Table.SPREAD)),))


def _slot(way: _Choice) -> Subfield:
    return Subfield(SLOT.bits.field, SLOT.bits.offset, way.slots.bit_length() - 1)


GROUPS = tuple(map(_group, _WAYS))
"""All groups that a switch ever has."""

SLOTS = {way.group: way.slots for way in _WAYS}
"""Of how many slots each of them chooses one, by its id."""


def _way(count: int) -> _Choice:
    """The fewest slots that so many endpoints share evenly enough.

    Raises:
        ValueError: more than `MOST_ENDPOINTS`, or fewer than two.
    """
    if not 2 <= count <= MOST_ENDPOINTS:
        raise ValueError(f"{count} endpoints: expected 2 to {MOST_ENDPOINTS}")
    return next(
        way for way in _WAYS if way.slots % count == 0 or way.slots >= count * _SLOTS_PER_ENDPOINT
    )


def choose_among(count: int) -> tuple[Action, ...]:
    """The actions that choose one of so many endpoints, and look it up in `endpoint`.

    Raises:
        ValueError: more than `MOST_ENDPOINTS`, or fewer than two.
    """
    return COUNT.set(count), Group(_way(count).group)


def choose_by_source(count: int) -> tuple[Action, ...]:
    """The same, by the client's address alone.

    Raises:
        ValueError: more than `MOST_ENDPOINTS`, or fewer than two.
    """
    way = _way(count)
    return COUNT.set(count), HashSource(_slot(way), way.slots, _BASIS), Goto(Table.SPREAD)


def spread_owner(count: int) -> Owner:
    """The owner of the flows that all services with so many endpoints share."""
    return Owner(OwnerKind.SERVICE, f"one of {count}")


def spread_block(count: int) -> Block:
    """The flows that turn a slot into the number of one of so many endpoints.

    Raises:
        ValueError: more than `MOST_ENDPOINTS`, or fewer than two.
    """
    return block(spread_owner(count), spread(count))


def spread(count: int) -> Iterator[Flow]:
    """Connections to a service with so many endpoints, whose slot is known: each endpoint has
    equally many slots, or one more than others. Its slots are runs of a power of two, so that a
    flow for each run will do.
    """
    slots = _way(count).slots
    least, more = divmod(slots, count)
    runs = sorted(
        (-(1 << bit), index)
        for index in range(count)
        for bit in range(slots.bit_length())
        if least + (index < more) >> bit & 1
    )
    start = 0
    for negative, index in runs:
        yield Flow(
            Table.SPREAD,
            USUAL,
            (SLOT.within(start, -negative), COUNT.matches(count)),
            (INDEX.set(index), Goto(Table.ENDPOINT)),
        )
        start -= negative
