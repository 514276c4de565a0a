"""The states of a session, and many orders of reaching them, against a switch in memory."""

import random

import pytest
from fake_switch import FakeSwitch, RawFlow
from hypothesis import given, settings
from hypothesis import strategies as st
from session_play import NODE, OFTEN, OURS, TIMING, Play, Wanted, flow, raw, settled

from ovsnet.controller.belief import Port
from ovsnet.controller.notices import (
    Acknowledged,
    Admitted,
    Close,
    Compared,
    Fenced,
    Lost,
    PortsChanged,
    Synchronised,
    TurnedAway,
    WriteFailed,
)
from ovsnet.controller.openflow.events import (
    BundleAnswered,
    Disconnected,
    FlowsCounted,
    FlowsListed,
    PortChange,
    PortChanged,
    Refused,
    RoleGranted,
    RoleLost,
)
from ovsnet.controller.openflow.protocol import (
    FLOW_XID,
    NO_MASTER,
    BundleControl,
    ControllerRole,
)
from ovsnet.controller.states import State
from ovsnet.controller.switchboard import Switchboard
from ovsnet.flows.ledger import Delta
from ovsnet.names import Table


def test_an_empty_switch_gets_everything_in_one_bundle():
    play = Play(Wanted(map(flow, range(7))))
    play.settle()
    play.assert_right()
    assert len(play.switch.commits) == 1
    assert [type(n) for n in play.said] == [Admitted, Compared, Acknowledged]
    assert play.heard(Compared)[0].missing == 7
    assert play.session.state is State.STEADY
    assert play.session.acknowledged == 1


def test_nothing_is_asked_or_written_before_the_truth_is_known():
    switch = FakeSwitch(NODE)
    board = Switchboard(1, TIMING)
    outcomes = board.handle(switch.connected(), {NODE}, 0)
    for outcome in outcomes:
        switch.receive(outcome.data)
    assert board.handle(switch.answers.popleft(), {NODE}, 0) == []
    outcomes = board.handle(switch.answers.popleft(), {NODE}, 0)
    assert [type(o) for o in outcomes] == [Admitted]
    assert board.session(NODE).state is State.WAITING


def test_an_equal_stamp_means_nothing_to_do():
    wanted = Wanted(map(flow, range(7)))
    switch = FakeSwitch(NODE)
    switch.flows = raw(wanted.flows.values(), wanted.digest)
    play = Play(wanted, switch)
    play.settle()
    assert play.heard(Synchronised) == [Synchronised(NODE, 1, 7)]
    assert switch.writes == 0
    assert not switch.commits


def test_another_stamp_is_not_believed_whatever_the_number_of_flows():
    wanted = Wanted(map(flow, range(7)))
    switch = FakeSwitch(NODE)
    switch.flows = raw([*list(map(flow, range(6))), flow(77)], digest=5)
    play = Play(wanted, switch)
    play.settle()
    play.assert_right()


@pytest.mark.parametrize("number_of_strangers", [-1, 1])
def test_a_stamp_is_not_believed_if_the_number_of_flows_is_wrong(number_of_strangers):
    wanted = Wanted(map(flow, range(7)))
    switch = FakeSwitch(NODE)
    switch.flows = raw(wanted.flows.values(), wanted.digest)
    if number_of_strangers < 0:
        switch.flows.pop(next(iter(switch.flows)))
    else:
        switch.flows[(3, 3, bytes.fromhex("0001000400000000"))] = RawFlow(0, b"")
    play = Play(wanted, switch)
    play.settle()
    play.assert_right()
    assert switch.writes == 2, "the one flow and the stamp"


def test_only_the_difference_is_written():
    wanted = Wanted(map(flow, range(10)))
    switch = FakeSwitch(NODE)
    there = [flow(n) for n in range(2, 10)] + [flow(50), flow(51)]
    there[0] = flow(2, port=77)
    switch.flows = raw(there, digest=5)
    stranger = (200, 1, bytes.fromhex("0001000c80000408") + bytes(8))
    switch.flows[stranger] = RawFlow(0, b"")
    play = Play(wanted, switch)
    play.settle()
    play.assert_right()
    (compared,) = play.heard(Compared)
    numbers = (compared.equal, compared.missing, compared.changed, compared.stale)
    assert numbers == (7, 2, 1, 2)
    assert [s.match for s in compared.strangers] == [stranger[2]]
    assert switch.writes == 2 + 1 + 2 + 1 + 1, "missing, changed, stale, stranger, stamp"


def test_changes_during_a_bundle_wait_and_go_together():
    play = settled(Wanted(map(flow, range(3))))
    play.change(adds=[flow(10)])
    play.change(adds=[flow(11)])
    play.change(adds=[flow(12)], deletes=[flow(10)])
    play.change(adds=[flow(13)])
    play.settle()
    play.assert_right()
    assert len(play.switch.commits) == 2
    assert [a.revision for a in play.heard(Acknowledged)] == [2, 5]


