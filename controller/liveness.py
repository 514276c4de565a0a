"""Whether one switch still lives: how long it has been silent, and asking it for a sign of life.

Like the session that it belongs to it does no input or output and keeps no clock.
"""

from __future__ import annotations


class Liveness:
    """After `quiet` seconds of silence a switch is to be asked; after `dead` it is given up.

    It is asked again after as much more silence, whether or not the question got there.
    """

    def __init__(self, quiet: float, dead: float, now: float) -> None:
        self._quiet = quiet
        self._dead = dead
        self._heard = self._asked = now

    @property
    def due(self) -> float:
        """When the next of `to_be_asked` and `gone` comes true, if nothing is heard."""
        return min(self._ask_at, self._heard + self._dead)

    def heard(self, now: float) -> None:
        """The switch has said something."""
        self._heard = now

    def asked(self, now: float) -> None:
        """It has been asked for a sign of life."""
        self._asked = now

    def silence(self, now: float) -> float:
        """How long it has said nothing, in seconds."""
        return now - self._heard

    def gone(self, now: float) -> bool:
        """Whether it has been silent for too long."""
        return self.silence(now) >= self._dead

    def to_be_asked(self, now: float) -> bool:
        """Whether it is time to ask."""
        return now >= self._ask_at

    @property
    def _ask_at(self) -> float:
        return max(self._heard, self._asked) + self._quiet
