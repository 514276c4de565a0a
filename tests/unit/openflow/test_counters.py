"""Readings of what switches have dropped: regular, right, and in nobody's way."""

import random
from collections import Counter
from ipaddress import ip_address

import msgspec
import pytest
from fake_switch import description
from hypothesis import given, settings
from hypothesis import strategies as st
from session_play import NODE, OURS, TIMING, Play, Wanted, flow, settled

from ovsnet.controller.counters import Counters
from ovsnet.controller.notices import Acknowledged, Counted, Dumped, Lost, NotCounted, Send
from ovsnet.controller.openflow import decode
from ovsnet.controller.openflow.events import Disconnected, FlowsListed, Refused
from ovsnet.controller.openflow.oxm import WireError
from ovsnet.controller.states import State
from ovsnet.flows.policy import isolated
from ovsnet.model import Direction
from ovsnet.names import Table

EVERY = 2.0
COUNTING = msgspec.structs.replace(TIMING, counters=EVERY)
DROPS = {Table.EGRESS_DEFAULT, Table.INGRESS_DEFAULT}


def isolation(number, direction=Direction.INGRESS, cookie=None):
    """The flows that isolate a pod of two addresses."""
    addresses = (ip_address("10.1.0.0") + number, ip_address("fd00::") + number)
    cookie = OURS | number if cookie is None else cookie
    return [msgspec.structs.replace(f, cookie=cookie) for f in isolated(direction, addresses)]


def counting(count=3):
    """A switch that isolates so many pods, and has been read for the first time."""
    play = settled(Wanted(f for n in range(1, count + 1) for f in isolation(n)), COUNTING)
    play.wait(EVERY)
    play.settle()
    (first,) = play.heard(Counted)
    assert first.packets == {}
    play.said.clear()
    return play


def drop(play, cookie, packets=1, family=0):
    """Packets meet the drop flow of a pod, by its IPv4 or its IPv6 address."""
    keys = sorted(k for k, f in play.switch.flows.items() if f.cookie == cookie and k[0] in DROPS)
    key = keys[family]
    play.switch.packets[key] = play.switch.packets.get(key, 0) + packets


def held(switch):
    """What a switch has counted, as a reading should tell it."""
    found = Counter()
    for key, counted in switch.packets.items():
        if counted and key[0] in DROPS and key in switch.flows:
            found[switch.flows[key].cookie] += counted
    return dict(found)


def listings(play):
    return [answer for answer in play.switch.answers if isinstance(answer, FlowsListed)]


def test_a_switch_is_asked_every_so_often_for_these_two_tables_alone():
    play = counting()
    # A packet that was let into the policies' table is none that was dropped.
    play.switch.packets = {k: 100 for k in play.switch.flows if k[0] not in DROPS}
    drop(play, OURS | 1, 3)
    drop(play, OURS | 3, 7)
    assert play.board.due <= play.now + EVERY
    play.wait(EVERY)
    asked = listings(play)
    assert len({part.xid for part in asked}) == 2
    assert sum(len(decode.flows(part.body)) for part in asked) == 6
    play.settle()
    assert play.heard(Counted) == [Counted(NODE, {OURS | 1: 3, OURS | 3: 7})]
    play.wait(EVERY / 2)
    assert not listings(play)
    play.wait(EVERY / 2)
    play.settle()
    assert len(play.heard(Counted)) == 2
    assert not play.switch.writes


def test_both_families_and_directions_of_a_pod_add_up_by_their_cookie():
    both = [*isolation(1), *isolation(1, Direction.EGRESS, OURS | 77)]
    play = settled(Wanted(both), COUNTING)
    drop(play, OURS | 1, 3, family=0)
    drop(play, OURS | 1, 4, family=1)
    drop(play, OURS | 77, 5, family=1)
    play.wait(EVERY)
    play.settle()
    assert play.heard(Counted)[-1].packets == {OURS | 1: 7, OURS | 77: 5}


def test_switches_that_connect_all_at_once_are_not_asked_all_at_once():
    moments = Counter()
    for number in range(200):
        counters = Counters(f"node-{number}", lambda: 1, lambda data: Send(1, data), EVERY, 60)
        counters.begin(100.0)
        assert 100 <= counters.due <= 100 + EVERY
        moments[int(10 * counters.due)] += 1
    assert len(moments) == int(10 * EVERY)
    assert max(moments.values()) < 30


def test_a_node_that_connects_anew_is_asked_as_long_after_as_before():
    play = settled(Wanted(isolation(1)), COUNTING)
    begun = play.session._counters.due
    play.feed(Disconnected(play.switch.connection, "lost"))
    play.carry_out(play.board.handle(play.switch.reconnect(), {NODE}, play.now))
    play.settle()
    assert play.session._counters.due == begun


