"""Groups, as much of them as the pipeline uses."""

from __future__ import annotations

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
