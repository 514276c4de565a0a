"""Which connections are ended and when, step by step and in any order of changes and packets."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from moving_play import CLIENTS, ENDPOINTS, OverError, Switch, moving, play

from ovsnet.cni.moving import Agenda
from ovsnet.cni.stampwatch import Stamp


@pytest.fixture
def switch() -> Switch:
    """Two clients with an endpoint each."""
    made = Switch()
    made.change(add=[0, 1])
    made.tracked = {0: 0, 1: 1}
    made.tell(len(made.untold))
    return made


def test_the_clients_of_an_endpoint_that_goes_are_ended_and_no_others(switch: Switch) -> None:
    play(switch, lambda: switch.change(remove=[0]))
    assert switch.ended == [0]
    assert switch.tracked == {1: 1}


def test_what_nobody_has_ended_before_the_start_is_ended(switch: Switch) -> None:
    switch.tracked = {0: 3, 1: 1}
    play(switch)
    assert switch.tracked == {1: 1}


def test_without_a_change_of_endpoints_nothing_is_looked_through(switch: Switch) -> None:
    found = moving(switch)
    play(
        switch,
        lambda: found.settled(switch.newest),
        *[switch.stamp, lambda: found.settled(switch.newest)] * 5,
        lambda: switch.change(add=[2]),
        lambda: found.settled(switch.newest),
        found=found,
    )
    assert switch.looks == 2, "at the start, and when what was there then was in effect"


def test_what_is_tracked_until_the_flows_are_in_effect_is_ended_then(switch: Switch) -> None:
    found = moving(switch)

    def settle() -> None:
        switch.cached.clear()
        found.settled(switch.newest)

    play(
        switch,
        lambda: switch.change(remove=[0]),
        lambda: switch.send(2, 0),
        settle,
        found=found,
    )
    assert switch.ended == [0, 2]
    assert switch.tracked == {1: 1}


def test_flows_in_effect_that_are_not_the_newest_are_no_end_of_it(switch: Switch) -> None:
    found = moving(switch)
    older = Stamp(7, 7)
    play(
        switch,
        lambda: switch.change(remove=[0]),
        lambda: switch.send(2, 0),
        lambda: found.settled(older),
        lambda: switch.send(3, 0),
        lambda: found.settled(switch.newest),
        switch.stamp,
        lambda: found.settled(switch.newest),
        found=found,
    )
    assert switch.tracked == {1: 1}
    assert switch.looks == 4, "at the start, at the change, and twice for what was in effect"


def test_a_switch_that_is_gone_has_nothing_in_effect(switch: Switch) -> None:
    found = moving(switch)
    play(switch, lambda: found.settled(None), lambda: found.settled(None), found=found)
    assert switch.looks == 1


def test_without_a_stamp_the_flows_are_not_all_there(switch: Switch) -> None:
    """They are written anew, and with them everything is as before."""
    play(switch, switch.wipe, lambda: None, lambda: switch.change(add=[0, 1]))
    assert switch.ended == []
    assert switch.tracked == {0: 0, 1: 1}


def test_flows_that_come_back_without_an_endpoint(switch: Switch) -> None:
    play(switch, switch.wipe, lambda: None, lambda: switch.change(add=[1]))
    assert switch.tracked == {1: 1}


def test_flows_that_are_removed_while_it_looks(switch: Switch) -> None:
    def wipe() -> None:
        if switch.looks == 1:
            switch.step = lambda: None
            switch.wipe()

    switch.step = wipe
    play(switch, lambda: switch.change(add=[0, 1]))
    assert switch.ended == []
    assert switch.looks == 2


def test_an_endpoint_that_comes_while_it_looks_keeps_its_clients(switch: Switch) -> None:
    """Its client has come after the first flows were told, and before the tracker was read."""

    def come() -> None:
        if switch.looks == 0 and 2 not in switch.flows:
            switch.change(add=[2])
            switch.send(2, 2)

    switch.step = come
    play(switch)
    assert switch.tracked == {0: 0, 1: 1, 2: 2}


def test_an_endpoint_that_goes_while_it_looks_is_looked_for_again(switch: Switch) -> None:
    """A client has come after the tracker was read."""

    def go() -> None:
        if switch.looks == 1:
            switch.step = lambda: None
            switch.send(2, 0)
            switch.change(remove=[0])

    switch.step = go
    play(switch, lambda: None)
    assert switch.tracked == {1: 1}


def test_a_switch_without_udp_services_is_looked_through_once() -> None:
    made = Switch()
    made.stamp()
    now = [0.0]
    found = moving(made, lambda: now[0])
    play(made, *[lambda: now.append(now.pop() + 1000)] * 5, found=found)
    assert made.looks == 1


def test_one_with_them_is_looked_through_from_time_to_time(switch: Switch) -> None:
    """Whatever has come into the tracker past all of this."""
    now = [0.0]
    found = moving(switch, lambda: now[0])
    play(
        switch,
        lambda: switch.tracked.update({2: 3}),
        lambda: now.append(now.pop() + 1000),
        found=found,
    )
    assert switch.tracked == {0: 0, 1: 1}
    assert switch.looks == 2


class TestAgenda:
    STAMP, NEXT = Stamp(1, 1), Stamp(2, 2)

    def looked(self, found: Stamp, settled: Stamp | None) -> Agenda:
        agenda = Agenda()
        assert agenda.due(None, withdrawn=False, serves=False) == 0.0
        agenda.looked(100.0, 102.0, found, settled)
        return agenda

    def test_it_rests_after_a_look_in_proportion_to_it(self) -> None:
        agenda = self.looked(self.STAMP, None)
        assert agenda.due(None, withdrawn=True, serves=True) == 110.0
        assert agenda.due(self.STAMP, withdrawn=False, serves=True) == 110.0

    def test_with_nothing_new_it_looks_from_time_to_time_where_there_are_services(self) -> None:
        for settled in (None, self.STAMP):
            agenda = self.looked(self.STAMP, settled)
            assert agenda.due(settled, withdrawn=False, serves=True) == 402.0
            assert agenda.due(settled, withdrawn=False, serves=False) == math.inf

    def test_once_what_it_found_was_in_effect_later_flows_do_not_matter(self) -> None:
        agenda = self.looked(self.STAMP, self.STAMP)
        assert agenda.due(self.NEXT, withdrawn=False, serves=True) == 402.0
        assert agenda.due(self.NEXT, withdrawn=True, serves=True) == 110.0


@given(seed=st.integers(0, 1 << 32))
def test_in_any_order_only_what_is_stale_is_ended_and_all_of_it_in_the_end(seed: int) -> None:
    """Bundles, packets, and the agent's other thread, which learns what is in effect, come between
    any two things that this thread does.
    """
    chance = random.Random(seed)
    switch = Switch()
    switch.change(add=[n for n in range(ENDPOINTS) if chance.random() < 0.5])
    switch.tracked = {n: chance.randrange(ENDPOINTS) for n in range(chance.randint(0, CLIENTS))}
    time = 0.0
    steps = chance.randint(0, 60)
    settling: list[tuple[Stamp, set[int]]] = []
    in_effect: list[Stamp] = []

    def clock() -> float:
        nonlocal time
        time += chance.random() * 0.01
        return time

    found = moving(switch, clock)

    def step() -> None:
        nonlocal steps
        if not steps:
            return
        steps -= 1
        kind = chance.random()
        if kind < 0.3:
            some = [n for n in range(ENDPOINTS) if chance.random() < 0.3]
            switch.change(add=some, remove=[n for n in range(ENDPOINTS) if n not in some])
        elif kind < 0.4:
            switch.stamp()
        elif kind < 0.7:
            switch.send(chance.randrange(CLIENTS), chance.randrange(ENDPOINTS))
        elif kind < 0.85 and not settling:
            settling.append((switch.newest, switch.cached - switch.flows))
        elif settling:
            settle()

    def settle() -> None:
        stamp, old = settling.pop()
        switch.cached -= old
        in_effect.append(stamp)
        found.settled(stamp)

    def wait(seconds: float | None, bell: int) -> None:
        nonlocal time
        if seconds is not None and seconds < 60:
            time += seconds
        elif steps or switch.untold:
            step()
        elif settling:
            settle()
        elif switch.newest not in in_effect:
            settling.append((switch.newest, set(switch.cached)))
        else:
            raise OverError
        switch.tell(len(switch.untold))

    switch.step, switch.chance = step, chance
    switch.wait = wait  # type: ignore[method-assign]
    with pytest.raises(OverError):
        found.follow()
    assert set(switch.tracked.values()) <= switch.flows
