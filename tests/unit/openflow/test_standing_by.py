"""Sessions of a controller that stands by, of one that takes over, and of one that is replaced."""

import random

import pytest
from fake_switch import FakeSwitch
from hypothesis import given, settings
from hypothesis import strategies as st
from session_play import NODE, TIMING, Play, Wanted, flow, raw

from ovsnet.controller.belief import Port
from ovsnet.controller.notices import (
    Admitted,
    Close,
    Compared,
    Fenced,
    Lost,
    PortsChanged,
    StandingBy,
    Synchronised,
)
from ovsnet.controller.openflow.events import PortChange, PortChanged, Refused, RoleLost
from ovsnet.controller.openflow.protocol import STALE_GENERATION, ControllerRole
from ovsnet.controller.states import State
from ovsnet.controller.switchboard import Switchboard

UNDEFINED = 2**64 - 1
NEW_PORT = Port(7, "web-abc", "0e:58:0a:00:01:05")


def standing_by(wanted=None, newest=4):
    """A play of one that stands by at a switch whose master's generation id is `newest`."""
    switch = FakeSwitch(NODE)
    switch.newest = newest
    play = Play(wanted or Wanted(), switch, generation=None)
    play.settle()
    assert play.session.state is State.STANDING_BY
    assert [type(n) for n in play.said] == [StandingBy]
    play.said.clear()
    return play


def lead(play, generation):
    play.carry_out(play.board.lead(generation, play.now))


def test_it_is_a_slave_under_the_masters_generation_id_and_changes_none():
    for newest in (UNDEFINED, 0, 4, 2**63):
        play = standing_by(newest=newest)
        assert play.switch.role is ControllerRole.SLAVE
        assert play.switch.newest == newest


def test_it_asks_again_if_there_is_a_new_master_by_then():
    switch = FakeSwitch(NODE)
    switch.newest = 4
    play = Play(Wanted(), switch, generation=None)
    switch.led_by_another(5)
    play.answer()
    play.settle()
    assert play.session.state is State.STANDING_BY
    assert switch.newest == 5
    assert [type(n) for n in play.said] == [StandingBy]


def test_a_switch_that_gives_it_no_role_is_left():
    switch = FakeSwitch(NODE)
    play = Play(Wanted(), switch, generation=None)
    xid = switch.answers.popleft().xid
    play.feed(Refused(switch.connection, xid, 1, 1, "what is a role", b""))
    assert [type(n) for n in play.said] == [Close, Lost]


def test_it_hears_of_ports_and_writes_nothing_whatever_changes():
    play = standing_by()
    play.feed(PortChanged(play.switch.connection, PortChange.ADDED, NEW_PORT))
    assert play.said == [PortsChanged(NODE, frozenset({NEW_PORT}))]
    play.change(adds=[flow(1)])
    play.carry_out(play.board.reported(NODE, 7, 1, play.now))
    play.board.distrust(play.now)
    for _ in range(100):
        play.wait(4)
        play.settle()
    assert play.session.state is State.STANDING_BY
    assert not play.switch.flows
    assert not play.switch.commits


def test_its_due_time_is_in_the_future():
    play = standing_by()
    play.board.distrust(play.now)
    play.wait(1)
    assert play.board.due > play.now


def test_it_takes_over_with_nothing_to_write():
    wanted = Wanted(map(flow, range(7)))
    play = standing_by(wanted)
    play.switch.flows = raw(wanted.flows.values(), wanted.digest)
    lead(play, 5)
    play.settle()
    assert [type(n) for n in play.said] == [Admitted, Synchronised]
    assert play.switch.newest == 5
    assert not play.switch.writes


def test_it_takes_over_what_it_has_heard_meanwhile():
    wanted = Wanted(map(flow, range(7)))
    play = standing_by(wanted)
    play.switch.flows = raw(wanted.flows.values(), wanted.digest)
    play.change(adds=[flow(8)], deletes=[flow(1)])
    play.feed(PortChanged(play.switch.connection, PortChange.ADDED, NEW_PORT))
    lead(play, 5)
    play.settle()
    play.assert_right()
    assert play.heard(Admitted)[0].ports == {NEW_PORT}
    (compared,) = play.heard(Compared)
    assert (compared.missing, compared.stale) == (1, 1)


def test_to_be_told_to_lead_while_it_is_asking_for_its_role_does_as_well():
    for answers in range(3):
        switch = FakeSwitch(NODE)
        switch.newest = 4
        play = Play(Wanted([flow(1)]), switch, generation=None)
        for _ in range(answers):
            play.answer()
        lead(play, 5)
        play.settle()
        play.assert_right()
        assert play.session.state is State.STEADY


def test_a_later_leader_keeps_it_out():
    play = standing_by(Wanted([flow(1)]))
    play.switch.led_by_another(6)
    lead(play, 5)
    play.settle()
    assert [type(n) for n in play.said] == [Fenced, Close, Lost]
    assert not play.switch.flows
    # When the switch comes back, it says what it has seen.
    play.carry_out(play.board.handle(play.switch.reconnect(), {NODE}, play.now))
    play.settle()
    assert play.heard(Fenced)[-1].seen == 6