def test_nobody_is_asked_before_the_truth_is_known():
    play = Play(Wanted(isolation(1)), timing=COUNTING)
    play.wait(EVERY * 3)
    assert not listings(play)
    assert play.session.state is State.ASKING_ROLE


def test_an_answer_that_comes_late_is_waited_for_and_no_second_question_is_put():
    play = counting()
    drop(play, OURS | 1)
    play.wait(EVERY)
    late = list(play.switch.answers)
    play.switch.answers.clear()
    for _ in range(5):
        play.wait(EVERY)
        assert not listings(play)
    play.switch.answers.extend(late)
    play.settle()
    assert play.heard(Counted) == [Counted(NODE, {OURS | 1: 1})]
    # The next one is due at once, for its time has passed.
    play.wait(0)
    assert len({part.xid for part in listings(play)}) == 2


def test_an_answer_that_comes_slowly_is_waited_for():
    play = counting(9)
    drop(play, OURS | 1)
    play.wait(EVERY)
    parts = listings(play)
    play.switch.answers.clear()
    assert len(parts) > 5
    for part in parts:
        for _ in range(3):
            play.wait(COUNTING.quiet * 3)
            play.settle()
        play.feed(part)
    assert play.heard(Counted) == [Counted(NODE, {OURS | 1: 1})]
    assert not play.heard(NotCounted)


def test_a_switch_that_does_not_answer_is_asked_again_and_kept():
    play = counting()
    play.wait(EVERY)
    late = list(play.switch.answers)
    play.switch.answers.clear()
    drop(play, OURS | 1)
    given_up = play.now + COUNTING.answer
    while play.now < given_up:
        play.wait(COUNTING.quiet)
        if play.now < given_up:
            play.settle()
    (failed,) = play.heard(NotCounted)
    assert failed == NotCounted(NODE, "it has not answered for 60 s")
    assert play.session.state is State.STEADY
    # What the old question brings all the same is in nobody's way.
    play.switch.answers.extendleft(reversed(late))
    play.settle()
    assert play.heard(Counted) == [Counted(NODE, {OURS | 1: 1})]
    assert not play.heard(Lost)


@pytest.mark.parametrize("refused", [0, 1])
def test_a_switch_that_refuses_is_asked_again_and_kept(refused):
    play = counting(1)
    play.wait(EVERY)
    parts = listings(play)
    play.switch.answers.clear()
    no = Refused(play.switch.connection, parts[refused].xid, 1, 5, "not permitted", b"")
    play.feed(no)
    assert play.heard(NotCounted) == [NotCounted(NODE, "it refused: not permitted")]
    # The answer to the other question, and the same refusal once more, mean nothing now.
    play.feed(parts[1 - refused])
    play.feed(no)
    assert len(play.said) == 1
    play.change(adds=[flow(10)])
    play.wait(EVERY)
    play.settle()
    play.assert_right()
    assert len(play.heard(Counted)) == 1


def test_answers_to_questions_of_nobody_change_nothing():
    play = counting()
    drop(play, OURS | 1)
    play.wait(EVERY)
    parts = listings(play)
    foreign = max(part.xid for part in parts) + 1
    play.feed(msgspec.structs.replace(parts[0], xid=foreign))
    play.feed(msgspec.structs.replace(parts[0], xid=foreign, more=True))
    play.settle()
    # Nor does the end of an answer that has ended.
    play.feed(parts[-1])
    assert play.said == [Counted(NODE, {OURS | 1: 1})]


def test_a_lost_connection_ends_the_reading_and_the_next_one_begins_anew():
    play = counting()
    drop(play, OURS | 1, 2)
    play.wait(EVERY)
    play.answer()
    play.feed(Disconnected(play.switch.connection, "the cable was cut"))
    assert len(play.heard(Lost)) == 1
    play.carry_out(play.board.handle(play.switch.reconnect(), {NODE}, play.now))
    play.settle()
    assert not play.heard(Counted)
    play.wait(EVERY)
    play.settle()
    assert play.heard(Counted) == [Counted(NODE, {OURS | 1: 2})]


