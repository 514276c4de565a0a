"""Compares the simulator with ofproto/trace, and cuts a disagreement down to few flows."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

import msgspec
from flow_strategies import GROUPS, KINDS, NARROW, REGISTERS, cts, flows, packets
from flow_strategies import TUNNEL as TUNNEL_FIELDS
from flow_switch import NEIGHBOURS, PORTS, FlowSwitch
from hypothesis import given, settings
from hypothesis import strategies as st
from ofproto_trace import UNSEEN, Sent, carry_out, flow_words, read_trace

from ovsnet.flows.fields import CtState, Field
from ovsnet.flows.flow import Conjunction, Ct, Flow, Goto, Match, Output, SetField, Term, match
from ovsnet.flows.simulator import Foreseen, GroupEntry, GroupKind, Packet, Pass, Switch
from ovsnet.flows.simulator.switch import MAX_PASSES
from ovsnet.flows.text import parse_actions, print_flow

F = Field
TUNNEL = 2
BUCKETS = (
    "set_field:3->reg3,output:5,output:3",
    "output:4,dec_ttl",
    'resubmit(,"spoof_guard"),output:5',
)
SELECTING = GROUPS[-1]
CHOICES = tuple(
    f"set_field:{number}->reg3,move:NXM_NX_DP_HASH[4..7]->NXM_NX_REG4[0..3],{then}"
    for number, then in enumerate(("output:4", 'resubmit(,"spoof_guard")', "output:5") * 4)
)
SELECT_GROUP = f"group_id={SELECTING},type=select,selection_method=dp_hash," + ",".join(
    f"bucket=bucket_id:{number},weight:100,actions={choice}"
    for number, choice in enumerate(CHOICES)
)
"""A group that takes one of a number of buckets that is no power of two."""


def _entry(kind: GroupKind, buckets: tuple[str, ...]) -> GroupEntry:
    return GroupEntry(kind, tuple(parse_actions(bucket, {}) for bucket in buckets))


GROUP_ENTRIES = {g: _entry(GroupKind.ALL, BUCKETS) for g in GROUPS} | {
    SELECTING: _entry(GroupKind.SELECT, CHOICES)
}
CT_STATES = tuple(
    CtState.TRK | state
    for state in (
        *(CtState.NEW, CtState.EST, CtState.INV, CtState.REL, CtState.EST | CtState.RPL),
        *(CtState.REL | CtState.RPL, CtState.NEW | CtState.DNAT, CtState.EST | CtState.SNAT),
    )
)


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Flows, and packets with the states that the connection tracker will give them."""

    flows: tuple[Flow, ...]
    packets: tuple[tuple[Packet, tuple[int, ...]], ...]


