"""Flows as frozen values: matches, actions, owners.

They compare and hash by value, are cheap to make, and know nothing of a switch.
`ovsnet.flows.text` prints and parses them, the controller's OpenFlow edge encodes them.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from typing import TypeAlias

import msgspec

from ovsnet.flows.fields import Field
from ovsnet.names import Table


class Term(msgspec.Struct, frozen=True, order=True, gc=False):
    """One condition of a match: `field & mask == value`. No mask means the whole field."""

    field: Field
    value: int
    mask: int | None = None


Match = tuple[Term, ...]
"""Terms in the order of their fields, each field at most once; made by `match`."""


def term(field: Field, value: int, mask: int | None = None) -> Term:
    """A term in its one canonical form: no full mask, no bits of the value outside the mask.

    Raises:
        ValueError: value or mask does not fit the field, or the mask is empty.
    """
    full = field.full
    if not 0 <= value <= full or (mask is not None and not 0 < mask <= full):
        wrong = f"{value:#x}" if mask is None else f"{value:#x}/{mask:#x}"
        raise ValueError(f"{field.text}={wrong}: expected a value of {field.bits} bits")
    if mask is None or mask == full:
        return Term(field, value)
    return Term(field, value & mask, mask)


def match(*terms: Term) -> Match:
    """A match from terms in any order.

    Raises:
        ValueError: a field is named twice.
    """
    ordered = tuple(sorted(terms, key=_field_of))
    for before, after in itertools.pairwise(ordered):
        if before.field is after.field:
            raise ValueError(f"{after.field.text} stands twice in one match")
    return ordered


def _field_of(item: Term) -> Field:
    return item.field


class Subfield(msgspec.Struct, frozen=True, gc=False):
    """Some bits of a field: `bits` of them, from bit `offset` (0 is the lowest)."""

    field: Field
    offset: int
    bits: int


def whole(field: Field) -> Subfield:
    """All bits of a field."""
    return Subfield(field, 0, field.bits)


class SetField(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Writes a constant to a field, or to the bits of it that the mask names."""

    field: Field
    value: int
    mask: int | None = None


