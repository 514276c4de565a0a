"""Calls of a service, and what came of them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ovsnet.sandbox.demo.checks import Check


class Call(msgspec.Struct, frozen=True):
    """A way to call a service: who calls, from which namespace, and where."""

    caller: str
    by: str
    family: int
    source: Path
    target: str
    port: int


class Answered(msgspec.Struct, frozen=True):
    """What came of a way: which pods answered how many calls, and whom they saw."""

    call: Call
    calls: int
    pods: frozenset[str]
    seen: frozenset[str]
    expected: frozenset[str]
    message: str = ""

    @property
    def check(self) -> Check:
        """Whether every pod answered, and nobody else."""
        call = self.call
        claim = f"{call.caller} reaches every endpoint by {call.by}, IPv{call.family}"
        words = f"{len(self.pods)} of {len(self.expected)} pods in {self.calls} calls"
        return Check(claim, self.pods == self.expected, f"{words} {self.message}".strip())
