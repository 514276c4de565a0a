"""Grants by port name: which numbers pods declare under a name, and the grants for each number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ovsnet.controller.policy.grants import NamedGrant, PortName
from ovsnet.controller.policy.selection import Member
from ovsnet.controller.policy.standings import Standings
from ovsnet.model import Protocol, RuleRef

_PROTOCOLS = frozenset(map(str, Protocol))


class PortNames:
    """A grant by name stands once for every number that some pod declares under the name."""

    def __init__(self, standings: Standings) -> None:
        self._standings = standings
        self._rules: dict[PortName, dict[NamedGrant, set[RuleRef]]] = {}
        self._numbers: dict[PortName, Counter[int]] = {}

    def add(self, named: NamedGrant, rule: RuleRef) -> None:
        """A rule makes a grant by name."""
        self._rules.setdefault(named.name, {}).setdefault(named, set()).add(rule)
        for number in self._numbers.get(named.name, ()):
            self._standings.add(named.of(number), rule)

    def remove(self, named: NamedGrant, rule: RuleRef) -> None:
        """A rule makes a grant by name no more."""
        for number in self._numbers.get(named.name, ()):
            self._standings.remove(named.of(number), rule)
        grants = self._rules[named.name]
        grants[named].discard(rule)
        if not grants[named]:
            del grants[named]
        if not grants:
            del self._rules[named.name]

    def count(self, before: Member | None, now: Member | None) -> None:
        """A pod declares other ports than before; None: it is not there."""
        old, new = frozenset(_declared(before)), frozenset(_declared(now))
        for name, number in new - old:
            numbers = self._numbers.setdefault(name, Counter())
            numbers[number] += 1
            if numbers[number] == 1:
                for named, rule in self._made(name):
                    self._standings.add(named.of(number), rule)
        for name, number in old - new:
            numbers = self._numbers[name]
            numbers[number] -= 1
            if numbers[number]:
                continue
            del numbers[number]
            if not numbers:
                del self._numbers[name]
            for named, rule in self._made(name):
                self._standings.remove(named.of(number), rule)

    def _made(self, name: PortName) -> Iterator[tuple[NamedGrant, RuleRef]]:
        for named, rules in self._rules.get(name, {}).items():
            yield from ((named, rule) for rule in rules)


def _declared(member: Member | None) -> Iterator[tuple[PortName, int]]:
    """The named ports of a pod, each once."""
    if member is None:
        return
    ports = (p for p in member.ports if p.name and p.protocol in _PROTOCOLS)
    for name in {PortName(Protocol(p.protocol), p.name) for p in ports}:
        number = name.number(member)
        if number is not None:
            yield name, number
