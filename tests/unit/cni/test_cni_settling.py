"""What is reported as settled, in every order of changes, waits and losses."""

from __future__ import annotations

import contextlib
import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsnet.cni.control import ControlError
from ovsnet.cni.flowupdates import WatchError
from ovsnet.cni.settling import Settling
from ovsnet.cni.stampwatch import Stamp


class Play:
    """A switch whose stamp changes as the test says, and everything that is done with it.

    `script` are the stamps that it has one after the other; `during` maps a stamp to those that
    it gets while the cache is put right for that one.
    """

    def __init__(self, script, during=None, fails=()):
        self.script = list(script)
        self.during = during or {}
        self.fails = list(fails)
        self.stamp = None
        self.waiting_for = []
        self.finished = []
        self.told = []

    @contextlib.contextmanager
    def watch(self):
        yield self

    @contextlib.contextmanager
    def cache(self):
        yield self

    def newest(self):
        return self.stamp

    def wait(self):
        if not self.script:
            raise WatchError("the switch has hung up")
        self.stamp = self.script.pop(0)

    def cut(self):
        pass

    def finish(self):
        began_with = self.stamp
        self.waiting_for.append(began_with)
        for later in self.during.get(began_with, ()):
            self.stamp = later
        if self.fails and self.fails[0] == began_with:
            self.fails.pop(0)
            raise ControlError("ovs-vswitchd is gone")
        self.finished.append(began_with)

    def settled(self, stamp):
        self.told.append(stamp)


def stamps(*serials):
    return [Stamp(100 + serial % 2, serial) for serial in serials]


def follow(play, error=WatchError):
    with pytest.raises(error):
        Settling(play.watch, play.cache, play.settled).follow()
    return play.told


def test_each_stamp_is_reported_after_its_wait():
    play = Play(stamps(1, 2, 3))
    assert follow(play) == stamps(1, 2, 3)
    assert play.finished == stamps(1, 2, 3)


def test_a_switch_without_a_stamp_has_nothing_settled():
    assert follow(Play([None, None])) == []
    assert follow(Play([None, *stamps(1), None, *stamps(2)])) == stamps(1, 2)


def test_the_same_stamp_told_twice_is_waited_for_once():
    play = Play([*stamps(1), *stamps(1), *stamps(1)])
    follow(play)
    assert play.waiting_for == stamps(1)


def test_stamps_that_change_while_it_waits_cost_one_wait_more_and_the_newest_is_reported():
    (first,) = stamps(1)
    play = Play([first], during={first: stamps(2, 3, 4)})
    assert follow(play) == stamps(1, 4)
    assert play.waiting_for == stamps(1, 4)


def test_what_is_reported_is_what_was_there_before_the_wait_began():
    """Not what has come meanwhile, which the wait says nothing about."""
    first, second = stamps(1, 2)
    play = Play([first], during={first: [second], second: stamps(3)})
    assert follow(play) == stamps(1, 2, 3)


def test_flows_that_are_changed_and_changed_back_are_waited_for_again():
    play = Play([Stamp(5, 1), Stamp(6, 2), Stamp(5, 3)])
    assert follow(play) == [Stamp(5, 1), Stamp(6, 2), Stamp(5, 3)]
    assert len(play.finished) == 3


def test_a_wait_that_fails_reports_nothing():
    (first,) = stamps(1)
    assert follow(Play([first], fails=[first]), ControlError) == []


class Run:
    """A settling thread on switches that come and go: each play is one run of the switch."""

    def __init__(self, *plays):
        self.plays = list(plays)
        self.told = []
        self.done = threading.Event()
        self.settling = Settling(self.watch, self.cache, self.told.append)

    @contextlib.contextmanager
    def watch(self):
        if not self.plays:
            self.done.set()
            raise WatchError("there is no switch")
        self.play = self.plays.pop(0)
        yield self.play

    @contextlib.contextmanager
    def cache(self):
        yield self.play

    def run(self):
        self.settling.start()
        assert self.done.wait(20)
        self.settling.stop()
        return self.told


def test_a_switch_that_is_gone_has_nothing_settled_until_the_next_one_has():
    (first, second) = stamps(1, 2)
    told = Run(Play([first]), Play([None]), Play([second])).run()
    assert told[:5] == [first, None, None, second, None]
    assert set(told[5:]) <= {None}


def test_the_same_stamp_of_another_run_of_the_switch_is_waited_for_again():
    (first,) = stamps(1)
    plays = Play([first]), Play([first])
    told = Run(*plays).run()
    assert told[:4] == [first, None, first, None]
    assert [play.finished for play in plays] == [[first], [first]]


def test_a_fault_of_its_own_does_not_end_it(caplog):
    (first, second) = stamps(1, 2)
    broken = Play([first])
    broken.finish = lambda: 1 / 0
    told = Run(broken, Play([second])).run()
    assert told[:3] == [None, second, None]
    assert "watching the switch failed" in caplog.text


def test_it_ends_while_it_waits_for_the_switch():
    hold = threading.Event()

    class Silent(Play):
        def wait(self):
            hold.wait(20)
            raise WatchError("cut off")

        def cut(self):
            hold.set()

    run = Run(Silent([]))
    run.settling.start()
    run.settling.stop()
    assert set(run.told) <= {None}


def test_it_ends_at_once_if_it_is_ended_before_it_is_connected():
    run = Run()
    run.settling.start()
    assert run.done.wait(20)
    run.settling.stop()


@given(seed=st.integers(0, 1 << 32))
def test_in_any_order_only_what_was_waited_for_is_reported_and_the_newest_in_the_end(seed):
    chance = random.Random(seed)
    serials = iter(range(1, 1000))

    def some(most):
        return [Stamp(chance.randint(1, 2), next(serials)) for _ in range(chance.randint(0, most))]

    script = [
        stamp
        for stamp in some(8)
        for stamp in ([None, stamp] if chance.random() < 0.2 else [stamp])
    ]
    during = {stamp: some(3) for stamp in script if stamp is not None and chance.random() < 0.5}
    play = Play(script, during)
    told = follow(play)
    assert told == play.finished
    assert [stamp.serial for stamp in told] == list(dict.fromkeys(s.serial for s in told))
    if play.stamp is not None:
        assert told[-1] == play.stamp
