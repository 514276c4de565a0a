"""Checks and their tally. A check is made of what was seen, after it was seen."""

from __future__ import annotations

import msgspec


class Check(msgspec.Struct, frozen=True):
    """Something that was claimed, whether it was so, and what was seen."""

    claim: str
    passed: bool
    seen: str = ""


class Tally:
    """All the checks of a run."""

    def __init__(self) -> None:
        self._checks: list[Check] = []

    def add(self, *checks: Check) -> None:
        """Count checks."""
        self._checks.extend(checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        """Those that did not pass."""
        return tuple(check for check in self._checks if not check.passed)

    @property
    def passed(self) -> bool:
        """Whether there were any and all of them passed."""
        return bool(self._checks) and not self.failed

    @property
    def verdict(self) -> str:
        """The last line of the demonstration."""
        total = len(self._checks)
        return f"demo: {total - len(self.failed)}/{total} checks passed"
