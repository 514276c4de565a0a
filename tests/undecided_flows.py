"""Flows between which a switch may choose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations

from ovsnet.flows.flow import Flow, Match
from ovsnet.names import Table


def undecided(flows: Iterable[Flow]) -> Iterator[tuple[Flow, Flow]]:
    """Pairs of flows of one priority that can match the same packet and do not do the same."""
    by_place: dict[tuple[Table, int], list[Flow]] = {}
    for flow in flows:
        by_place.setdefault((flow.table, flow.priority), []).append(flow)
    for together in by_place.values():
        for a, b in combinations(together, 2):
            if a.actions != b.actions and can_meet(a.match, b.match):
                yield a, b


def can_meet(a: Match, b: Match) -> bool:
    """Whether some packet fits both matches."""
    terms = {t.field: t for t in b}
    for one in a:
        other = terms.get(one.field)
        if other is None:
            continue
        full = one.field.full
        common = (full if one.mask is None else one.mask) & (
            full if other.mask is None else other.mask
        )
        if one.value & common != other.value & common:
            return False
    return True
