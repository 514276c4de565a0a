"""Which of several controllers leads: the election by a Lease, as a state machine that does no
input or output and keeps no clock.

    step = elector.next(now)              # Look, Write, or a time to Wait
    elector.seen(lease, now)              # the Lease was read; None: there is none
    elector.written(lease, now)           # it was written, and is this now
    elector.conflicted(now)               # somebody else had written it before
    elector.failed(now)                   # no answer: nobody knows

As in client-go's leader election, clocks are never compared. Whoever does not hold the Lease notes
when it *saw* it change for the last time, and takes it when that is longer ago, by its own clock,
than the Lease is held. Every writing replaces one version, so of two who take it one succeeds.

A *term* is one more than the Lease's `leaseTransitions`, and the generation id by which the leader
asks switches for their master's role (OpenFlow 1.5.1, 6.3.5). Whoever takes the Lease raises it
above every one that it has seen; so no two leaders have the same, and a switch refuses the older.
That is why a leader may go on for as long as it cannot reach the API server: nobody else can take
the Lease then, and if somebody has, switches know. It stands by as soon as it learns of another.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import Enum, auto
from typing import Final, Self, TypeAlias

import msgspec

from ovsnet.api.lease import Lease

_MOST_TRANSITIONS: Final = 2**31 - 2
"""`leaseTransitions` is an int32; the last one is left free."""

_HALF: Final = 2**63
_WHOLE: Final = 2**64


class Terms(msgspec.Struct, frozen=True):
    """How the Lease is held: for `seconds` after a renewal; a leader renews it every `renew`
    seconds, and the others look every `look` seconds.
    """

    seconds: int = 3
    renew: float = 1.0
    look: float = 0.5
    patience: float = 1.0
    """So long an answer of the API server may take."""

    @classmethod
    def of(cls, seconds: int, renew: float) -> Self:
        """Terms that others can be derived from: who stands by looks twice as often as the leader
        renews, and an answer may take a third of the Lease.
        """
        return cls(seconds, renew, renew / 2, seconds / 3)


class Look(Enum):
    """Read the Lease."""

    LOOK = auto()


class Write(msgspec.Struct, frozen=True):
    """Write this, in place of the version that it names."""

    lease: Lease


class Wait(msgspec.Struct, frozen=True):
    """Nothing to do until then."""

    until: float


Step: TypeAlias = Look | Write | Wait


class Standing(msgspec.Struct, frozen=True):
    """Whether we lead, or who does. `holder` may be empty: nobody that we know of. `term` is the
    leader's, 0 if none is known; `since` when it took over, by its own clock.
    """

    leads: bool = False
    holder: str = ""
    term: int = 0
    since: datetime | None = None


class Elector:
    """One candidate. `identity` must be no other's, not even that of an earlier self."""

    def __init__(self, identity: str, terms: Terms) -> None:
        self._identity = identity
        self._terms = terms
        self._lease: Lease | None = None
        self._standing = Standing()
        # When this version of the Lease was first seen, and when any was for the last time.
        self._seen_at = self._looked_at = float("-inf")
        # The greatest count of transitions that was seen; a Lease that was deleted has forgotten.
        self._most = -1
        self._looks = True
        self._at = self._renew_at = float("-inf")

    @property
    def standing(self) -> Standing:
        """Whether we lead, or who does."""
        return self._standing

    def next(self, now: float, wall: datetime) -> Step:
        """What to do now. `wall` is the time that the Lease is to show to people."""
        if now < self._at:
            return Wait(self._at)
        lease = self._lease
        if self._looks:
            return Look.LOOK
        if lease is None or not lease.holder:
            return Write(self._taken(wall))
        if self._standing.leads:
            if self._most > lease.transitions:
                return Write(self._taken(wall))
            return Write(msgspec.structs.replace(lease, renewed=wall))
        if now >= self._expires:
            return Write(self._taken(wall))
        return Look.LOOK

    def seen(self, lease: Lease | None, now: float) -> None:
        """The Lease is this; None: there is none."""
        known, self._lease = self._lease, lease
        changed = lease is None or known is None or lease.version != known.version
        # Who has not been able to look for so long cannot tell whether the leader has.
        if changed or now - self._looked_at > self._terms.seconds:
            self._seen_at = now
        self._looked_at = now
        self._looks = False
        # A leader whose Lease was deleted goes on: nobody else has it.
        if lease is not None:
            self._most = max(self._most, lease.transitions)
            # What bears our name only we can have written, even if we never heard that it was.
            leads = lease.holder == self._identity
            term = lease.transitions + 1 if lease.holder else 0
            self._standing = Standing(leads, lease.holder, term, lease.acquired)
        elif not self._standing.leads:
            self._standing = Standing()
        self._at = self._pause(now)

    def written(self, lease: Lease, now: float) -> None:
        """What we wrote is in the API server, as this."""
        self._renew_at = now + self._terms.renew
        self.seen(lease, now)

    def conflicted(self, now: float) -> None:
        """What we wanted to write was not written: it is not the version any more that we knew."""
        self._looks = True
        self._at = now

    def failed(self, now: float) -> None:
        """No answer came, and what was to be written may have been, or may be yet."""
        self._looks = self._looks or not self._standing.leads
        self._at = now + self._terms.look

    def outbid(self, term: int) -> None:
        """Switches have seen this term, which no Lease that we know of has reached: have ours
        raised above it. Only its holder can, so it is raised only if we are that still.
        """
        self._most = max(self._most, min(term - 1, _MOST_TRANSITIONS))
        if self._standing.leads:
            self._at = float("-inf")

    def release(self) -> Lease | None:
        """What to write so that another may take over at once; None if there is no need.

        From now on we stand by.
        """
        lease, leads = self._lease, self._standing.leads
        self._standing = Standing()
        if lease is None or not leads:
            return None
        return msgspec.structs.replace(lease, holder="")

    @property
    def _expires(self) -> float:
        """When the Lease is nobody's any more, unless it is renewed."""
        return self._seen_at + (self._lease.seconds if self._lease else 0)

    def _pause(self, now: float) -> float:
        """Until when there is nothing to do, now that the Lease is known."""
        if self._lease is None or not self._lease.holder:
            return now
        if self._standing.leads:
            return max(now, self._renew_at)
        return min(now + self._terms.look, max(self._expires, now))

    def _taken(self, wall: datetime) -> Lease:
        transitions = min(self._most + 1, _MOST_TRANSITIONS)
        return Lease(
            holder=self._identity,
            seconds=self._terms.seconds,
            transitions=transitions,
            acquired=wall,
            renewed=wall,
            metadata=self._lease.metadata if self._lease else {},
        )


def is_later(generation: int, term: int) -> bool:
    """Whether a switch that has seen this generation id refuses this term.

    The difference of 64-bit numbers is taken for a signed one, so that a switch that has never had
    a master, and says 2^64-1, takes every term (OpenFlow 1.5.1, 6.3.5).
    """
    return 0 < (generation - term) % _WHOLE < _HALF


def outbidding(refused: Mapping[str, int], served: int) -> int | None:
    """The term to go above, if more nodes' switches have refused ours than take it (`served`).

    `refused` has the generation ids that those have seen. After a Lease was deleted they are all
    the same. One node that lies must not be able to use up the terms, of which there are 2^31: so
    the most is taken that more than half of all switches have reached.
    """
    needed = (len(refused) + served) // 2 + 1
    found = sorted(refused.values(), reverse=True)
    return found[needed - 1] if len(found) >= needed else None