@dataclasses.dataclass(frozen=True)
class Pool:
    """Flows and packets to draw scenarios from; many scenarios share what was generated once."""

    flows: tuple[Flow, ...]
    packets: tuple[Packet, ...]
    tracking: tuple[tuple[Match, Ct], ...]

    def scenario(self, seed: int, size: int = 40, count: int = 30) -> Scenario:
        """A scenario; the same one for the same seed. Most of its flows match some packet of it."""
        draw = random.Random(seed)
        chosen_packets = draw.sample(self.packets, count)
        near = [f for f in self.flows if any(_holds(f.match, p) for p in chosen_packets)]
        chosen = draw.sample(self.flows, size // 2) + draw.choices(near, k=size // 2)
        chosen = [f for f in chosen if _goes_on(f, f.table) or draw.random() < 0.25]
        for table in NARROW.tables:
            chosen += [_moved(f, table, draw.randint(0, 7)) for f in draw.choices(near, k=4)]
            onward = [t for t in NARROW.tables if t > table]
            if not onward:
                continue
            if draw.random() < 0.8:
                chosen.append(Flow(table, 0, (), (Goto(draw.choice(onward)),)))
            if draw.random() < 0.3:
                sent = (
                    SetField(F.TUN_ID, draw.randint(1, 1 << 25)),
                    SetField(F.TUN_DST, draw.choice((0xC0A80702, 0xC0A80703, 0))),
                    SetField(F.TUN_IPV6_DST, draw.choice((0xFDAA << 112 | 2, 0))),
                    Output(TUNNEL),
                )
                beside = draw.choice(near)
                chosen.append(Flow(table, 6, beside.match, (*sent, Goto(draw.choice(onward)))))
            for terms, ct in draw.sample(self.tracking, 3):
                tracked = msgspec.structs.replace(ct, table=draw.choice(onward))
                chosen.append(Flow(table, draw.randint(0, 4), terms, (tracked,)))
        for table in draw.sample(NARROW.tables, 3):
            chosen += self._conjunctions(draw, table, near)
        keyed = {flow.key: flow for flow in chosen}
        numbered = tuple(
            msgspec.structs.replace(flow, cookie=number)
            for number, flow in enumerate(keyed.values(), 1)
        )
        states = [tuple(draw.choices(CT_STATES, k=3)) for _ in chosen_packets]
        # The trace of a packet without a hash ends where it gets one.
        hashed = [p.replace({F.DP_HASH: draw.randint(1, 0xFFFFFFFF)}) for p in chosen_packets]
        return Scenario(numbered, tuple(zip(hashed, states, strict=True)))

    def _conjunctions(self, draw: random.Random, table, near: Sequence[Flow]) -> list[Flow]:
        """Two conjunctions with overlapping clauses, and plain flows with the same matches."""
        made = []
        loose = [flow for flow in near if len(flow.match) <= 2]
        for identity, of in ((1, 2), (2, 3)):
            priority = draw.randint(3, 7)
            for clause in range(1, of + 1):
                for part in draw.choices(loose, k=draw.randint(1, 4)):
                    ours = (Conjunction(identity, clause, of),)
                    if draw.random() < 0.2:
                        other = draw.choice(((1, 2), (2, 3)))
                        ours += (Conjunction(other[0], draw.randint(1, other[1]), other[1]),)
                    made.append(Flow(table, priority, part.match, ours))
                    if draw.random() < 0.3:
                        made.append(_moved(part, table, draw.randint(0, 7)))
            for plain in draw.choices(loose, k=draw.randint(0, 3)):
                found = match(
                    *(t for t in plain.match if t.field is not F.CONJ_ID),
                    Term(F.CONJ_ID, identity),
                )
                moved = _moved(plain, table, draw.randint(0, 7))
                made.append(msgspec.structs.replace(moved, match=found))
        return made


def _holds(conditions, packet: Packet) -> bool:
    """Whether a match holds for a packet, registers and conjunctions aside."""
    return all(
        packet[t.field] & (t.field.full if t.mask is None else t.mask) == t.value
        for t in conditions
        if t.field >= F.ETH_DST
    )


def _moved(flow: Flow, table, priority: int) -> Flow:
    """The flow in another table, if its actions allow that; without actions if not."""
    actions = flow.actions if _goes_on(flow, table) else ()
    return Flow(table, priority, flow.match, actions)


def _goes_on(flow: Flow, table) -> bool:
    """Whether the flow, in this table, leads to later tables only."""
    return all(t is None or t > table for t in (getattr(a, "table", None) for a in flow.actions))


def pool(flow_count: int = 700, packet_count: int = 400) -> Pool:
    """The generated flows and packets, the same ones every time."""
    made: dict = {}
    seen: dict = {}
    tracking: dict = {}

    @settings(max_examples=flow_count, deadline=None, derandomize=True, database=None)
    @given(flows(NARROW, max_fields=2))
    def collect_flows(flow):
        # Conjunctions come with each scenario: their parts must fit together.
        if not any(isinstance(action, Conjunction) for action in flow.actions):
            made[flow.key] = flow

    @settings(max_examples=packet_count, deadline=None, derandomize=True, database=None)
    @given(packets())
    def collect_packets(packet):
        seen[packet] = packet

    @settings(max_examples=flow_count // 4, deadline=None, derandomize=True, database=None)
    @given(st.data())
    def collect_tracking(data):
        kind = data.draw(st.sampled_from([kind for kind in KINDS if kind.is_ip]))
        fields = (*REGISTERS, *kind.fields)
        ct = data.draw(cts(kind, fields, NARROW.tables, NARROW))
        tracking[match(*kind.terms), ct] = None

    collect_flows()
    collect_packets()
    collect_tracking()
    return Pool(tuple(made.values()), tuple(seen), tuple(tracking))


def simulated(flows: Sequence[Flow]) -> Switch:
    """The simulator's counterpart of `FlowSwitch`."""
    return Switch(flows, PORTS, (TUNNEL,), GROUP_ENTRIES)


def disagreement(
    real: FlowSwitch, switch: Switch, ports: dict[int, int], packet: Packet, states: tuple[int, ...]
) -> str | None:
    """What the simulator says other than ofproto/trace; None if they agree, or if the flows leave
    the outcome undefined, or lead the packet through the tracker for ever, and the trace with it.
    """
    trace = switch.trace(packet, Foreseen(states))
    if trace.rivals or _endless(trace.passes):
        return None
    text = real.trace(flow_words(packet), [_state_words(state) for state in states])
    for number, (section, one) in enumerate(zip(read_trace(text), trace.passes, strict=False)):
        failed = _failed(one)
        ours = [(int(s.table), s.flow.cookie if s.flow else None) for s in one.steps]
        theirs = [(found.table, found.cookie) for found in section.lookups]
        after = {f: v for f, v in one.after.fields.items() if f not in UNSEEN and one.after.has(f)}
        if not (F.TUN_DST in after or F.TUN_IPV6_DST in after):
            after = {f: v for f, v in after.items() if f not in TUNNEL_FIELDS}
        theirs_after = {f: v for f, v in section.after.items() if one.after.has(f)}
        compared = [("lookups", ours, theirs), ("failed", failed, section.failed)]
        if not failed:
            sent = carry_out(section.actions, one.before, ports, TUNNEL)
            compared += [("after", after, theirs_after), ("sent", _sent(one), sent)]
        for what, mine, switchs in compared:
            if mine != switchs:
                return f"pass {number}, {what}\n simulator: {mine}\n switch:    {switchs}\n{text}"
        if failed:
            return None
    if len(read_trace(text)) != len(trace.passes):
        return f"{len(trace.passes)} passes\n{text}"
    return None


def _failed(one: Pass) -> bool:
    """Whether Open vSwitch gives up translating: flows that lead back to each other too often."""
    return any(loss.reason.startswith(("it recursed", "it was looked")) for loss in one.losses)


def _endless(passes: Sequence[Pass]) -> bool:
    """Whether the trace has no end that could be waited for.

    The packet goes through the tracker again and again; or a pass fails in which it was sent there
    more than once: the trace follows each of these, and each fails in the same way.
    """
    if len(passes) == MAX_PASSES:
        return True
    return any(
        sum(isinstance(a, Ct) for step in one.steps if step.flow for a in step.flow.actions) > 1
        for one in passes
        if _failed(one)
    )


def _sent(one: Pass) -> list[Sent]:
    """What leaves, as the datapath's actions would show it."""
    sent = []
    for out in one.deliveries:
        seen = tuple((f, v) for f, v in out.packet.fields.items() if not F.REG0 <= f < F.ETH_DST)
        if out.port != TUNNEL:
            sent.append(Sent(out.port, seen))
            continue
        outer = out.packet[F.TUN_DST]
        end = str(IPv4Address(outer) if outer else IPv6Address(out.packet[F.TUN_IPV6_DST]))
        if end in NEIGHBOURS:
            # The header has room for 24 bits of the key (RFC 7348, section 5).
            sent.append(Sent(out.port, seen, (out.packet[F.TUN_ID] & 0xFFFFFF, end)))
    return sent


def _state_words(state: int) -> str:
    return ",".join(bit.name.lower() for bit in CtState if state & bit)


def smallest(real: FlowSwitch, ports: dict[int, int], flows: Sequence[Flow], packet, states) -> str:
    """The disagreement over this packet with as few of the flows as show it.

    One that is gone once the same flows are added anew hangs on the order of their addition.
    """
    kept = list(flows)

    def report(some: Sequence[Flow]) -> str | None:
        real.replace(some)
        return disagreement(real, simulated(some), ports, packet, states)

    for flow in flows:
        fewer = [other for other in kept if other is not flow]
        if report(fewer):
            kept = fewer
    lines = "\n".join(print_flow(flow) for flow in kept)
    return f"{flow_words(packet)} {states}\n{lines}\n{report(kept)}"