def test_an_empty_change_writes_nothing():
    play = settled(Wanted(map(flow, range(3))))
    play.carry_out(play.board.changed(NODE, Delta((), (), play.wanted.digest, 1), play.now))
    assert play.session.state is State.STEADY
    assert not play.switch.writes


def test_a_refused_message_leaves_nothing_of_its_bundle():
    play = settled(Wanted(map(flow, range(3))))
    before = dict(play.switch.flows)
    play.switch.refuse = {OURS | 11}
    play.change(adds=[flow(10), flow(11), flow(12)])
    play.settle()
    assert play.switch.flows == before
    (failed,) = play.heard(WriteFailed)
    assert failed.flow is not None
    assert (failed.flow.table, failed.flow.priority) == (Table.ROUTE, 10)
    assert failed.flow.cookie == OURS | 11
    assert play.session.state is State.BACKING_OFF
    play.switch.refuse = set()
    play.wait(failed.retry_in)
    play.settle()
    play.assert_right()


def test_a_bundle_refused_at_commit_is_tried_anew():
    play = settled(Wanted(map(flow, range(3))))
    before = dict(play.switch.flows)
    play.switch.refuse_late = {OURS | 11}
    play.change(adds=[flow(10), flow(11)])
    play.settle()
    assert play.switch.flows == before
    assert play.heard(WriteFailed)[0].flow.cookie == OURS | 11
    play.switch.refuse_late = set()
    play.wait(1)
    play.settle()
    play.assert_right()


def test_refusals_are_retried_ever_more_rarely_but_for_ever():
    play = settled(Wanted())
    play.switch.refuse = {OURS | 11}
    play.change(adds=[flow(11)])
    play.settle()
    waits = []
    for _ in range(6):
        waits.append(play.heard(WriteFailed)[-1].retry_in)
        play.wait(waits[-1])
        play.settle()
    assert waits == [1, 2, 4, 8, 8, 8]
    play.switch.refuse = set()
    play.wait(8)
    play.settle()
    play.assert_right()
    play.switch.refuse = {OURS | 12}
    play.change(adds=[flow(12)])
    play.settle()
    assert play.heard(WriteFailed)[-1].retry_in == 1, "success forgets"


def test_a_change_that_may_cure_a_refusal_is_tried_soon():
    play = settled(Wanted())
    play.switch.refuse = {OURS | 11}
    play.change(adds=[flow(11)])
    play.settle()
    for _ in range(5):
        play.wait(play.heard(WriteFailed)[-1].retry_in)
        play.settle()
    play.change(adds=[flow(12)], deletes=[flow(11)])
    play.wait(1)
    play.settle()
    play.assert_right()


def test_an_audit_restores_what_was_tampered_with_and_leaves_the_rest():
    play = settled(Wanted(map(flow, range(6))))
    keys = list(play.switch.flows)
    del play.switch.flows[keys[0]]
    play.switch.flows[keys[1]] = RawFlow(1, b"")
    play.switch.flows[(200, 1, bytes.fromhex("0001000400000000"))] = RawFlow(0, b"")
    for _ in range(70):
        play.wait(TIMING.quiet)
        play.settle()
    play.assert_right()
    first, *others = play.heard(Compared)
    assert first.audit
    assert (first.equal, first.missing, first.changed, len(first.strangers)) == (4, 1, 1, 1)
    assert play.switch.writes == 4
    assert all(not (o.missing or o.changed or o.strangers) for o in others)


def test_a_switch_that_was_right_when_it_came_is_audited_too():
    wanted = Wanted(map(flow, range(6)))
    switch = FakeSwitch(NODE)
    switch.flows = raw(wanted.flows.values(), wanted.digest)
    play = Play(wanted, switch, timing=OFTEN)
    play.settle()
    assert play.heard(Synchronised)
    del play.switch.flows[next(iter(play.switch.flows))]
    play.wait(OFTEN.audit)
    play.settle()
    play.assert_right()
    (compared,) = play.heard(Compared)
    assert (compared.audit, compared.missing) == (True, 1)


def test_changes_during_an_audit_are_neither_undone_nor_reported():
    play = settled(Wanted(map(flow, range(6))), OFTEN)
    play.wait(OFTEN.audit)
    listed = len(play.switch.answers)
    play.change(adds=[flow(10), flow(1, port=9)], deletes=[flow(0)])
    assert listed >= 2
    play.settle()
    play.assert_right()
    (compared,) = play.heard(Compared)
    assert (compared.missing, compared.changed, compared.stale) == (0, 0, 0)
    assert len(play.switch.commits) == 1


