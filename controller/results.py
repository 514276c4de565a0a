"""What the controller's logic brings about, besides what sessions with switches do."""

from __future__ import annotations

from enum import Enum, auto
from typing import TypeAlias

import msgspec

from ovsnet.controller.belief import Refusal
from ovsnet.controller.notices import Outcome


class PortRefused(msgspec.Struct, frozen=True):
    """A port of a node's switch gets no flows, and has got none for `ovsnet.controller.brain.GRACE`
    seconds.
    """

    node: str
    refusal: Refusal


class ReportRefused(msgspec.Struct, frozen=True):
    """What came from this address is not believed of the node that it named."""

    node: str
    address: str
    reason: str


class Cause(Enum):
    """What made a node's flows change."""

    PORT = auto()
    API = auto()


class Served(msgspec.Struct, frozen=True):
    """What an event changed of a node's flows is in its switch, `seconds` after the event."""

    node: str
    cause: Cause
    seconds: float


class Departed(msgspec.Struct, frozen=True):
    """A node is no longer in the cluster."""

    node: str


class Ready(msgspec.Struct, frozen=True):
    """All kinds have been listed: from now on switches are served."""

    nodes: int
    pods: int


class Leads(msgspec.Struct, frozen=True):
    """From now on this controller leads, under this term."""

    term: int


class StandsBy(msgspec.Struct, frozen=True):
    """From now on this controller writes nothing."""


Result: TypeAlias = (
    Outcome | PortRefused | ReportRefused | Served | Departed | Ready | Leads | StandsBy
)
