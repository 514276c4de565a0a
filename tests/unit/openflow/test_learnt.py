"""Flows that the switch itself has learnt: nobody counts, lists, compares or deletes them."""

import struct

import pytest
from fake_switch import FakeSwitch, RawFlow, description
from session_play import NODE, TIMING, Play, Wanted, flow, raw, settled

from ovsnet.controller.notices import Compared, Dumped, Synchronised
from ovsnet.controller.openflow import decode
from ovsnet.controller.openflow.decode import ForeignFlow
from ovsnet.controller.openflow.oxm import WireError
from ovsnet.flows.learnt import LEARNT_COOKIE
from ovsnet.names import Table

ALL = bytes.fromhex("0001000400000000")
STRANGER = (Table.AFFINITY, 100, struct.pack("!HHII4x", 1, 12, 0x00010804, 99))


def learn(switch, count):
    for number in range(count):
        switch.learn(number)


def learnt(switch):
    return {key: f for key, f in switch.flows.items() if f.cookie == LEARNT_COOKIE}


def known(wanted):
    """A switch that has all of these already."""
    switch = FakeSwitch(NODE)
    switch.flows = raw(wanted.flows.values(), wanted.digest)
    return switch


def audited(play):
    for _ in range(int(TIMING.audit / TIMING.quiet) + 1):
        play.wait(TIMING.quiet)
        play.settle()


def test_a_list_of_flows_has_none_of_them():
    wanted = Wanted(map(flow, range(3)))
    switch = known(wanted)
    learn(switch, 5)
    body = b"".join(description(*each) for each in switch.flows.items())
    found = decode.flows(body)
    assert len(found) == 4
    assert [f for f, _ in decode.flows_with_stats(body)] == found


@pytest.mark.parametrize(
    ("table", "cookie"),
    [
        (Table.AFFINITY, 0),
        (Table.AFFINITY, LEARNT_COOKIE + 1),
        (Table.AFFINITY, 5 << 56),
        (Table.STICKY, LEARNT_COOKIE),
    ],
)
def test_only_one_cookie_in_one_table_makes_a_learnt_flow(table, cookie):
    made = description((table, 100, ALL), RawFlow(cookie, b"", idle=60))
    (found,) = decode.flows(made)
    assert isinstance(found, ForeignFlow)
    assert (found.table, found.cookie) == (table, cookie)


def test_tables_are_counted_one_by_one():
    body = b"".join(struct.pack("!B3xIQQ", n, n * 2, 7, 5) for n in range(254))
    assert decode.flow_counts(body) == {n: n * 2 for n in range(254)}
    for wrong in (b"", body[:-1], body + b"\x00"):
        with pytest.raises(WireError):
            decode.flow_counts(wrong)


@pytest.mark.parametrize("count", [1, 1000])
def test_a_known_switch_that_has_learnt_since_is_left_alone(count):
    wanted = Wanted(map(flow, range(7)))
    switch = known(wanted)
    learn(switch, count)
    play = Play(wanted, switch)
    play.settle()
    assert play.heard(Synchronised) == [Synchronised(NODE, 1, 7)]
    assert switch.writes == 0
    assert not switch.commits


def test_a_learnt_flow_does_not_stand_in_for_one_that_is_gone():
    wanted = Wanted(map(flow, range(7)))
    switch = known(wanted)
    switch.flows.pop(next(iter(switch.flows)))
    switch.learn(1)
    play = Play(wanted, switch)
    play.settle()
    play.assert_right()
    assert not play.heard(Synchronised)
    assert play.heard(Compared)[0].missing == 1
    assert len(learnt(switch)) == 1


def test_a_comparison_leaves_them():
    wanted = Wanted(map(flow, range(7)))
    switch = known(wanted)
    learn(switch, 9)
    before = learnt(switch)
    play = Play(Wanted(map(flow, range(2, 9))), switch)
    play.settle()
    play.assert_right()
    (compared,) = play.heard(Compared)
    assert (compared.equal, compared.missing, compared.stale) == (5, 2, 2)
    assert not compared.strangers
    assert learnt(switch) == before


def test_an_audit_leaves_them_and_writes_nothing():
    play = settled(Wanted(map(flow, range(7))))
    learn(play.switch, 9)
    audited(play)
    (compared,) = play.heard(Compared)
    assert compared.audit
    assert (compared.equal, compared.missing, compared.stale) == (7, 0, 0)
    assert not compared.strangers
    assert not play.switch.writes
    assert len(learnt(play.switch)) == 9


def test_who_else_writes_in_their_table_is_a_stranger_and_goes():
    play = settled(Wanted(map(flow, range(7))))
    learn(play.switch, 9)
    play.switch.flows[STRANGER] = RawFlow(0x1234, b"", idle=60)
    play.switch.flows[(Table.AFFINITY, 7, ALL)] = RawFlow(0, b"")
    audited(play)
    play.assert_right()
    assert len(play.heard(Compared)[0].strangers) == 2
    assert len(learnt(play.switch)) == 9


def test_a_dump_that_somebody_asks_for_has_none_of_them():
    play = settled(Wanted(map(flow, range(7))))
    learn(play.switch, 9)
    play.carry_out(play.board.dump(NODE, 5, play.now))
    play.settle()
    (dumped,) = play.heard(Dumped)
    assert len(dumped.flows) == 8
