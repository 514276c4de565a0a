"""What became of a packet, as values."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import msgspec

from ovsnet.flows.flow import Flow
from ovsnet.flows.simulator.conntrack import Tracker
from ovsnet.flows.simulator.packet import Packet
from ovsnet.flows.text import print_flow
from ovsnet.names import Table


class Step(msgspec.Struct, frozen=True):
    """One lookup: the packet as it was looked up in a table, registers and all, and the flow that
    it met (None: no flow matches).

    `rivals` could as well have been taken: OpenFlow does not say which of several flows of one
    priority wins (see `lookup.Found`). Correct sets of flows have none.
    """

    table: Table
    packet: Packet
    flow: Flow | None
    rivals: tuple[Flow | None, ...] = ()


class Delivery(msgspec.Struct, frozen=True):
    """The packet as it leaves by a port. Its tunnel fields count if that port is a tunnel's."""

    port: int
    packet: Packet


class Reason(StrEnum):
    """Why a packet, or one branch of its way, came to nothing."""

    NO_FLOW = "no flow of the table matches"
    NO_ACTION = "the flow drops it"
    INPUT_PORT = "it would leave by the port that it came in by"
    NO_PORT = "the switch has no such port"
    NO_TUNNEL_END = "the tunnel would take it nowhere, or to the address that it came in to"
    NO_GROUP = "the switch has no such group"
    EXPIRED = "its TTL or hop limit has run out"
    TRACKER = "the connection tracker keeps it for reassembly"
    TOO_DEEP = "it recursed too deep"
    TOO_MANY = "it was looked up too often"


class Loss(msgspec.Struct, frozen=True):
    """Where a packet, or one branch of its way, came to nothing."""

    reason: Reason
    table: Table
    flow: Flow | None

    def __str__(self) -> str:
        by = f" ({print_flow(self.flow)})" if self.flow else ""
        return f"{self.table.text}: {self.reason}{by}"


class Choice(NamedTuple):
    """A bucket that a select group took, of how many. Or, with 0 for the group, the bits of the
    packet's hash that an action has read, of how many values.
    """

    group: int
    bucket: int
    of: int


class Pass(msgspec.Struct, frozen=True):
    """One way through the tables: from the start, or from where the tracker gave it back.

    `after` is the packet as the last action left it, `learnt` are flows that the switch has
    learnt: they are for packets that are looked up later.
    """

    before: Packet
    after: Packet
    steps: tuple[Step, ...]
    deliveries: tuple[Delivery, ...]
    losses: tuple[Loss, ...]
    learnt: tuple[Flow, ...] = ()


class Trace(msgspec.Struct, frozen=True):
    """The whole way of a packet through a switch, and the state of the tracker after it."""

    passes: tuple[Pass, ...]
    tracker: Tracker
    choices: tuple[Choice, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        """Every lookup, in order."""
        return tuple(step for one in self.passes for step in one.steps)

    @property
    def flows(self) -> tuple[Flow, ...]:
        """The flows that decided, in order."""
        return tuple(step.flow for step in self.steps if step.flow is not None)

    @property
    def deliveries(self) -> tuple[Delivery, ...]:
        """Every packet that leaves, in order."""
        return tuple(out for one in self.passes for out in one.deliveries)

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports that it leaves by, in order."""
        return tuple(out.port for out in self.deliveries)

    @property
    def losses(self) -> tuple[Loss, ...]:
        """Where it, or a branch of its way, came to nothing."""
        return tuple(loss for one in self.passes for loss in one.losses)

    @property
    def learnt(self) -> tuple[Flow, ...]:
        """The flows that the switch has learnt, in order: see `Switch.having`."""
        return tuple(flow for one in self.passes for flow in one.learnt)

    @property
    def dropped(self) -> bool:
        """Whether nothing leaves."""
        return not self.deliveries

    @property
    def rivals(self) -> tuple[Flow | None, ...]:
        """Flows that could as well have been taken somewhere on the way; see `Step.rivals`."""
        return tuple(flow for step in self.steps for flow in step.rivals)

    @property
    def verdict(self) -> str:
        """In one line: the ports that it leaves by, or where and why it was dropped."""
        if self.deliveries:
            return "sent to " + ", ".join(str(port) for port in self.ports)
        if self.losses:
            return "dropped in " + "; ".join(str(loss) for loss in self.losses)
        last = self.steps[-1]
        return f"dropped in {last.table.text}: no flow sends it on"
