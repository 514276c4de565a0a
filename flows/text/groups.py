"""Groups as text, in the syntax of ovs-ofctl (ovs-ofctl(8), Group Syntax)."""

from __future__ import annotations

from ovsnet.flows.flow import SelectGroup
from ovsnet.flows.text.printing import print_actions

WEIGHT = 100
"""What every bucket weighs."""


def print_group(group: SelectGroup) -> str:
    """A group as ovs-ofctl adds it."""
    buckets = (
        f"bucket=bucket_id:{number},weight:{WEIGHT},actions={print_actions(actions)}"
        for number, actions in enumerate(group.buckets)
    )
    head = f"group_id={group.id},type=select,selection_method=dp_hash"
    return ",".join((head, f"selection_method_param={group.basis}", *buckets))
