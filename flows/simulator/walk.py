"""One pass of a packet through a switch's tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from ovsnet.flows.fields import EthType, Field
from ovsnet.flows.flow import (
    Action,
    Conjunction,
    Ct,
    DecTtl,
    Flow,
    FlowKey,
    Goto,
    Group,
    HashSource,
    InPort,
    Learn,
    Move,
    Output,
    OutputField,
    Resubmit,
    SetField,
    Subfield,
    Term,
    match,
)
from ovsnet.flows.simulator.conntrack import Tracker, Written
from ovsnet.flows.simulator.group import GroupEntry, GroupKind, bucket_of, in_order
from ovsnet.flows.simulator.hashing import source_hash
from ovsnet.flows.simulator.lookup import TableIndex
from ovsnet.flows.simulator.packet import Packet
from ovsnet.flows.simulator.trace import Choice, Delivery, Loss, Pass, Reason, Step
from ovsnet.flows.text.names import PORTS
from ovsnet.names import Table

F = Field

MAX_DEPTH = 64
"""How deep lookups nest that do not go to a later table (ovs-actions(7), Error Handling)."""

MAX_LOOKUPS = 4096
"""How many lookups follow a packet's first one (ovs-actions(7), Error Handling)."""

IN_PORT = 0xFFFFFFF8
CONTROLLER = 0xFFFFFFFD
LOCAL = 0xFFFFFFFE
NONE = 0xFFFFFFFF
_RESERVED = 0xFFFFFF00
_HEADERS: dict[int, tuple[Field, ...]] = {
    EthType.ARP: (F.ARP_OP, F.ARP_SPA, F.ARP_TPA, F.ARP_SHA, F.ARP_THA),
    EthType.IPV4: (F.IP_PROTO, F.IP_TTL, F.IPV4_SRC, F.IPV4_DST),
    EthType.IPV6: (F.IP_PROTO, F.IP_TTL, F.IPV6_SRC, F.IPV6_DST),
}
_RESERVED_16 = 0xFF00
# A hash of which nothing else is known than that there is one, which is why it is not 0.
_HASHED = 1 << 31


class Passed(Protocol):
    """What a pass goes through: see `ovsnet.flows.simulator.switch.Switch`."""

    ports: frozenset[int]
    tunnels: frozenset[int]

    @property
    def tables(self) -> Mapping[Table, TableIndex]:
        """The flows of every table."""

    @property
    def groups(self) -> Mapping[int, GroupEntry]:
        """Groups by their ids."""


class _Frame:
    """Actions that are being executed, and what holds for the lookups among them."""

    def __init__(
        self,
        actions: Iterable[Action],
        step: Step,
        depth: int,
        restore: Packet | None = None,
    ) -> None:
        self.actions = iter(actions)
        self.step = step
        self.depth = depth
        self.restore = restore


