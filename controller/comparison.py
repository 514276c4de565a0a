"""Comparing the flows that a switch has with those that it should have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

import msgspec

from ovsnet.controller.openflow.decode import ForeignFlow
from ovsnet.flows.flow import Flow, FlowKey, OwnerKind

_KINDS = frozenset(kind.value for kind in OwnerKind)


class Difference(msgspec.Struct, frozen=True):
    """What makes a switch's flows the desired ones, and how they differed.

    `foreign` are flows that can only be named by the switch's own bytes. A key is in at most one
    of `adds` and `deletes`.
    """

    adds: tuple[Flow, ...]
    deletes: tuple[FlowKey, ...]
    foreign: tuple[ForeignFlow, ...]
    equal: int
    missing: int
    changed: int
    strangers: tuple[Flow | ForeignFlow, ...]

    @property
    def stale(self) -> int:
        """Flows of an earlier controller that are to go."""
        return len(self.deletes) + len(self.foreign) - len(self.strangers)

    def __bool__(self) -> bool:
        return bool(self.adds or self.deletes or self.foreign)


def compare(
    present: Iterable[Flow | ForeignFlow],
    desired: Mapping[FlowKey, Flow],
    stamp: FlowKey,
    passed_over: Set[FlowKey] = frozenset(),
) -> Difference:
    """The difference between a switch's flows and the desired ones; the stamp is neither.

    Keys in `passed_over` are left as they are, whatever the switch has. A flow to be deleted is
    a stranger unless its cookie names a sort of owner (`ovsnet.flows.flow.OwnerKind`), as those
    of every controller of ours do.
    """
    seen: set[FlowKey] = set()
    adds: list[Flow] = []
    deletes: list[FlowKey] = []
    foreign: list[ForeignFlow] = []
    strangers: list[Flow | ForeignFlow] = []
    equal = 0
    for flow in present:
        key = flow.key
        if key is not None:
            if key == stamp or key in passed_over:
                continue
            seen.add(key)
            wanted = desired.get(key)
            if wanted == flow:
                equal += 1
                continue
            if wanted is not None:
                adds.append(wanted)
                continue
        if isinstance(flow, ForeignFlow):
            foreign.append(flow)
            strangers.append(flow)
        else:
            deletes.append(flow.key)
            if flow.cookie >> 56 not in _KINDS:
                strangers.append(flow)
    changed = len(adds)
    adds += (f for key, f in desired.items() if key not in seen and key not in passed_over)
    return Difference(
        adds=tuple(adds),
        deletes=tuple(deletes),
        foreign=tuple(foreign),
        equal=equal,
        missing=len(adds) - changed,
        changed=changed,
        strangers=tuple(strangers),
    )
