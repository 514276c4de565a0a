"""Flows as `ovs-ofctl dump-flows` prints them: which, how old, how often used. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

_FLOW = re.compile(r"^\s*cookie=")
_COUNTERS = re.compile(r"(?:duration|n_packets|n_bytes|idle_age|hard_age)=(?P<value>[\d.]+)s?,? ?")
_DURATION = re.compile(r"duration=([\d.]+)s")
_PACKETS = re.compile(r"n_packets=(\d+)")
_COOKIE = re.compile(r"cookie=(\w+)")
_TABLE = re.compile(r'table="?([\w-]+)')


class Flow(msgspec.Struct, frozen=True):
    """One flow of a switch. `identity` is the line without what changes by itself,
    `owner` its cookie."""

    identity: str
    owner: str
    table: str
    duration: float
    packets: int
    line: str


def parse(dump: str) -> tuple[Flow, ...]:
    """The flows of a dump, in its order; other lines are passed over."""
    flows = []
    for raw in dump.splitlines():
        if not _FLOW.match(raw):
            continue
        line = raw.strip()
        duration, packets = _DURATION.search(line), _PACKETS.search(line)
        table, cookie = _TABLE.search(line), _COOKIE.search(line)
        flows.append(
            Flow(
                identity=_COUNTERS.sub("", line),
                owner=cookie[1] if cookie else "",
                table=table[1] if table else "0",
                duration=float(duration[1]) if duration else 0.0,
                packets=int(packets[1]) if packets else 0,
                line=line,
            )
        )
    return tuple(flows)


class Comparison(msgspec.Struct, frozen=True):
    """What became of a switch's flows between two dumps."""

    kept: int
    added: tuple[str, ...]
    removed: tuple[str, ...]
    rewritten: tuple[str, ...]

    @property
    def untouched(self) -> bool:
        """Whether every flow is still the same one."""
        return self.kept > 0 and not (self.added or self.removed or self.rewritten)

    @property
    def text(self) -> str:
        """In words."""
        if self.untouched:
            return f"all {self.kept} flows kept their age and counters"
        return (
            f"{self.kept} flows kept, {len(self.rewritten)} rewritten, {len(self.added)} added, "
            f"{len(self.removed)} removed"
        )


def compare(before: Sequence[Flow], after: Sequence[Flow], elapsed: float) -> Comparison:
    """Compare two dumps taken at least `elapsed` seconds apart.

    A flow that is written anew begins at age 0 with counters 0, however alike it is; so one that
    has not aged by the time between the dumps, or counts less than it did, was rewritten.
    """
    old: Mapping[str, Flow] = {flow.identity: flow for flow in before}
    new: Mapping[str, Flow] = {flow.identity: flow for flow in after}
    both = [identity for identity in old if identity in new]
    rewritten = tuple(
        identity
        for identity in both
        if new[identity].duration < old[identity].duration + elapsed
        or new[identity].packets < old[identity].packets
    )
    return Comparison(
        kept=len(both) - len(rewritten),
        added=tuple(identity for identity in new if identity not in old),
        removed=tuple(identity for identity in old if identity not in new),
        rewritten=rewritten,
    )


def sample(flows: Sequence[Flow], count: int) -> tuple[Flow, ...]:
    """A few flows to look at, one of a table, in the tables' order: the busiest that tell most.

    The owner of most flows is the node itself, whose flows are much the same everywhere; flows of
    others, and of owners not shown yet, come first.
    """
    used = [flow for flow in flows if flow.packets]
    owners = Counter(flow.owner for flow in used)
    usual = owners.most_common(1)[0][0] if owners else ""
    tables: dict[str, list[Flow]] = {}
    for flow in used:
        tables.setdefault(flow.table, []).append(flow)
    shown: set[str] = set()
    chosen = []
    for table in tables.values():
        best = max(table, key=lambda f: (f.owner != usual, f.owner not in shown, f.packets))
        shown.add(best.owner)
        chosen.append(best)
    first = sorted(chosen, key=lambda flow: flow.owner == usual)[:count]
    return tuple(flow for flow in chosen if flow in first)
