"""Which revision is in effect, whatever the order of the switch's answers and agents' reports."""

from __future__ import annotations

import random

from fake_switch import description
from hypothesis import given
from hypothesis import strategies as st
from session_play import NODE, Play, Wanted, flow, settled

from ovsnet.controller.notices import Acknowledged, Settled
from ovsnet.controller.openflow import decode
from ovsnet.controller.openflow.events import Disconnected
from ovsnet.controller.settlement import SERIALS, Settlement
from ovsnet.flows.stamp import serial_of


def stamp(switch):
    """Digest and serial number of the stamp that a switch has, as its agent sees it."""
    flows = decode.flows(b"".join(description(*item) for item in switch.flows.items()))
    (found,) = ((f.cookie, serial_of(f)) for f in flows if serial_of(f) is not None)
    return found


def report(play, digest, serial):
    play.carry_out(play.board.reported(NODE, digest, serial, play.now))


def test_nothing_is_settled_before_the_agent_says_so():
    play = settled(Wanted(map(flow, range(3))))
    assert play.session.acknowledged == 1
    assert play.session.settled is None
    report(play, *stamp(play.switch))
    assert play.session.settled == 1
    assert play.heard(Settled) == [Settled(NODE, 1, 0)]


def test_the_time_from_the_switchs_answer_is_told_once():
    play = settled(Wanted(map(flow, range(3))))
    play.now += 0.25
    report(play, *stamp(play.switch))
    report(play, *stamp(play.switch))
    assert play.heard(Settled) == [Settled(NODE, 1, 0.25)]


def test_a_report_that_overtakes_the_switchs_answer_counts_when_the_answer_is_there():
    play = settled(Wanted(map(flow, range(3))))
    play.change(adds=[flow(7)])
    while len(play.switch.commits) == 0:
        play.answer()
    report(play, *stamp(play.switch))
    assert play.session.settled is None
    play.settle()
    assert [type(n) for n in play.said[-2:]] == [Acknowledged, Settled]
    assert play.session.settled == play.session.acknowledged == 2


def test_flows_that_come_back_are_not_settled_by_what_was_reported_of_them_before():
    play = settled(Wanted(map(flow, range(3))))
    first = stamp(play.switch)
    play.change(adds=[flow(7)])
    play.settle()
    play.change(deletes=[flow(7)])
    play.settle()
    again = stamp(play.switch)
    assert again[0] == first[0], "the same flows, the same digest"
    report(play, *first)
    assert play.session.settled == 1
    report(play, *again)
    assert play.session.settled == 3


def test_reports_that_skip_or_fall_behind_never_turn_it_back():
    play = settled(Wanted(map(flow, range(3))))
    stamps = [stamp(play.switch)]
    for number in range(10, 14):
        play.change(adds=[flow(number)])
        play.settle()
        stamps.append(stamp(play.switch))
    for index, expected in ((2, 3), (1, 3), (0, 3), (4, 5), (3, 5)):
        report(play, *stamps[index])
        assert play.session.settled == expected


def test_a_digest_with_another_number_and_a_number_with_another_digest_are_nothing():
    play = settled(Wanted(map(flow, range(3))))
    digest, serial = stamp(play.switch)
    report(play, digest, serial + 1)
    report(play, digest + 1, serial)
    assert play.session.settled is None


def test_a_new_session_knows_nothing_until_it_is_told_again():
    play = settled(Wanted(map(flow, range(3))))
    report(play, *stamp(play.switch))
    play.feed(Disconnected(play.switch.connection, "lost"))
    play.carry_out(play.board.handle(play.switch.reconnect(), {NODE}, play.now))
    play.settle()
    assert play.session.settled is None
    report(play, *stamp(play.switch))
    assert play.session.settled == 1


def test_another_controller_goes_on_with_the_numbers_where_the_first_one_was():
    wanted = Wanted(map(flow, range(3)))
    play = settled(wanted)
    first = stamp(play.switch)
    after = Play(wanted, play.switch, generation=2)
    after.settle()
    report(after, *first)
    assert after.session.settled == wanted.revision
    after.change(adds=[flow(7)])
    after.settle()
    after.change(deletes=[flow(7)])
    after.settle()
    digest, serial = stamp(after.switch)
    assert (digest, serial) == (first[0], first[1] + 2)


def test_a_switch_that_lost_its_stamp_gets_numbers_that_it_has_not_had():
    wanted = Wanted(map(flow, range(3)))
    play = settled(wanted)
    before = stamp(play.switch)
    play.feed(Disconnected(play.switch.connection, "its process ended"))
    play.switch.flows = {}
    play.now += 0.5
    play.carry_out(play.board.handle(play.switch.reconnect(), {NODE}, play.now))
    play.settle()
    report(play, *before)
    assert play.session.settled is None


def test_a_report_for_a_node_without_a_session_is_nothing():
    play = settled(Wanted())
    assert play.board.reported("node-9", 1, 1, 0) == []
    play.feed(Disconnected(play.switch.connection, "lost"))
    report(play, *stamp(play.switch))
    assert play.board.session(NODE) is None


def test_numbers_begin_anew_after_the_last_one_and_pass_over_zero():
    settlement = Settlement(SERIALS - 2)
    assert settlement.next_serial() == SERIALS - 1
    assert settlement.next_serial() == 1


def test_what_is_remembered_is_bounded():
    settlement = Settlement(0)
    stamps = []
    for revision in range(1000):
        serial = settlement.next_serial()
        settlement.has(serial, revision % 2, revision, 0)
        stamps.append((serial, revision % 2))
    settlement.reported(*stamps[10], 0)
    assert settlement.revision is None
    settlement.reported(*stamps[-100], 0)
    assert settlement.revision == 900


@given(seed=st.integers(0, 1 << 32))
def test_in_any_order_a_revision_is_settled_only_after_its_own_stamp_was_reported(seed):
    """Changes back and forth, answers, reports late, repeated and early: never a false one."""
    chance = random.Random(seed)
    play = settled(Wanted(map(flow, range(3))))
    seen = [stamp(play.switch)]
    reported: set[int] = set()
    for _ in range(chance.randint(1, 80)):
        match chance.choice(["change", "answer", "answer", "answer", "report"]):
            case "change":
                there = flow(7).key in play.wanted.flows
                play.change(**{"deletes" if there else "adds": [flow(7)]})
            case "answer" if play.switch.answers:
                play.answer()
                if stamp(play.switch) not in seen:
                    seen.append(stamp(play.switch))
            case "report":
                index = chance.randrange(len(seen))
                reported.add(index)
                report(play, *seen[index])
        # Every commit has one stamp, and is acknowledged in its turn.
        revisions = [1, *(notice.revision for notice in play.heard(Acknowledged))]
        known = [revisions[i] for i in reported if i < len(revisions)]
        assert play.session.settled is None or play.session.settled in known
        newest = max(reported, default=0)
        if reported and newest < len(revisions):
            assert play.session.settled == revisions[newest]
