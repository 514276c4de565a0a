"""The document that `POST /plan` serves: what policies would change if they were applied.

Programs may rely on the names here; more of them may come.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from ovsnet.model import Fault
from ovsnet.policy.spans import Ports


class Action(StrEnum):
    """What applying, or deleting, would do to a policy."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    DELETED = "deleted"
    ABSENT = "absent"


class Proposed(msgspec.Struct, frozen=True):
    """One of the policies. `pods` is how many it would select, or did; `faults` are the parts of
    it that the network cannot do as they say, which would allow nothing.
    """

    name: str
    action: Action
    pods: int
    faults: tuple[Fault, ...] = ()


class Shift(msgspec.Struct, frozen=True):
    """Traffic that would become allowed, or denied: from every source to every destination, apart
    from a pod to itself. Both are pods, or parts of the address space outside.
    """

    sources: tuple[str, ...]
    destinations: tuple[str, ...]
    pairs: int
    families: tuple[str, ...]
    traffic: tuple[Ports, ...]


class Cut(msgspec.Struct, frozen=True):
    """A live connection that would be cut. A pod's name stands beside its address; `port` is None
    where the protocol has none.
    """

    protocol: str
    source: str
    destination: str
    port: int | None
    source_pod: str = ""
    destination_pod: str = ""


class Silent(msgspec.Struct, frozen=True):
    """A node that has not told its live connections, and why."""

    node: str
    reason: str


class FlowChanges(msgspec.Struct, frozen=True):
    """How many flows of a node would be added, changed in what they do, and deleted."""

    node: str
    added: int
    changed: int
    deleted: int


class Plan(msgspec.Struct, frozen=True):
    """What would change. Nothing has been."""

    policies: tuple[Proposed, ...]
    allowed: tuple[Shift, ...] = ()
    denied: tuple[Shift, ...] = ()
    cut: tuple[Cut, ...] = ()
    silent: tuple[Silent, ...] = ()
    flows: tuple[FlowChanges, ...] = ()


_decode_plan = msgspec.json.Decoder(Plan).decode


def read_plan(body: bytes) -> Plan:
    """The document from its JSON.

    Raises:
        ValueError: it is none; the message names the field.
    """
    return _decode_plan(body)
