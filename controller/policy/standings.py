"""Every grant in force, with the rules that make it, and the number of its conjunction."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ovsnet.controller.policy.feeds import Peers, Subjects
from ovsnet.controller.policy.grants import Grant, cookie_of
from ovsnet.controller.policy.selection import Group, Listener, Selection
from ovsnet.controller.policy.standing import StandingGrant
from ovsnet.controller.policy.work import Work
from ovsnet.model import RuleRef

_RANK_BITS = 8
_HASH_OCTETS = 3


class Standings:
    """Grants stand while some rule makes them. `work` gives what the present event changes."""

    def __init__(self, selection: Selection, work: Callable[[], Work]) -> None:
        self._selection = selection
        self._work = work
        self._standing: dict[Grant, StandingGrant] = {}
        self._listening: dict[Grant, list[tuple[Group, Listener]]] = {}
        # Conjunctions have 32 bits: a hash of 24 and a rank among the grants that share it. So a
        # grant's number does not depend on the order in which grants came.
        self._by_hash: dict[int, dict[bytes, Grant]] = {}

    def __iter__(self) -> Iterator[StandingGrant]:
        return iter(self._standing.values())

    def add(self, grant: Grant, rule: RuleRef) -> None:
        """A rule makes a grant."""
        standing = self._standing.get(grant)
        if standing is None:
            standing = self._begin(grant)
        standing.rules.add(rule)

    def remove(self, grant: Grant, rule: RuleRef) -> None:
        """A rule makes a grant no more."""
        standing = self._standing[grant]
        standing.rules.discard(rule)
        if not standing.rules:
            self._end(standing)

    def _begin(self, grant: Grant) -> StandingGrant:
        digest = grant.digest()
        standing = self._standing[grant] = StandingGrant(grant, cookie_of(digest), self._work)
        number = _hash(digest)
        self._by_hash.setdefault(number, {})[digest] = grant
        self._rank(number)
        for place in grant.peer_places:
            standing.peer_comes(place)
        feeds: list[tuple[Group, Listener]] = [
            (grant.subjects, Subjects(standing)),
            *((group, Peers(standing, group)) for group in grant.peer_groups),
        ]
        self._listening[grant] = feeds
        for group, feed in feeds:
            self._selection.listen(group, feed)
        return standing

    def _end(self, standing: StandingGrant) -> None:
        grant = standing.grant
        standing.withdraw()
        for group, feed in self._listening.pop(grant):
            self._selection.stop(group, feed)
        del self._standing[grant]
        digest = grant.digest()
        number = _hash(digest)
        del self._by_hash[number][digest]
        if self._by_hash[number]:
            self._rank(number)
        else:
            del self._by_hash[number]

    def _rank(self, number: int) -> None:
        """Give the grants of one hash their conjunctions, by rank. That begins at 1: conjunction 0
        would hold for every packet.
        """
        grants = self._by_hash[number]
        for rank, digest in enumerate(sorted(grants), 1):
            if rank >> _RANK_BITS:
                raise ValueError(f"more than {rank - 1} grants have the hash {number:#x}")
            self._standing[grants[digest]].renumber(number << _RANK_BITS | rank)


def _hash(digest: bytes) -> int:
    return int.from_bytes(digest[:_HASH_OCTETS], "big")
