"""The groups of a switch, as messages of the bundles whose flows lead to them.

There are only a few groups, which never change (`ovsnet.flows.balance`). A bundle that adds flows
brings the groups that they name, whether the switch has them or not: a switch that has lost a
group has lost the flows that name it with it, and whoever brings those back brings both. No group
is ever deleted: ovs-vswitchd 3.1 aborts when a group goes that one flow names twice.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import cache
from typing import Final

from ovsnet.controller.openflow.actions import encode_list
from ovsnet.controller.openflow.encode import bundled
from ovsnet.controller.openflow.items import EXPERIMENTER
from ovsnet.controller.openflow.protocol import Kind
from ovsnet.flows.balance import GROUPS
from ovsnet.flows.flow import Action, Flow, Group, SelectGroup

_GROUPS: Final = {group.id: group for group in GROUPS}

# Open vSwitch's command that adds a group or, if it is there, writes it anew (OFPGC11_ADD_OR_MOD).
_ADD_OR_MODIFY: Final = 0x8000
_SELECT: Final = 1
_ALL_BUCKETS: Final = 0xFFFFFFFF
_WEIGHT: Final = struct.pack("!HHH2x", 0, 8, 100)

_GROUP_MOD: Final = struct.Struct("!HBxIH2xI")
_BUCKET: Final = struct.Struct("!HHI")
# The property that names the selection method, an extension by Netronome that Open vSwitch knows.
_METHOD: Final = struct.Struct("!HHII4x16sQ")
_NETRONOME: Final = 0x0000154D
_SELECTION_METHOD: Final = 1


def groups_for(flows: Iterable[Flow]) -> list[bytes]:
    """Bundle messages that bring the groups that these flows lead to, and those that these groups
    lead to: first what others name.
    """
    found: dict[int, SelectGroup] = {}
    for flow in flows:
        _reach(flow.actions, found)
    return [group_message(group) for group in found.values()]


def _reach(actions: Iterable[Action], found: dict[int, SelectGroup]) -> None:
    for action in actions:
        if isinstance(action, Group) and action.id in _GROUPS and action.id not in found:
            group = _GROUPS[action.id]
            for bucket in group.buckets:
                _reach(bucket, found)
            found[group.id] = group


@cache
def group_message(group: SelectGroup) -> bytes:
    """A bundle message that adds a group, or writes it anew (OpenFlow 1.5.1, section 7.3.4.3)."""
    buckets = b"".join(_bucket(number, each) for number, each in enumerate(group.buckets))
    head = _GROUP_MOD.pack(_ADD_OR_MODIFY, _SELECT, group.id, len(buckets), _ALL_BUCKETS)
    method = _METHOD.pack(
        *(EXPERIMENTER, _METHOD.size, _NETRONOME, _SELECTION_METHOD),
        *(b"dp_hash", group.basis),
    )
    return bundled(Kind.GROUP_MOD, head + buckets + method)


def _bucket(number: int, actions: Iterable[Action]) -> bytes:
    listed = encode_list(actions)
    length = _BUCKET.size + len(listed) + len(_WEIGHT)
    return _BUCKET.pack(length, len(listed), number) + listed + _WEIGHT
