"""Dumps that somebody asked for: complete, later than the question, and in nobody's way."""

import random

import pytest
from fake_switch import FakeSwitch, RawFlow, description
from hypothesis import given, settings
from hypothesis import strategies as st
from session_play import NODE, OFTEN, OURS, TIMING, Play, Wanted, flow, raw, settled

from ovsnet.controller.notices import Acknowledged, Compared, Dumped, Lost, NotDumped
from ovsnet.controller.openflow import decode
from ovsnet.controller.openflow.events import Disconnected, FlowsListed, Refused
from ovsnet.controller.states import State
from ovsnet.controller.switchboard import Switchboard
from ovsnet.flows.stamp import serial_of

STRANGER = (200, 1, bytes.fromhex("0001000400000000"))


def ask(play, ticket):
    play.carry_out(play.board.dump(NODE, ticket, play.now))


def held(switch):
    """What a switch has, as a dump should tell it."""
    return frozenset(decode.flows(b"".join(description(*item) for item in switch.flows.items())))


def test_all_flows_are_told_the_stamp_and_strangers_too():
    wanted = Wanted(map(flow, range(7)))
    play = settled(wanted)
    play.switch.flows[STRANGER] = RawFlow(0, b"")
    ask(play, 5)
    assert len(play.switch.answers) == 3
    play.settle()
    (dumped,) = play.heard(Dumped)
    assert (dumped.node, dumped.tickets) == (NODE, (5,))
    ours = {f for f in dumped.flows if f.cookie}
    (stamp,) = (f for f in ours if serial_of(f) is not None)
    assert stamp.cookie == wanted.digest
    assert ours == {*wanted.flows.values(), stamp}
    assert [f.table for f in dumped.flows if not f.cookie] == [200]
    assert not play.switch.writes
    assert play.session.state is State.STEADY


def test_who_asks_while_a_dump_is_on_its_way_gets_a_later_one():
    play = settled(Wanted(map(flow, range(7))))
    ask(play, 1)
    play.switch.flows.clear()
    ask(play, 2)
    ask(play, 3)
    play.settle()
    first, second = play.heard(Dumped)
    assert (first.tickets, len(first.flows)) == ((1,), 8)
    assert (second.tickets, len(second.flows)) == ((2, 3), 0)


def test_an_audit_and_a_bundle_and_a_dump_do_not_mix():
    play = settled(Wanted(map(flow, range(6))), OFTEN)
    ask(play, 1)
    play.wait(OFTEN.audit)
    play.change(adds=[flow(10)])
    ask(play, 2)
    parts = list(play.switch.answers)
    random.Random(1).shuffle(parts)
    listings = {p.xid for p in parts if isinstance(p, FlowsListed)}
    assert len(listings) == 2
    # Parts of two answers may come in any mixture, those of one in their order.
    play.switch.answers.clear()
    originals = {x: [p for p in parts if p.xid == x] for x in {p.xid for p in parts}}
    for found in originals.values():
        found.sort(key=lambda p: not getattr(p, "more", False))
    for part in parts:
        play.feed(originals[part.xid].pop(0))
    play.settle()
    play.assert_right()
    assert [len(d.flows) for d in play.heard(Dumped)] == [7, 8]
    (compared,) = play.heard(Compared)
    assert (compared.missing, compared.changed, compared.stale) == (0, 0, 0)
    assert len(play.heard(Acknowledged)) == 1


def test_before_the_truth_is_known_a_switch_can_be_looked_at():
    switch = FakeSwitch(NODE)
    switch.flows = raw([flow(1)], digest=5)
    play = Play(Wanted([flow(2)]), switch)
    ask(play, 1)
    play.settle()
    assert flow(1) in play.heard(Dumped)[0].flows
    play.assert_right()


def test_after_a_refused_bundle_too():
    play = settled(Wanted())
    play.switch.refuse = {OURS | 11}
    play.change(adds=[flow(11)])
    play.settle()
    ask(play, 1)
    play.settle()
    assert play.session.state is State.BACKING_OFF
    assert len(play.heard(Dumped)[0].flows) == 1


def test_without_a_session_there_is_no_dump():
    board = Switchboard(1, TIMING)
    (answer,) = board.dump(NODE, 7, 0)
    assert answer == NotDumped(NODE, (7,), "its switch is not connected")