def test_an_audit_knows_of_a_change_that_is_on_its_way():
    play = settled(Wanted(map(flow, range(6))), OFTEN)
    play.change(adds=[flow(10), flow(1, port=9)], deletes=[flow(0)])
    play.wait(OFTEN.audit)
    play.settle()
    play.assert_right()
    (compared,) = play.heard(Compared)
    assert (compared.missing, compared.changed, compared.stale) == (0, 0, 0)


def test_an_audit_does_not_survive_a_refused_bundle():
    play = settled(Wanted(map(flow, range(9))), OFTEN)
    play.switch.refuse = {OURS | 11}
    play.change(adds=[flow(11)])
    play.wait(OFTEN.audit)
    play.settle()
    assert play.heard(WriteFailed)
    assert not play.heard(Compared)
    play.switch.refuse = set()
    play.wait(1)
    play.settle()
    play.assert_right()


def test_distrust_brings_the_audit_forward_and_never_keeps_anyone_busy():
    play = settled(Wanted(map(flow, range(6))))
    play.switch.flows.pop(next(iter(play.switch.flows)))
    play.board.distrust(play.now)
    assert play.board.due == play.now
    play.wait(0)
    assert play.board.due > play.now, "nothing is due while the answer is awaited"
    play.settle()
    play.assert_right()
    play.switch.refuse = {OURS | 11}
    play.change(adds=[flow(11)])
    play.settle()
    play.board.distrust(play.now)
    play.wait(0)
    assert play.board.due > play.now, "the retry compares everything anyway"


def test_a_lost_stamp_is_put_back_by_an_audit():
    play = settled(Wanted(map(flow, range(6))), OFTEN)
    stamp = next(key for key in play.switch.flows if key[0] == Table.STAMP)
    del play.switch.flows[stamp]
    play.wait(OFTEN.audit)
    play.settle()
    play.assert_right()
    assert play.heard(Compared)[0].missing == 1
    assert play.switch.writes == 1


def test_an_older_leader_is_fenced_out():
    switch = FakeSwitch(NODE)
    switch.newest = 7
    play = Play(Wanted([flow(1)]), switch, generation=6)
    play.settle()
    assert [type(n) for n in play.said] == [Fenced, Close, Lost]
    assert not switch.flows
    assert play.board.session(NODE) is None


def test_a_leader_that_is_replaced_stops_at_once():
    play = settled(Wanted([flow(1)]))
    play.feed(RoleLost(play.switch.connection, ControllerRole.SLAVE))
    assert [type(n) for n in play.said] == [Fenced, Close, Lost]


def test_a_write_refused_because_another_leads_ends_the_session():
    play = settled(Wanted())
    play.change(adds=[flow(1)])
    play.switch.answers.clear()
    play.feed(Refused(1, FLOW_XID, *NO_MASTER, "slave", b""))
    assert [type(n) for n in play.said] == [Fenced, Close, Lost]


def test_a_switch_that_makes_us_something_else_than_master_is_left():
    play = Play(Wanted())
    play.answer()
    granted = play.switch.answers.popleft()
    play.feed(RoleGranted(granted.connection, granted.xid, ControllerRole.EQUAL, 1))
    assert [type(n) for n in play.said] == [Close, Lost]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"description": "node-9"}, "name of no node"),
        ({"description": ""}, "name of no node"),
        ({"datapath_id": 5}, "expected"),
        ({"tables": 3}, "tables"),
        ({"capabilities": 0}, "bundles"),
    ],
)
def test_a_switch_that_is_not_what_it_should_be_is_turned_away(changes, words):
    board = Switchboard(1, TIMING)
    outcomes = board.handle(FakeSwitch(NODE).connected(**changes), {NODE}, 0)
    assert [type(o) for o in outcomes] == [TurnedAway, Close]
    assert words in outcomes[0].reason
    assert board.session(NODE) is None


def test_of_two_connections_of_a_node_the_newer_one_wins():
    play = settled(Wanted([flow(1)]))
    old = play.switch.connection
    play.carry_out(play.board.handle(play.switch.reconnect(), {NODE}, play.now))
    assert [type(n) for n in play.said] == [Close, Lost]
    assert play.said[0].connection == old
    play.feed(Disconnected(old, "closed"))
    play.settle()
    assert play.heard(Synchronised)
    assert play.session.connection == play.switch.connection


def test_ports_are_told_after_admission():
    play = Play(Wanted())
    port = Port(5, "pod-x", "0e:58:0a:00:00:05")
    play.feed(PortChanged(1, PortChange.ADDED, port))
    assert not play.heard(PortsChanged)
    play.settle()
    assert play.heard(Admitted)[0].ports == {port}
    moved = Port(5, "pod-x", "0e:58:0a:00:00:06")
    play.feed(PortChanged(1, PortChange.MODIFIED, moved))
    play.feed(PortChanged(1, PortChange.REMOVED, moved))
    assert [n.ports for n in play.heard(PortsChanged)] == [frozenset({moved}), frozenset()]


