"""The port axis, cut where policies change their mind."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import msgspec

from ovsnet.model import Pod, PolicyRule, Protocol
from ovsnet.policy.rules import port_span

PORTS = 1 << 16


class Span(NamedTuple):
    """Ports from `first` to `last`, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


class Ports(msgspec.Struct, frozen=True):
    """Ports of a protocol in ascending order, apart from each other. Without a protocol: all
    protocols that a policy cannot name, which have no ports here.
    """

    protocol: Protocol | None
    spans: tuple[Span, ...] = ()

    def __str__(self) -> str:
        if self.protocol is None:
            return "other protocols"
        if self.spans == (Span(0, PORTS - 1),):
            return str(self.protocol)
        return f"{self.protocol} {', '.join(map(str, self.spans))}"


def segments(
    rules: Iterable[PolicyRule], protocol: Protocol, destinations: Iterable[Pod | None]
) -> tuple[Span, ...]:
    """All ports, cut so that none of these rules tells two of one segment apart, whichever of the
    destinations they are ports of.
    """
    ports = {p for rule in rules for p in rule.ports or () if p.protocol is protocol}
    cuts = {0, PORTS}
    for destination in destinations:
        for port in ports:
            span = port_span(port, destination)
            if span is not None:
                cuts |= {span.start, span.stop}
    return tuple(Span(first, next_ - 1) for first, next_ in pairwise(sorted(cuts)))


def joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Ascending spans, those that touch made one."""
    found: list[Span] = []
    for span in spans:
        if found and found[-1].last + 1 == span.first:
            found[-1] = Span(found[-1].first, span.last)
        else:
            found.append(span)
    return tuple(found)