def test_a_lost_connection_ends_every_question():
    play = settled(Wanted(map(flow, range(7))))
    for ticket in (1, 2, 3):
        ask(play, ticket)
    play.answer()
    play.feed(Disconnected(play.switch.connection, "the cable was cut"))
    (failed,) = play.heard(NotDumped)
    assert (failed.tickets, failed.reason) == ((1, 2, 3), "the cable was cut")
    assert play.heard(Lost)


def test_a_switch_that_refuses_a_dump_goes_on_being_served():
    play = settled(Wanted(map(flow, range(3))))
    ask(play, 1)
    ask(play, 2)
    asked = play.switch.answers[0]
    play.switch.answers.clear()
    play.feed(Refused(asked.connection, asked.xid, 1, 5, "not permitted", b""))
    assert [(f.tickets, f.reason) for f in play.heard(NotDumped)] == [
        ((1,), "it refused: not permitted")
    ]
    play.settle()
    assert play.heard(Dumped)[0].tickets == (2,)
    play.change(adds=[flow(10)])
    play.settle()
    play.assert_right()


def test_a_dump_that_does_not_come_is_given_up_and_its_rest_is_nobodys():
    play = settled(Wanted(map(flow, range(7))))
    ask(play, 1)
    late = list(play.switch.answers)
    play.switch.answers.clear()
    assert play.board.due <= play.now + TIMING.answer
    for _ in range(int(TIMING.answer / TIMING.quiet)):
        play.wait(TIMING.quiet)
        play.settle()
    (failed,) = play.heard(NotDumped)
    assert failed.reason == "it has not answered for 60 s"
    ask(play, 2)
    play.switch.answers.extendleft(reversed(late))
    play.settle()
    (dumped,) = play.heard(Dumped)
    assert (dumped.tickets, len(dumped.flows)) == ((2,), 8)
    assert not play.heard(Lost)


def test_nonsense_ends_the_session_and_the_question():
    play = settled(Wanted([flow(1)]))
    ask(play, 1)
    asked = play.switch.answers.popleft()
    play.feed(FlowsListed(asked.connection, asked.xid, b"\x00\x01nonsense", False))
    assert play.heard(NotDumped)[0].tickets == (1,)
    assert "makes no sense" in play.heard(Lost)[0].reason


@pytest.mark.parametrize("timing", [OFTEN, TIMING])
@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 1 << 32), steps=st.integers(1, 60))
def test_whatever_happens_every_question_gets_one_answer_that_is_later_than_it(timing, seed, steps):
    chance = random.Random(seed)
    wanted = Wanted(flow(n) for n in range(chance.randint(0, 6)))
    play = Play(wanted, timing=timing)
    open_tickets = {}
    answered = {}
    told = 0

    def look():
        """Note what the switch has now for those who wait, then who was answered, and how."""
        nonlocal told
        for states in open_tickets.values():
            states.append(held(play.switch))
        for said in play.said[told:]:
            match said:
                case Dumped(_, tickets, flows):
                    for ticket in tickets:
                        assert frozenset(flows) in open_tickets.pop(ticket)
                        answered[ticket] = said
                case NotDumped(_, tickets):
                    for ticket in tickets:
                        del open_tickets[ticket]
                        answered[ticket] = said
        told = len(play.said)

    def question():
        ticket = len(answered) + len(open_tickets)
        open_tickets[ticket] = [held(play.switch)]
        ask(play, ticket)

    def change():
        adds = [flow(n, chance.randint(1, 3)) for n in chance.sample(range(12), 3)]
        play.change([f for f in adds if wanted.flows.get(f.key) != f])

    def tamper():
        keys = sorted(play.switch.flows)
        if keys and chance.random() < 0.7:
            del play.switch.flows[chance.choice(keys)]
        else:
            play.switch.flows[STRANGER] = RawFlow(0, b"")

    def lose():
        play.feed(Disconnected(play.switch.connection, "lost"))
        play.carry_out(play.board.handle(play.switch.reconnect(), {NODE}, play.now))

    def refuse():
        play.switch.refuse = {OURS | chance.randint(0, 11)} if chance.random() < 0.5 else set()

    def answer():
        if play.switch.answers:
            play.answer()

    def wait():
        play.wait(chance.choice([0.5, 1, 5]))

    for _ in range(steps):
        weights = (8, 4, 24, 2, 1, 2, 2)
        (step,) = chance.choices((question, change, answer, tamper, lose, refuse, wait), weights)
        step()
        look()
        assert play.board.due <= play.session.due
    play.switch.refuse = set()
    for _ in range(70):
        while play.switch.answers:
            play.answer()
            look()
        play.wait(TIMING.quiet)
        look()
    assert not open_tickets
    play.assert_right()
