"""What is reported as settled is in effect: real packets through a switch with a full cache."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pytest
from cached_flows import BRIDGE, Change, Stream, Switch, running
from places import wait_for
from slowness import SLOW

from ovsnet.cni.revalidation import connected
from ovsnet.cni.settling import Cache, Settling
from ovsnet.cni.stampwatch import Stamp, StampWatch

CACHED = 15_000
CHANGES = 16
PACKETS = 100
"""So many are watched after each report."""


@pytest.fixture(scope="module")
def switch() -> Iterator[Switch]:
    with running() as found:
        found.fill(CACHED)
        yield found


class Reports:
    """When which stamp was reported as settled."""

    def __init__(self) -> None:
        self._at: dict[int, float] = {}
        self._changed = threading.Condition()

    def __call__(self, stamp: Stamp | None) -> None:
        now = time.monotonic()
        with self._changed:
            if stamp is not None:
                self._at.setdefault(stamp.serial, now)
            self._changed.notify_all()

    def wait(self, change: Change) -> float:
        """When this change was reported, which is waited for."""
        with self._changed:
            there = self._changed.wait_for(lambda: change.serial in self._at, 20 * SLOW)
            assert there, f"no report of {change}"
            return self._at[change.serial]


@contextlib.contextmanager
def agent(switch: Switch, cache: AbstractContextManager[Cache] | None = None) -> Iterator[Reports]:
    """The part of an agent that watches the switch, on that one."""
    rundir = switch.ovs.rundir
    reports = Reports()
    settling = Settling(
        lambda: StampWatch(switch.ovs.management_socket(BRIDGE)),
        lambda: cache or connected(rundir),
        reports,
    )
    settling.start()
    try:
        yield reports
    finally:
        settling.stop()


class NeverWaits:
    """Takes the switch's tables for what it does."""

    def finish(self) -> None:
        pass


@dataclass(frozen=True)
class Outcome:
    """How many packets were sent after a change was reported as settled, and how many arrived."""

    allowed: bool
    sent: int
    arrived: int


def full(switch: Switch) -> bool:
    """Whether the cache is full; if it is not it is filled."""
    if switch.cached() > CACHED * 0.9:
        return True
    switch.fill(CACHED)
    return False


def after_the_reports(
    switch: Switch, cache: AbstractContextManager[Cache] | None = None
) -> list[Outcome]:
    """Forbid and allow the stream by turns, at any moment of the switch's own rounds."""
    chance = random.Random(13)
    periods: list[tuple[Change, float, float]] = []
    with agent(switch, cache) as reports, Stream(switch) as stream:
        for number in range(CHANGES):
            time.sleep(chance.uniform(0, 0.5))
            # A report comes with the whole cache thrown away, that of the agent's start, too.
            wait_for(lambda: full(switch), f"{CACHED} cached flows")
            change = switch.write(allowed=number % 2 == 1, others=chance.choice((0, 0, 1)))
            reported = reports.wait(change)
            stream.send_more(PACKETS)
            periods.append((change, reported, time.monotonic()))
        time.sleep(0.3)
    return [Outcome(change.allowed, *stream.between(b, e)) for change, b, e in periods]


def test_nothing_forbidden_passes_once_that_is_reported_and_what_is_allowed_does(
    switch: Switch,
) -> None:
    for outcome in after_the_reports(switch):
        assert outcome.sent >= PACKETS
        if outcome.allowed:
            assert outcome.arrived > outcome.sent * 0.95
        else:
            assert outcome.arrived == 0


def test_to_report_when_the_switch_has_the_flows_is_too_early(switch: Switch) -> None:
    """The same packets and an agent that does not wait: the test above sees the difference."""
    outcomes = after_the_reports(switch, contextlib.nullcontext(NeverWaits()))
    early = [outcome for outcome in outcomes if outcome.arrived and not outcome.allowed]
    assert len(early) > CHANGES / 4