class Walk:
    """One pass, while it happens: made once it is over. `forks` are the packets that the tracker
    gives back, each with the table where it goes on.
    """

    def __init__(
        self, switch: Passed, packet: Packet, table: Table, tracker: Tracker, choices: Sequence[int]
    ) -> None:
        self._switch = switch
        self._before = self._packet = self._wire = packet
        self._choices = choices
        self._steps: list[Step] = []
        self._deliveries: list[Delivery] = []
        self._losses: list[Loss] = []
        self._stack: list[_Frame] = []
        self.tracker = tracker
        self.forks: list[tuple[Packet, Table]] = []
        self.taken: list[Choice] = []
        self.learnt: dict[FlowKey, Flow] = {}
        self.failed = False
        self._look_up(table, 0)
        while self._stack:
            frame = self._stack[-1]
            action = next(frame.actions, None)
            if action is not None:
                self._execute(action, frame)
                continue
            self._stack.pop()
            if frame.restore is not None:
                self._packet = frame.restore

    def result(self) -> Pass:
        """What happened."""
        return Pass(
            self._before,
            self._packet,
            tuple(self._steps),
            tuple(self._deliveries),
            tuple(self._losses),
            tuple(self.learnt.values()),
        )

    def _look_up(self, table: Table, depth: int) -> None:
        found = self._switch.tables[table].lookup(self._packet.matchable)
        step = Step(table, self._packet, found.flow, found.rivals)
        self._steps.append(step)
        if found.flow is None:
            self._lose(Reason.NO_FLOW, step)
        elif not found.flow.actions:
            self._lose(Reason.NO_ACTION, step)
        else:
            self._stack.append(_Frame(found.flow.actions, step, depth))

    def _execute(self, action: Action, frame: _Frame) -> None:
        match action:
            case SetField():
                self._packet = self._packet.write(action.field, action.value, action.mask)
            case Move():
                self._move(action)
            case HashSource():
                self._hash_source(action)
            case Output():
                self._output(action.port, frame)
            case OutputField():
                self._output_field(action, frame)
            case InPort():
                self._send(self._packet[F.IN_PORT], frame)
            case DecTtl():
                self._dec_ttl(frame)
            case Goto() | Resubmit():
                self._enter(action.table, frame)
            case Group():
                self._group(action, frame)
            case Ct():
                self._ct(action, frame)
            case Learn():
                self._learn(action)
            case Conjunction():
                pass  # Says something to lookups; there is nothing to execute.

    def _move(self, action: Move) -> None:
        packet = self._packet
        if action.source.field is F.DP_HASH and packet[F.DP_HASH]:
            chosen = self._choose(0, 1 << action.source.bits, _read(packet, action.source))
            value, mask = _placed(action.target, chosen)
            self._packet = packet.write(action.target.field, value, mask)
        elif packet.has(action.source.field):
            value, mask = _placed(action.target, _read(packet, action.source))
            self._packet = packet.write(action.target.field, value, mask)

    def _hash_source(self, action: HashSource) -> None:
        usual = source_hash(self._packet, action.basis) % action.of
        value, mask = _placed(action.target, self._choose(0, action.of, usual))
        self._packet = self._packet.write(action.target.field, value, mask)

    def _output_field(self, action: OutputField, frame: _Frame) -> None:
        port = _read(self._packet, action.source)
        if port > 0xFFFF:
            self._lose(Reason.NO_PORT, frame.step)
        elif port >= _RESERVED_16:
            self._output(port | _RESERVED, frame)
        else:
            self._output(port, frame)

    def _output(self, port: int, frame: _Frame) -> None:
        if port == IN_PORT:
            self._send(self._packet[F.IN_PORT], frame)
        elif port == self._packet[F.IN_PORT]:
            self._lose(Reason.INPUT_PORT, frame.step)
        elif port != NONE:
            self._send(port, frame)

    def _send(self, port: int, frame: _Frame) -> None:
        if port in PORTS and port not in (LOCAL, CONTROLLER, NONE):
            raise ValueError(f"output to {PORTS[port]} is not modelled")
        if port not in self._switch.ports and port != CONTROLLER:
            self._lose(Reason.NO_PORT, frame.step)
        elif port in self._switch.tunnels and _outer(self._packet) in (_outer(self._before), 0):
            # Open vSwitch forgets the outer source when it finds this out.
            self._packet = self._packet.replace({F.TUN_SRC: 0, F.TUN_IPV6_SRC: 0})
            self._lose(Reason.NO_TUNNEL_END, frame.step)
        else:
            self._deliveries.append(Delivery(port, self._leaving()))

    def _leaving(self) -> Packet:
        """The packet as it goes out. Open vSwitch writes no header of an IP packet whose protocol
        is 0, nor of an ARP packet whose operation is 0, though its flows see what they wrote.
        """
        packet = self._packet
        header = _HEADERS.get(packet[F.ETH_TYPE])
        if header is None or packet[header[0]]:
            self._wire = packet
            return packet
        return packet.replace({field: self._wire[field] for field in header})

    def _dec_ttl(self, frame: _Frame) -> None:
        if not self._packet.has(F.IP_TTL):
            return
        ttl = self._packet[F.IP_TTL]
        if ttl > 1:
            self._packet = self._packet.write(F.IP_TTL, ttl - 1)
            return
        # The rest of this list is skipped; lists that resubmitted to it go on.
        frame.actions = iter(())
        self._lose(Reason.EXPIRED, frame.step)

    def _may_enter(self, frame: _Frame) -> bool:
        if frame.depth >= MAX_DEPTH:
            self._fail(Reason.TOO_DEEP, frame.step)
        elif len(self._steps) > MAX_LOOKUPS:
            self._fail(Reason.TOO_MANY, frame.step)
        return not self.failed

    def _enter(self, table: Table, frame: _Frame) -> None:
        if self._may_enter(frame):
            self._look_up(table, frame.depth + (table <= frame.step.table))

    def _group(self, action: Group, frame: _Frame) -> None:
        group = self._switch.groups.get(action.id)
        if group is None:
            self._lose(Reason.NO_GROUP, frame.step)
            return
        if not self._may_enter(frame):
            return
        buckets = group.buckets
        if group.kind is GroupKind.SELECT and buckets:
            # A packet without a hash gets one from the datapath before its bucket is chosen, and
            # keeps it: groups that follow one another go by the same hash.
            hashed = self._packet[F.DP_HASH] or _HASHED
            self._packet = self._packet.replace({F.DP_HASH: hashed})
            if len(buckets) > 1:
                usual = bucket_of(hashed, len(buckets))
                buckets = (buckets[self._choose(action.id, len(buckets), usual)],)
        # Each bucket works on a packet of its own; what it changes is forgotten after it.
        for bucket_actions in reversed(buckets):
            self._stack.append(
                _Frame(in_order(bucket_actions), frame.step, frame.depth + 1, self._packet)
            )

    def _choose(self, group: int, of: int, usual: int) -> int:
        made = len(self.taken)
        chosen = self._choices[made] if made < len(self._choices) else usual
        self.taken.append(Choice(group, chosen, of))
        return chosen

    def _learn(self, action: Learn) -> None:
        """The switch learns nothing beyond the limit, not even another value of what it knows.
        Packets that pass the tables at this time do not meet what is learnt.
        """
        present = {f.key for f in self._switch.tables[action.table].flows if _is_of(f, action)}
        present |= {f.key for f in self.learnt.values() if _is_of(f, action)}
        if len(present) >= action.limit:
            return
        same = (Term(field, self._packet[field]) for field in action.same)
        value, mask = _placed(action.target, action.value)
        whole = mask == action.target.field.full
        flow = Flow(
            action.table,
            action.priority,
            match(*action.where, *same),
            (SetField(action.target.field, value, None if whole else mask),),
            action.cookie,
        )
        self.learnt[flow.key] = flow

    def _ct(self, action: Ct, frame: _Frame) -> None:
        if self._packet[F.ETH_TYPE] not in (EthType.IPV4, EthType.IPV6):
            return
        written = {F.CT_MARK: Written(), F.CT_LABEL: Written()}
        for change in action.then:
            field, value, mask = _change(self._packet, change)
            old = written[field]
            written[field] = Written(old.value & ~mask | value & mask, old.mask | mask)
        packet, self.tracker = self.tracker.track(
            self._packet, action, written[F.CT_MARK], written[F.CT_LABEL]
        )
        if action.table is not None and packet is None:
            self._lose(Reason.TRACKER, frame.step)
        elif action.table is not None and packet is not None:
            self.forks.append((packet, action.table))
        self._packet = self._packet.untracked()

    def _lose(self, reason: Reason, step: Step) -> None:
        self._losses.append(Loss(reason, step.table, step.flow))

    def _fail(self, reason: Reason, step: Step) -> None:
        """Give up: the whole pass has no effect, whatever it did before."""
        self.failed = True
        self._stack.clear()
        self._deliveries.clear()
        self.forks.clear()
        self._losses = [Loss(reason, step.table, step.flow)]


def _is_of(flow: Flow, learn: Learn) -> bool:
    return flow.table is learn.table and flow.cookie == learn.cookie


def _outer(packet: Packet) -> int:
    """Where a tunnel would take the packet; 0 if nowhere."""
    return packet[F.TUN_DST] or packet[F.TUN_IPV6_DST]


def _read(packet: Packet, part: Subfield) -> int:
    return packet[part.field] >> part.offset & (1 << part.bits) - 1


def _placed(part: Subfield, value: int) -> tuple[int, int]:
    """Value and mask that write these bits."""
    return value << part.offset, (1 << part.bits) - 1 << part.offset


def _change(packet: Packet, action: SetField | Move) -> tuple[Field, int, int]:
    """Field, value and mask that an action of ct(exec(...)) writes."""
    if isinstance(action, SetField):
        mask = action.field.full if action.mask is None else action.mask
        return action.field, action.value, mask
    if not packet.has(action.source.field):
        return action.target.field, 0, 0
    return action.target.field, *_placed(action.target, _read(packet, action.source))
