"""Groups, as much of them as the pipeline uses."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto

import msgspec

from ovsnet.flows.flow import (
    Action,
    Ct,
    DecTtl,
    Group,
    InPort,
    Move,
    Output,
    OutputField,
    Resubmit,
    SelectGroup,
    SetField,
)


class GroupKind(Enum):
    """What a group does with its buckets (OpenFlow 1.5, section 5.10.1)."""

    ALL = auto()
    SELECT = auto()


class GroupEntry(msgspec.Struct, frozen=True):
    """A group of a switch: the actions of each bucket, of which `SELECT` takes one."""

    kind: GroupKind
    buckets: tuple[tuple[Action, ...], ...]


def selecting(groups: Iterable[SelectGroup]) -> dict[int, GroupEntry]:
    """Groups that take a bucket by a hash, by their ids."""
    return {group.id: GroupEntry(GroupKind.SELECT, group.buckets) for group in groups}


def bucket_of(dp_hash: int, count: int) -> int:
    """Which of so many buckets of equal weight a packet with this hash gets, as ovs-vswitchd has it
    (selection method dp_hash): their number goes up to a power of two, 16 at least.
    """
    values = max(16, 1 << (count - 1).bit_length())
    return (dp_hash & values - 1) % count


_LAST = ((Group,), (Output, OutputField, InPort), (Resubmit,), (Ct,))


def in_order(bucket: tuple[Action, ...]) -> tuple[Action, ...]:
    """A bucket's actions as they are executed: as an action set (ovs-actions(7), Action Sets).

    TTL first, then the writes in their order, then one of group, output, resubmit, ct; of several
    actions of one type the last.
    """
    found: list[Action] = [DecTtl()] if DecTtl() in bucket else []
    found += [a for a in bucket if isinstance(a, SetField | Move)]
    for kinds in _LAST:
        last = [a for a in bucket if isinstance(a, kinds)]
        if last:
            return (*found, last[-1])
    return tuple(found)
