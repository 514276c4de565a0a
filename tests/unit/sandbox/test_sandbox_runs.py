"""A test's sandbox is taken down whatever ends the run, and however often."""

from __future__ import annotations

import os
import signal

import pytest
import sandbox_runs


class Lab:
    """A sandbox that is interrupted at a moment of its life, and whether it is down."""

    def __init__(self, *moments):
        self.moments = moments
        self.down_to_the_end = False

    def __call__(self, *_):
        return self

    def at(self, moment):
        for each, number in self.moments:
            if each == moment:
                os.kill(os.getpid(), number)

    def up(self, nodes):
        self.at("up")

    def refusals(self):
        return set()

    def down(self):
        self.at("down")
        self.down_to_the_end = True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "moments", [("up",), ("used",), ("up", "down"), ("used", "down"), ("used", "down", "down")]
)
def test_it_is_taken_down_to_the_end(monkeypatch, number, moments):
    lab = Lab(*((moment, number) for moment in moments))
    monkeypatch.setattr(sandbox_runs, "Lab", lab)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with sandbox_runs.ended_by_a_signal():
        before = signal.getsignal(number)
        with pytest.raises(KeyboardInterrupt), sandbox_runs.sandbox("unused", "a", 1):
            lab.at("used")
        assert lab.down_to_the_end
        # A later one ends what comes after.
        assert signal.getsignal(number) is before
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