class Move(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Copies bits from one field to another (OpenFlow 1.5 copy_field)."""

    source: Subfield
    target: Subfield


class Output(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Sends the packet out of a port; never back out of the port that it came in by."""

    port: int


class OutputField(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Sends the packet out of the port whose number stands in a register."""

    source: Subfield


class InPort(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Sends the packet back out of the port that it came in by."""


class DecTtl(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Takes one from the TTL or hop limit; drops the packet when none is left."""


class Goto(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Goes on in a later table. Always the last action of a flow."""

    table: Table


class Resubmit(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Looks the packet up in any table, then goes on with the next action."""

    table: Table


class Group(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Hands the packet to a group."""

    id: int


class Conjunction(msgspec.Struct, frozen=True, order=True, gc=False, tag=True):
    """Says that clause `clause` (1..`of`) of conjunction `id` holds (ovs-fields(7), conj_id)."""

    id: int
    clause: int
    of: int


class NatKind(IntEnum):
    """Which address a NAT changes. RESTORE applies what the connection committed earlier."""

    RESTORE = 0
    SOURCE = 1
    DESTINATION = 2


class Nat(msgspec.Struct, frozen=True, gc=False):
    """The NAT of a ct action: to one address (of `bits` 32 or 128) and port, both optional."""

    kind: NatKind = NatKind.RESTORE
    address: int | None = None
    bits: int = 32
    port: int | None = None


class Ct(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Sends the packet through the connection tracker (ovs-actions(7), ct).

    With `table` the packet is looked up there afterwards, with ct_state set; this flow's later
    actions see the packet as it was. `then` are executed on the connection that is committed.
    """

    zone: int
    table: Table | None = None
    commit: bool = False
    force: bool = False
    nat: Nat | None = None
    then: tuple[SetField | Move, ...] = ()


class Learn(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Has the switch itself write a flow (ovs-actions(7), learn): packets that have the values of
    this one in the fields of `same`, and `where`, get `value` written to `target`.

    The flow has no other action and `priority`; it goes when no packet has met it for `idle`
    seconds. Of flows with this cookie in that table there are `limit` at most: beyond it nothing
    is learnt. A switch that has learnt a flow learns it anew in place of the old one.
    """

    table: Table
    priority: int
    same: tuple[Field, ...]
    where: tuple[Term, ...]
    target: Subfield
    value: int
    idle: int
    limit: int
    cookie: int


class HashSource(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Writes a number below `of` to `target`, by a hash of the packet's source address alone
    (ovs-actions(7), multipath: nw_src, modulo_n).
    """

    target: Subfield
    of: int
    basis: int


Action: TypeAlias = (
    SetField
    | Move
    | HashSource
    | Output
    | OutputField
    | InPort
    | DecTtl
    | Goto
    | Resubmit
    | Group
    | Conjunction
    | Ct
    | Learn
)


class SelectGroup(msgspec.Struct, frozen=True, gc=False):
    """A group that takes one of its buckets by a hash of the packet's addresses and ports
    (selection method dp_hash with this basis: ovs-ofctl(8), Group Syntax). Every bucket weighs
    the same; their ids count from 0.
    """

    id: int
    basis: int
    buckets: tuple[tuple[Action, ...], ...]


class OwnerKind(IntEnum):
    """What sort of object a flow exists for; stands in the highest byte of its cookie."""

    NODE = 1
    POD = 2
    PEER = 3
    POLICY = 4
    SERVICE = 5
    STAMP = 6
    LEARNT = 7


class Owner(msgspec.Struct, frozen=True, order=True):
    """The object that a flow exists for: its kind and its name (`namespace/name` or a node's)."""

    kind: OwnerKind
    name: str

    @property
    def cookie(self) -> int:
        """The 64-bit cookie of its flows: the kind in 8 bits, a hash of the name in 56."""
        digest = hashlib.blake2b(self.name.encode(), digest_size=7).digest()
        return self.kind << 56 | int.from_bytes(digest, "big")

    def __str__(self) -> str:
        return f"{self.kind.name.lower()} {self.name}"


class Flow(msgspec.Struct, frozen=True, gc=False):
    """One entry of a flow table. Without actions it drops the packet."""

    table: Table
    priority: int
    match: Match
    actions: tuple[Action, ...] = ()
    cookie: int = 0

    @property
    def key(self) -> FlowKey:
        """What a switch tells flows apart by: adding a flow replaces the one of the same key."""
        return (self.table, self.priority, self.match)


FlowKey = tuple[Table, int, Match]


class Block(msgspec.Struct, frozen=True):
    """The flows that one owner wants on one node: the unit in which they are recomputed.

    No two of them have the same key; made by `block`.
    """

    owner: Owner
    flows: tuple[Flow, ...]


def block(owner: Owner, flows: Iterable[Flow]) -> Block:
    """A block of flows, each marked with the owner's cookie, those of the same key added up."""
    cookie = owner.cookie
    by_key: dict[FlowKey, Flow] = {}
    for plain in flows:
        flow = Flow(plain.table, plain.priority, plain.match, plain.actions, cookie)
        present = by_key.setdefault(flow.key, flow)
        if present is not flow:
            by_key[flow.key] = add_up((present, flow))
    return Block(owner, tuple(by_key.values()))


def add_up(flows: Sequence[Flow]) -> Flow:
    """The one flow for what several flows of the same key want.

    Clauses of conjunctions add up, under the lowest of the cookies. Anything else cannot be
    added: the first one has its way.
    """
    first = flows[0]
    if not all(map(is_conjunctive, flows)):
        return first
    clauses = sorted({a for flow in flows for a in flow.actions if isinstance(a, Conjunction)})
    cookie = min(flow.cookie for flow in flows)
    return Flow(first.table, first.priority, first.match, tuple(clauses), cookie)


def spread(flow: Flow, most: int, always: Callable[[int], Term]) -> tuple[Flow, ...]:
    """A flow that states clauses of conjunctions, as flows of at most so many clauses each.

    All but the first have one more condition, which `always` makes of a number from 1: it holds
    for every packet and has another mask for every number. So they match the same packets, a
    switch holds them beside each other, and the clauses of all of them count (ovs-fields(7),
    conj_id).
    """
    actions = flow.actions
    if len(actions) <= most:
        return (flow,)
    parts = [actions[i : i + most] for i in range(0, len(actions), most)]
    others = (
        Flow(
            flow.table,
            flow.priority,
            match(*flow.match, always(number)),
            part,
            flow.cookie,
        )
        for number, part in enumerate(parts[1:], 1)
    )
    first = Flow(flow.table, flow.priority, flow.match, parts[0], flow.cookie)
    return (first, *others)


def is_conjunctive(flow: Flow) -> bool:
    """Whether the flow does nothing but state clauses of conjunctions."""
    return bool(flow.actions) and all(isinstance(a, Conjunction) for a in flow.actions)