def test_a_dump_an_audit_a_bundle_and_a_reading_do_not_mix():
    timing = msgspec.structs.replace(COUNTING, audit=EVERY)
    play = settled(Wanted(f for n in range(1, 4) for f in isolation(n)), timing)
    drop(play, OURS | 2, 9)
    play.carry_out(play.board.dump(NODE, 1, play.now))
    play.wait(EVERY)
    play.change(adds=[flow(10)])
    by_xid = {}
    for answer in play.switch.answers:
        by_xid.setdefault(answer.xid, []).append(answer)
    play.switch.answers.clear()
    assert sum(isinstance(parts[0], FlowsListed) for parts in by_xid.values()) == 4
    # Parts of several answers may come in any mixture, those of one in their order.
    order = [xid for xid, parts in by_xid.items() for _ in parts]
    random.Random(3).shuffle(order)
    for xid in order:
        play.feed(by_xid[xid].pop(0))
    play.settle()
    play.assert_right()
    assert play.heard(Counted) == [Counted(NODE, {OURS | 2: 9})]
    assert len(play.heard(Dumped)[0].flows) == 13
    assert len(play.heard(Acknowledged)) == 1


def test_after_a_refused_bundle_the_drops_are_counted_too():
    play = counting()
    play.switch.refuse = {OURS | 11}
    play.change(adds=[flow(11)])
    play.settle()
    assert play.session.state is State.BACKING_OFF
    drop(play, OURS | 1)
    play.wait(EVERY)
    while not play.heard(Counted):
        play.answer()
    assert play.heard(Counted) == [Counted(NODE, {OURS | 1: 1})]


def test_nonsense_ends_the_session():
    play = counting()
    play.wait(EVERY)
    asked = listings(play)[0]
    play.feed(FlowsListed(asked.connection, asked.xid, b"\x00\x01nonsense", False))
    assert "makes no sense" in play.heard(Lost)[0].reason


def test_an_answer_without_an_end_ends_the_session(monkeypatch):
    monkeypatch.setattr("ovsnet.controller.counters._MOST_FLOWS", 100)
    play = counting()
    play.wait(EVERY)
    part = msgspec.structs.replace(max(listings(play), key=lambda p: len(p.body)), more=True)
    for _ in range(50):
        play.feed(part)
        if play.heard(Lost):
            break
    assert "more than 100 flows in one reading" in play.heard(Lost)[0].reason


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**56)), max_size=9))
def test_packets_by_cookie_are_what_whole_flows_say(numbers):
    play = settled(Wanted(isolation(1)))
    (key, entry), *_ = play.switch.flows.items()
    body = b"".join(
        description(key, entry._replace(cookie=cookie), packets=packets)
        for cookie, packets in numbers
    )
    whole = [(f.cookie, stats.packets) for f, stats in decode.flows_with_stats(body)]
    assert list(decode.packets(body)) == whole
    with pytest.raises(WireError):
        list(decode.packets(body + b"\x00\x01"))


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 1 << 32), steps=st.integers(1, 60))
def test_whatever_happens_a_reading_is_later_than_its_question_and_the_flows_come_right(
    seed, steps
):
    chance = random.Random(seed)
    pods = {n: isolation(n) for n in range(1, 6)}
    wanted = Wanted(f for n in pods if chance.random() < 0.5 for f in pods[n])
    patient = msgspec.structs.replace(COUNTING, dead=9999, answer=9999)
    play = Play(wanted, timing=patient)
    since = []
    told = 0

    def look():
        if play.board.session(NODE) and play.session._counters._coming is not None:
            since.append(held(play.switch))
        else:
            since.clear()

    def answer():
        nonlocal told
        if play.switch.answers:
            play.answer()
        for said in play.said[told:]:
            if isinstance(said, Counted):
                # Two tables are two questions, so the whole lies between two moments; here all
                # flows stand in one of them.
                assert said.packets in since
        told = len(play.said)

    def hit():
        cookies = sorted({f.cookie for k, f in play.switch.flows.items() if k[0] in DROPS})
        if cookies:
            drop(play, chance.choice(cookies), chance.randint(1, 5), chance.randint(0, 1))

    def change():
        flows = pods[chance.choice(list(pods))]
        if flows[0].key in wanted.flows:
            play.change(deletes=flows)
        else:
            play.change(adds=flows)

    def question():
        play.carry_out(play.board.dump(NODE, 1, play.now))

    def lose():
        play.feed(Disconnected(play.switch.connection, "lost"))
        since.clear()
        play.carry_out(play.board.handle(play.switch.reconnect(), {NODE}, play.now))

    def wait():
        play.wait(chance.choice([0.5, 1, 5]))

    for _ in range(steps):
        weights = (24, 8, 3, 2, 1, 5)
        (step,) = chance.choices((answer, hit, change, question, lose, wait), weights)
        step()
        look()
        assert play.board.due <= play.session.due
    for _ in range(10):
        play.settle()
        play.wait(EVERY)
    play.settle()
    play.assert_right()
    assert play.heard(Counted)[-1].packets == held(play.switch)
    assert not play.heard(NotCounted)
