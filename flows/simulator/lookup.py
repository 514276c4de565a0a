"""Which flow of a table a packet meets, conjunctions included.

Flows whose matches look at the same bits share a hash table (tuple space search), so a lookup
costs one probe per distinct set of masks, however many flows there are. The order of decisions
with conjunctions is the one that Open vSwitch follows (ovs-fields(7), conj_id), including what it
does in cases that the manual calls unusual: a plain flow wins over a conjunction of its own
priority; the second search, for conj_id, takes the best plain flow of any priority, and where it
finds none the search goes on below.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from ovsnet.flows.fields import Field
from ovsnet.flows.flow import Conjunction, Flow, Term

Values = tuple[int, ...]
_Signature = tuple[tuple[Field, int | None], ...]


class Found(NamedTuple):
    """The flow that a lookup decided on (None: no flow matches), and its rivals.

    Rivals are what the choice was arbitrary against: OpenFlow leaves undefined which of two flows
    of one priority that match one packet is taken, and Open vSwitch which of two conjunctions.
    None among them stands for a conjunction for whose conj_id no flow matches.
    """

    flow: Flow | None
    rivals: tuple[Flow | None, ...] = ()


class _Entry(NamedTuple):
    flow: Flow
    conjunctions: tuple[Conjunction, ...]


class _Subtable:
    """The flows whose matches look at the same bits, most urgent first for each key."""

    def __init__(self, signature: _Signature) -> None:
        self._places = signature
        self._entries: dict[Values, list[_Entry]] = {}
        self.highest = -1

    def add(self, entry: _Entry) -> None:
        flow = entry.flow
        key = tuple(term.value for term in flow.match)
        self._entries.setdefault(key, []).append(entry)
        self.highest = max(self.highest, flow.priority)

    def sort(self) -> None:
        for entries in self._entries.values():
            entries.sort(key=_urgency, reverse=True)

    def get(self, values: Values) -> list[_Entry] | None:
        key = tuple(
            values[field] if mask is None else values[field] & mask for field, mask in self._places
        )
        return self._entries.get(key)


def _urgency(entry: _Entry) -> int:
    return entry.flow.priority


class TableIndex:
    """The flows of one table, ready for lookups. Not changed once made.

    Of several flows with the same key the last one counts, as when they are added to a switch.
    """

    def __init__(self, flows: Iterable[Flow]) -> None:
        subtables: dict[_Signature, _Subtable] = {}
        self.flows = tuple({flow.key: flow for flow in flows}.values())
        for flow in self.flows:
            signature = tuple(_place(term) for term in flow.match)
            if signature not in subtables:
                subtables[signature] = _Subtable(signature)
            parts = tuple(a for a in flow.actions if isinstance(a, Conjunction))
            subtables[signature].add(_Entry(flow, parts))
        self._subtables = sorted(subtables.values(), key=lambda s: s.highest, reverse=True)
        for subtable in self._subtables:
            subtable.sort()

    def lookup(self, values: Values) -> Found:
        """The flow for a packet with these values of all fields."""
        plain, soft = self._candidates(values)
        while True:
            floor = plain[0].priority if plain else -1
            soft = [entries for entries in soft if entries and entries[0].flow.priority > floor]
            if not soft:
                return _decided(plain)
            urgent = max(entries[0].flow.priority for entries in soft)
            top = [entries[0] for entries in soft if entries[0].flow.priority == urgent]
            outcomes = [self._plain_with(values, identity) for identity in _complete(top)]
            found = next((outcome for outcome in outcomes if outcome), None)
            if found:
                return Found(found[0], _rivals(found, outcomes))
            # Nothing came of the conjunctions of this priority. Flows with exactly the same
            # match and a lower priority, which they hid, get their turn.
            for place, entries in enumerate(soft):
                if entries[0].flow.priority != urgent:
                    continue
                rest = entries[1:]
                if rest and not rest[0].conjunctions:
                    plain = _better(plain, rest[0].flow)
                    rest = []
                soft[place] = rest

    def _candidates(self, values: Values) -> tuple[list[Flow], list[list[_Entry]]]:
        """The most urgent plain flows, and for each match that begins with a part of a
        conjunction all its flows in their order.
        """
        plain: list[Flow] = []
        soft: list[list[_Entry]] = []
        for subtable in self._subtables:
            if plain and subtable.highest < plain[0].priority:
                break
            entries = subtable.get(values)
            if not entries:
                continue
            if entries[0].conjunctions:
                soft.append(entries)
            else:
                plain = _better(plain, entries[0].flow)
        return plain, soft

    def _plain_with(self, values: Values, conjunction: int) -> list[Flow]:
        """The most urgent plain flows for the packet with this conj_id."""
        at = Field.CONJ_ID
        plain, _ = self._candidates((*values[:at], conjunction, *values[at + 1 :]))
        return plain


def _place(term: Term) -> tuple[Field, int | None]:
    return term.field, term.mask


def _better(best: list[Flow], flow: Flow) -> list[Flow]:
    """The more urgent of the two, or both where they tie."""
    if not best or flow.priority > best[0].priority:
        return [flow]
    return [*best, flow] if flow.priority == best[0].priority else best


def _decided(plain: list[Flow]) -> Found:
    return Found(plain[0], tuple(plain[1:])) if plain else Found(None)


def _rivals(found: list[Flow], outcomes: list[list[Flow]]) -> tuple[Flow | None, ...]:
    """What else the conjunctions that were complete together could have led to."""
    others: list[Flow | None] = [*found[1:]]
    none: list[Flow | None] = [None]
    for outcome in outcomes:
        others += [flow for flow in (outcome or none) if flow != found[0] and flow not in others]
    return tuple(others)


def _complete(entries: list[_Entry]) -> list[int]:
    """Ids of the conjunctions that these flows, all of one priority, complete.

    A conjunction of more clauses than there are flows does not count as complete, even where one
    flow holds several of its clauses.
    """
    clauses: dict[int, set[int]] = defaultdict(set)
    complete = []
    for entry in entries:
        for part in entry.conjunctions:
            if part.of > len(entries):
                continue
            held = clauses[part.id]
            if part.clause in held:
                continue
            held.add(part.clause)
            if len(held) == part.of:
                complete.append(part.id)
    return complete
