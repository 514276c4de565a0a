"""How a connection gets one of several endpoints: by a hash, in a few groups that never change.

A group of the switch turns the hash of a connection's addresses and ports into a slot, and flows
turn the slot into the number of an endpoint. Both are the same for all services that have so many
endpoints, so that a service itself needs one flow for each endpoint and no group of its own.

The number of slots is a power of two, as the switch's hash is. It is so much larger than that of
the endpoints that no endpoint's share is off by more than a sixteenth. An entry of the switch's
cache stands for one slot, so there are no more slots than that takes.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ovsnet.flows.flow import (
    Action,
    Block,
    Flow,
    Goto,
    Group,
    Owner,
    OwnerKind,
    Resubmit,
    SelectGroup,
    SetField,
    block,
)
from ovsnet.flows.priorities import USUAL
from ovsnet.flows.registers import COUNT, INDEX, SLOT
from ovsnet.names import Table

MOST_ENDPOINTS = 4096
"""Endpoints of one set at most: what the largest number of slots divides evenly enough."""

_SLOTS_PER_ENDPOINT = 16
_FIRST_BASIS, _SECOND_BASIS = 1, 2


class _Choice(msgspec.Struct, frozen=True):
    """A way to a slot: the group to begin with, and of how many slots it chooses."""

    group: int
    slots: int


_SMALL, _MEDIUM, _LARGE, _HUGE = _WAYS = (
    _Choice(1, 1 << 4),
    _Choice(2, 1 << 8),
    _Choice(3, 1 << 12),
    _Choice(5, 1 << 16),
)


def _buckets(bits: int, shift: int, then: Action) -> tuple[tuple[Action, ...], ...]:
    """One bucket for each value of so many bits of the slot, from bit `shift` on."""
    mask = (1 << bits) - 1 << shift
    field = SLOT.bits.field
    return tuple((SetField(field, value << shift, mask), then) for value in range(1 << bits))


_DONE = Resubmit(Table.SPREAD)

GROUPS = (
    SelectGroup(_SMALL.group, _FIRST_BASIS, _buckets(4, 0, _DONE)),
    SelectGroup(_MEDIUM.group, _FIRST_BASIS, _buckets(8, 0, _DONE)),
    SelectGroup(_LARGE.group, _FIRST_BASIS, _buckets(8, 4, Group(4))),
    SelectGroup(4, _SECOND_BASIS, _buckets(4, 0, _DONE)),
    SelectGroup(_HUGE.group, _FIRST_BASIS, _buckets(8, 8, Group(6))),
    SelectGroup(6, _SECOND_BASIS, _buckets(8, 0, _DONE)),
)
"""All groups that a switch ever has. A hash has at most 256 values (dp_hash), so more slots take
two groups, one after the other, whose hashes differ.
"""


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
