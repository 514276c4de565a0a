"""Which revision of a switch's flows is in effect, from what the agent beside it reports.

An agent says by which stamp the flows go that are in effect: by its digest and its serial number.
The digest alone does not do. Flows that are changed and changed back have the digest that they had
before, and a report of then that is late, or repeated, would be taken for one of now.

Like the session that it belongs to it does no input or output and keeps no clock.
"""

from __future__ import annotations

from typing import Final

import msgspec

_REMEMBERED: Final = 256
"""How many acknowledged stamps are kept. Agents report the newest; older ones never matter."""

SERIALS: Final = 1 << 32


class Written(msgspec.Struct, frozen=True):
    """A stamp that a switch has had, the revision that it stood for, and since when."""

    digest: int
    revision: int
    since: float


class Settlement:
    """The stamps that one session knows of its switch, and the newest that is in effect.

    `serial` is where the numbers of the stamps begin that the session writes: of a switch that
    has a stamp already, behind the one that it has.
    """

    def __init__(self, serial: int) -> None:
        self.revision: int | None = None
        self._serial = serial % SERIALS
        self._known: dict[int, Written] = {}
        self._early: tuple[int, int] | None = None

    def follow(self, serial: int) -> None:
        """The switch has a stamp of this number: the next ones come after it."""
        self._serial = serial

    def next_serial(self) -> int:
        """The number of the next stamp; never 0, which a stamp without a number has."""
        self._serial = self._serial % (SERIALS - 1) + 1
        return self._serial

    def has(self, serial: int, digest: int, revision: int, now: float) -> float | None:
        """The switch has this stamp now, which stands for this revision.

        Returns the seconds that it took to come into effect, if that is known to be so already.
        """
        self._known.pop(serial, None)
        self._known[serial] = Written(digest, revision, now)
        if len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]
        # An agent may be quicker to report than the switch's answer is to get here.
        if self._early != (serial, digest):
            return None
        self._early = None
        return self.reported(serial, digest, now)

    def reported(self, serial: int, digest: int, now: float) -> float | None:
        """The agent says that what this stamp stands for is in effect.

        Returns the seconds from the switch's answer until now, if a newer revision is in effect
        than was known before; None if this is no news, or of no stamp that the switch has.
        """
        found = self._known.get(serial)
        if found is None or found.digest != digest:
            self._early = serial, digest
            return None
        if self.revision is not None and found.revision <= self.revision:
            return None
        self.revision = found.revision
        return now - found.since