def test_one_that_stands_by_takes_no_offence_at_another_that_leads():
    play = standing_by()
    play.feed(RoleLost(play.switch.connection, ControllerRole.SLAVE))
    assert play.said == []
    assert play.session.state is State.STANDING_BY


def test_who_leads_no_more_ends_its_sessions_and_stands_by_when_the_switch_is_back():
    play = Play(Wanted([flow(1)]), generation=5)
    play.settle()
    play.change(adds=[flow(2)])
    play.said.clear()
    writes = play.switch.writes
    play.carry_out(play.board.stand_by("another leads"))
    assert [type(n) for n in play.said] == [Close, Lost]
    play.switch.led_by_another(6)
    play.carry_out(play.board.handle(play.switch.reconnect(), {NODE}, play.now))
    play.settle()
    assert play.session.state is State.STANDING_BY
    assert play.switch.writes == writes


def test_a_leader_raises_its_term_while_it_works():
    play = Play(Wanted([flow(1)]), generation=5)
    play.settle()
    play.change(adds=[flow(2)])
    lead(play, 9)
    play.settle()
    play.assert_right()
    assert play.switch.newest == 9
    assert not play.heard(Lost)
    play.switch.newest = 11
    lead(play, 10)
    play.settle()
    assert play.heard(Fenced)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40))
def test_two_controllers_of_one_switch_in_any_order(seed, steps):
    """Each is told to lead, to stand by, of changes, and what the switch says, in any order: only
    the one that the switch took last for its master ever writes, and in the end it is right.
    """
    chance = random.Random(seed)
    wanted = Wanted(map(flow, range(3)))
    first, second = Controller(1, wanted), Controller(2, wanted)
    term = 1
    for _ in range(steps):
        each = chance.choice((first, second))
        match chance.choice(("lead", "stand by", "change", "answer", "answer", "answer")):
            case "lead":
                term += 1
                each.carry_out(each.board.lead(term, 0.0))
            case "stand by":
                each.carry_out(each.board.stand_by("told to"))
                each.connect()
            case "change":
                number = chance.randrange(3, 9)
                gone = [flow(number)] if flow(number).key in wanted.flows else []
                delta = wanted.change([] if gone else [flow(number)], gone)
                for controller in (first, second):
                    controller.carry_out(controller.board.changed(NODE, delta, 0.0))
            case _:
                each.answer()
    second.carry_out(second.board.stand_by("told to"))
    second.connect()
    first.carry_out(first.board.lead(term + 1, 0.0))
    while first.answer() | second.answer():
        pass
    assert first.board.session(NODE).state is State.STEADY
    assert first.switch.content == raw(wanted.flows.values(), wanted.digest)


class Controller:
    """A switchboard and its connection to the switch that it shares with another."""

    shared: FakeSwitch

    def __init__(self, number, wanted):
        self.number = number
        self.wanted = wanted
        self.board = Switchboard(None, TIMING)
        self.switch = FakeSwitch(NODE)
        if number == 1:
            Controller.shared = self.switch
            Controller.both = []
        Controller.both.append(self)
        # Flows and generation ids are the switch's, roles and answers are each connection's.
        self.switch.flows = Controller.shared.flows
        self.connect()

    def connect(self):
        self.switch.newest = Controller.shared.newest
        event = self.switch.reconnect()
        self.carry_out(self.board.handle(event, {NODE}, 0.0))

    def carry_out(self, outcomes):
        for outcome in outcomes:
            if hasattr(outcome, "data") and outcome.connection == self.switch.connection:
                before, role = self.switch.newest, self.switch.role
                self.switch.receive(outcome.data)
                self._tell_the_other(before, role)
            elif isinstance(outcome, Admitted):
                self.carry_out(self.board.desire(NODE, self.wanted, 0.0))

    def _tell_the_other(self, before, role):
        for other in Controller.both:
            if other is self:
                continue
            became = role is not ControllerRole.MASTER and self.switch.role is ControllerRole.MASTER
            if became or self.switch.newest != before:
                if self.switch.role is ControllerRole.MASTER:
                    other.switch.led_by_another(self.switch.newest)
                other.switch.newest = self.switch.newest

    def answer(self):
        """Take the switch's next answer in; False if there is none."""
        if not self.switch.answers:
            session = self.board.session(NODE)
            if session is None:
                self.connect()
                return bool(self.switch.answers)
            return False
        self.carry_out(self.board.handle(self.switch.answers.popleft(), {NODE}, 0.0))
        return True


@pytest.mark.parametrize("code", [STALE_GENERATION])
def test_the_code_of_a_stale_generation_is_that_of_the_specification(code):
    """ofp_error_type 11 is OFPET_ROLE_REQUEST_FAILED, its code 0 OFPRRFC_STALE."""
    assert code == (11, 0)
