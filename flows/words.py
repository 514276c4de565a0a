"""Flows in plain words, for people who read a dump: which packets, what becomes of them, whose.

Pure functions of flow values. What has no words of its own is shown as ovs-ofctl writes it, so
nothing is left out.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ovsnet.flows.conditions import packets_words
from ovsnet.flows.flow import Flow, Owner, OwnerKind
from ovsnet.flows.notes import Names
from ovsnet.flows.outcomes import outcome_words
from ovsnet.flows.text import PortNames
from ovsnet.names import GATEWAY_OFPORT, GATEWAY_PORT, TUNNEL_OFPORT, TUNNEL_PORT, Table

_OWNERS = {
    OwnerKind.NODE: "the node itself",
    OwnerKind.POD: "a pod",
    OwnerKind.PEER: "another node",
    OwnerKind.POLICY: "a network policy",
    OwnerKind.SERVICE: "a service",
    OwnerKind.STAMP: "the stamp",
    OwnerKind.LEARNT: "the switch itself, which learnt it",
}


class Words(msgspec.Struct, frozen=True):
    """A flow's reading: which packets it is for, and what becomes of them."""

    packets: str
    outcome: str


def words(
    flow: Flow, ports: PortNames | None = None, sets: Mapping[int, str] | None = None
) -> Words:
    """A flow in words. `ports` has the names of ports that are known by more than a number, and
    `sets` says whose endpoints the sets are that have these ids.
    """
    named = {GATEWAY_OFPORT: GATEWAY_PORT, TUNNEL_OFPORT: TUNNEL_PORT} | dict(ports or {})
    if flow.table is Table.STAMP:
        return Words("no packet", "bears the digest of all other flows as its cookie")
    names = Names(named, sets or {})
    return Words(packets_words(flow.match, names), outcome_words(flow.actions, names))


def owner_text(owner: Owner) -> str:
    """An owner by its name, and what it is."""
    kind, _, rest = owner.name.rpartition(" ")
    if owner.kind is OwnerKind.SERVICE and kind == "one of":
        return f"all services with {rest} endpoints"
    if owner.kind is OwnerKind.SERVICE and kind == "address":
        return f"the services that have the address {rest}"
    return str(owner)


def owner_words(flow: Flow, owners: Mapping[int, str]) -> str:
    """The object that a flow exists for: its name if the controller told it, else its sort."""
    if flow.table is Table.STAMP:
        return "the stamp of the controller"
    if flow.cookie in owners:
        return owners[flow.cookie]
    try:
        return _OWNERS[OwnerKind(flow.cookie >> 56)]
    except ValueError:
        return "nobody that ovsnet knows"