def test_silence_is_asked_about_and_then_ends_the_session():
    play = settled(Wanted())
    play.wait(TIMING.quiet)
    assert play.switch.answers, "an echo request was answered"
    play.settle()
    for _ in range(3):
        play.wait(TIMING.quiet)
        play.switch.answers.clear()
    assert not play.said
    play.wait(TIMING.quiet)
    assert [type(n) for n in play.said] == [Close, Lost]
    assert "silent" in play.said[0].reason


def test_a_switch_that_lives_but_does_not_answer_is_left():
    play = settled(Wanted())
    play.change(adds=[flow(1)])
    play.switch.answers.clear()
    for _ in range(int(TIMING.answer / TIMING.quiet)):
        play.wait(TIMING.quiet)
        play.settle()
    assert [type(n) for n in play.said] == [Close, Lost]
    assert "no answer" in play.said[0].reason


@pytest.mark.parametrize("kind", [FlowsListed, FlowsCounted])
def test_nonsense_ends_the_session(kind):
    play = Play(Wanted([flow(1)]))
    while not isinstance(play.switch.answers[0], kind):
        play.answer()
    asked = play.switch.answers.popleft()
    extra = (False,) if kind is FlowsListed else ()
    play.feed(kind(asked.connection, asked.xid, b"\x00\x01nonsense", *extra))
    assert [type(n) for n in play.said][-2:] == [Close, Lost]
    assert "makes no sense" in play.said[-1].reason


def test_answers_to_questions_that_nobody_asked_change_nothing():
    play = settled(Wanted([flow(1)]))
    for event in (
        RoleGranted(1, 999, ControllerRole.MASTER, 1),
        BundleAnswered(1, 999, BundleControl.COMMIT_REPLY),
        FlowsListed(1, 999, b"", False),
        FlowsCounted(1, 999, b""),
    ):
        play.feed(event)
    assert play.session.state is State.STEADY
    assert not play.said


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 1 << 32), steps=st.integers(1, 60))
def test_whatever_happens_the_switch_ends_up_right_and_is_never_half_right(seed, steps):
    """Changes, answers, tampering, refusals, lost connections, restarts, audits, and flows that the
    switch itself learns and forgets, in any order.

    After every commit the switch holds some set of flows that was desired at one time, unless
    somebody else wrote to it; in the end it holds what is desired.
    """
    chance = random.Random(seed)
    wanted = Wanted(flow(n) for n in range(chance.randint(0, 6)))
    history = [raw(wanted.flows.values(), wanted.digest)]
    play = Play(wanted, timing=OFTEN if chance.random() < 0.5 else TIMING)
    tampered = False

    def change():
        there = sorted(wanted.flows)
        gone = [wanted.flows[k] for k in there if chance.random() < 0.2]
        adds = {n: flow(n, chance.randint(1, 3)) for n in chance.sample(range(12), 3)}
        kept = [f for f in adds.values() if wanted.flows.get(f.key) != f]
        play.change(kept, [f for f in gone if f.key not in {g.key for g in kept}])
        history.append(raw(wanted.flows.values(), wanted.digest))

    def tamper():
        nonlocal tampered
        tampered = True
        keys = sorted(play.switch.flows)
        if keys and chance.random() < 0.7:
            del play.switch.flows[chance.choice(keys)]
        else:
            play.switch.flows[(200, 1, bytes.fromhex("0001000400000000"))] = RawFlow(0, b"")

    def learn():
        if chance.random() < 0.2:
            play.switch.forget()
        else:
            play.switch.learn(chance.randint(0, 5))

    def lose():
        play.feed(Disconnected(play.switch.connection, "lost"))
        if chance.random() < 0.3:
            play.switch.flows = {}
        play.carry_out(play.board.handle(play.switch.reconnect(), {NODE}, play.now))

    def refuse():
        play.switch.refuse = {OURS | chance.randint(0, 11)} if chance.random() < 0.5 else set()
        late = chance.random() < 0.3
        play.switch.refuse_late = {OURS | chance.randint(0, 11)} if late else set()

    def answer():
        if play.switch.answers:
            play.answer()

    def pass_time():
        play.wait(chance.choice([0.5, 1, 5]))
        play.settle()

    for _ in range(steps):
        weights = (6, 20, 1, 1, 2, 2, 2)
        happens = (change, answer, tamper, lose, refuse, pass_time, learn)
        (step,) = chance.choices(happens, weights)
        step()
        assert play.board.due <= play.session.due
        if not tampered:
            assert all(commit in history for commit in play.switch.commits)
    play.switch.refuse = play.switch.refuse_late = set()
    for _ in range(70):
        play.settle()
        play.wait(TIMING.quiet)
    play.assert_right()
    assert play.session.state is State.STEADY
