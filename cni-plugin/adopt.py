"""What is on record, in the switch and in the kernel, and what to do where they disagree.

Runs at the agent's start and from time to time. It decides by what is true on this node alone and
removes nothing on doubt: a record whose pair is gone, an attempt that nobody works on, a port
whose pair is gone. What runs is kept, and taken on record if the record was lost.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from ovsnet.cni.ports import PortOwner, SwitchPort
from ovsnet.cni.record import Record, State
from ovsnet.names import RESERVED_PORTS


@dataclass(frozen=True)
class Observed:
    """The three views of the node's endpoints."""

    records: tuple[Record, ...]
    ports: tuple[SwitchPort, ...]
    links: frozenset[str]
    boot_id: str


@dataclass(frozen=True)
class Repairs:
    """What to do."""

    remove: tuple[Record, ...] = ()
    """Take down what is left of these."""
    forget: tuple[Record, ...] = ()
    """End these, which hold nothing."""
    plug: tuple[Record, ...] = ()
    """Put these back on the bridge, from which somebody took them."""
    adopt: tuple[Record, ...] = ()
    """Take these on record: they run, but the record was lost."""
    unplug: tuple[str, ...] = ()
    """Take these ports off the bridge: they are nobody's, and their pair is gone."""
    strangers: tuple[str, ...] = ()
    """Ports that are not ours: for the log only."""


def decide(seen: Observed) -> Repairs:
    """Compare the three views."""
    plugged = {port.name: port.owner for port in seen.ports}
    known = {record.port for record in seen.records if record.port is not None}
    remove, forget, plug = [], [], []
    for record in seen.records:
        this_boot = record.boot_id == seen.boot_id
        if record.state is State.SUPERSEDED:
            if not this_boot:
                forget.append(record)
        elif record.state is not State.READY or not this_boot or record.port not in seen.links:
            remove.append(record)
        elif not _is_of(plugged.get(record.port), record):
            plug.append(record)
    taken = {address for record in seen.records for address in record.addresses}
    adopt, unplug, strangers = [], [], []
    for port in seen.ports:
        if port.name in known or port.name in RESERVED_PORTS:
            continue
        if port.owner is None:
            strangers.append(port.name)
        elif (
            port.name in seen.links
            and port.owner.boot_id == seen.boot_id
            and taken.isdisjoint(port.owner.addresses)
        ):
            adopt.append(_record(port.name, port.owner))
        else:
            unplug.append(port.name)
    return Repairs(
        tuple(remove),
        tuple(forget),
        tuple(plug),
        tuple(adopt),
        tuple(unplug),
        tuple(strangers),
    )


def _is_of(owner: PortOwner | None, record: Record) -> bool:
    return owner is not None and owner.attachment == record.attachment


def _record(port: str, owner: PortOwner) -> Record:
    return Record(
        owner.attachment,
        State.READY,
        owner.network,
        owner.pod,
        owner.netns,
        owner.netns_id,
        owner.boot_id,
        port,
        None,
        owner.addresses,
    )


def count(repairs: Repairs) -> int:
    """How many things there are to do."""
    groups: Iterable[Collection[object]] = (
        repairs.remove,
        repairs.forget,
        repairs.plug,
        repairs.adopt,
        repairs.unplug,
    )
    return sum(len(group) for group in groups)
