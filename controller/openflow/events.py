"""What comes in from switches: one frozen value an event. `connection` numbers the connection.

A connection's first event is `Connected` and its last `Disconnected`; one that never finished its
handshake has neither.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TypeAlias

import msgspec

from ovsnet.controller.belief import Port
from ovsnet.controller.openflow.protocol import BundleControl, ControllerRole


class Connected(msgspec.Struct, frozen=True):
    """A switch has introduced itself. `description` is its dp_desc, by rule its node's name.

    `serial` is its dp-sn, by rule the sort of its datapath: `netdev` or `system`.
    """

    connection: int
    address: str
    datapath_id: int
    description: str
    tables: int
    capabilities: int
    ports: frozenset[Port]
    serial: str = ""


class PortChange(Enum):
    """What happened to a port."""

    ADDED = auto()
    REMOVED = auto()
    MODIFIED = auto()


class PortChanged(msgspec.Struct, frozen=True):
    """A port came, went or changed. A port that reappears comes as `MODIFIED`, too."""

    connection: int
    change: PortChange
    port: Port


class RoleGranted(msgspec.Struct, frozen=True):
    """The switch answers a role request."""

    connection: int
    xid: int
    role: ControllerRole
    generation: int


class RoleLost(msgspec.Struct, frozen=True):
    """The switch says unasked that our role has changed: another controller took over."""

    connection: int
    role: ControllerRole


class BundleAnswered(msgspec.Struct, frozen=True):
    """The switch did what a bundle-control message asked."""

    connection: int
    xid: int
    control: BundleControl


class FlowsListed(msgspec.Struct, frozen=True):
    """One part of a flow dump, as bytes for `decode.flows`; `more` parts follow or not."""

    connection: int
    xid: int
    body: bytes
    more: bool


class FlowsCounted(msgspec.Struct, frozen=True):
    """How many flows the switch has in each table, as bytes for `decode.flow_counts`."""

    connection: int
    xid: int
    body: bytes


class Refused(msgspec.Struct, frozen=True):
    """The switch answers with an error: `text` has its meaning, `data` the refused message."""

    connection: int
    xid: int
    kind: int
    code: int
    text: str
    data: bytes


class Echoed(msgspec.Struct, frozen=True):
    """The switch answered an echo request."""

    connection: int
    xid: int


class Disconnected(msgspec.Struct, frozen=True):
    """The connection has ended, for this reason."""

    connection: int
    reason: str


Event: TypeAlias = (
    Connected
    | PortChanged
    | RoleGranted
    | RoleLost
    | BundleAnswered
    | FlowsListed
    | FlowsCounted
    | Refused
    | Echoed
    | Disconnected
)
