"""What sessions with switches bring about: commands for the edge, and notices for the controller.

Everything is a frozen value. The edge carries out `Send` and `Close`; the rest says what happened
at a node, for the log, the metrics and whoever waits for a revision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from ovsnet.controller.belief import Port
from ovsnet.controller.openflow.decode import ForeignFlow, RefusedFlow
from ovsnet.flows.flow import Flow


class Send(msgspec.Struct, frozen=True):
    """Send these bytes to the switch, in one go and in order."""

    connection: int
    data: bytes


class Close(msgspec.Struct, frozen=True):
    """End the connection, for this reason."""

    connection: int
    reason: str


class Admitted(msgspec.Struct, frozen=True):
    """The switch is that of `node`, and we are its master. It has these ports."""

    node: str
    connection: int
    ports: frozenset[Port]


class StandingBy(msgspec.Struct, frozen=True):
    """The switch is that of `node`, and takes no writing from us. It has these ports."""

    node: str
    connection: int
    ports: frozenset[Port]


class TurnedAway(msgspec.Struct, frozen=True):
    """A switch was not let in. `name` is what it called itself, which nobody vouches for."""

    connection: int
    address: str
    name: str
    reason: str


class PortsChanged(msgspec.Struct, frozen=True):
    """The switch of `node` now has these ports."""

    node: str
    ports: frozenset[Port]


class Synchronised(msgspec.Struct, frozen=True):
    """The switch's stamp and number of flows were those desired: nothing was written."""

    node: str
    revision: int
    flows: int


class Compared(msgspec.Struct, frozen=True):
    """The switch's flows were compared with the desired ones, and the difference is on its way.

    `missing`: desired flows that were not there. `changed`: flows with other actions or another
    cookie than desired. `stale`: flows that an earlier controller wrote and nobody wants now.
    `strangers`: flows that no controller of ours wrote. `audit`: it was a periodic comparison,
    where every number should be 0.
    """

    node: str
    audit: bool
    equal: int
    missing: int
    changed: int
    stale: int
    strangers: tuple[Flow | ForeignFlow, ...]


class Acknowledged(msgspec.Struct, frozen=True):
    """The switch has all flows of `revision`: `written` were added and deleted, in `seconds`."""

    node: str
    revision: int
    digest: int
    written: int
    seconds: float


class Settled(msgspec.Struct, frozen=True):
    """What the switch has up to `revision` is in effect, `seconds` after it was acknowledged."""

    node: str
    revision: int
    seconds: float


class WriteFailed(msgspec.Struct, frozen=True):
    """The switch refused a bundle, and nothing of it was applied.

    `flow` says which of its messages was refused first, if that is known: its cookie leads to the
    owner. All is compared and written anew after `retry_in` seconds.
    """

    node: str
    revision: int
    reason: str
    flow: RefusedFlow | None
    retry_in: float


class Fenced(msgspec.Struct, frozen=True):
    """Another controller leads this switch: we wrote nothing and left. `seen` is the greatest
    generation id that the switch has seen, as it said when it connected.
    """

    node: str
    generation: int
    reason: str
    seen: int = 0


class Dumped(msgspec.Struct, frozen=True):
    """All flows that the switch of `node` has, the stamp among them, for those who asked for them
    with these tickets. They are later than every one of the questions.
    """

    node: str
    tickets: tuple[int, ...]
    flows: tuple[Flow | ForeignFlow, ...]


class NotDumped(msgspec.Struct, frozen=True):
    """Those who asked with these tickets which flows the switch of `node` has get no answer."""

    node: str
    tickets: tuple[int, ...]
    reason: str


class Counted(msgspec.Struct, frozen=True):
    """What the switch of `node` has counted in the flows that drop what no policy grants: packets
    by cookie, as far as there are any.
    """

    node: str
    packets: Mapping[int, int]


class NotCounted(msgspec.Struct, frozen=True):
    """The switch of `node` does not say what it has counted."""

    node: str
    reason: str


class Lost(msgspec.Struct, frozen=True):
    """The session with the switch of `node` has ended."""

    node: str
    connection: int
    reason: str


Command: TypeAlias = Send | Close
Notice: TypeAlias = (
    Admitted
    | StandingBy
    | TurnedAway
    | PortsChanged
    | Synchronised
    | Compared
    | Acknowledged
    | Settled
    | WriteFailed
    | Fenced
    | Dumped
    | NotDumped
    | Counted
    | NotCounted
    | Lost
)
Outcome: TypeAlias = Command | Notice
