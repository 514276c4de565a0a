"""Groups: their bytes, and that they come with the flows that lead to them and never alone."""

import struct

import msgspec
import pytest
from session_play import OURS, TIMING, Play, Wanted, flow, raw, settled

from ovsnet.controller.notices import Acknowledged, Compared, Synchronised, WriteFailed
from ovsnet.controller.openflow import groups
from ovsnet.controller.openflow.actions import encode_list
from ovsnet.controller.openflow.groups import group_message, groups_for
from ovsnet.flows.fields import Field
from ovsnet.flows.flow import Flow, Group, Resubmit, SelectGroup, SetField
from ovsnet.names import Table

PLAIN, OUTER, INNER = 1, 2, 3
DONE = (Resubmit(Table.SPREAD),)
BY_ID = {
    PLAIN: SelectGroup(PLAIN, 1, (DONE, DONE)),
    OUTER: SelectGroup(OUTER, 1, ((Group(INNER),), (Group(INNER),))),
    INNER: SelectGroup(INNER, 2, (DONE,)),
}
NAMED = {PLAIN: set(), OUTER: {INNER}, INNER: set()}


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """Groups of which one leads to another."""
    monkeypatch.setattr(groups, "_GROUPS", BY_ID)


def balancing(number: int, group: int) -> Flow:
    return msgspec.structs.replace(flow(number), actions=(Group(group),))


def ids(messages: list[bytes]) -> list[int]:
    return [struct.unpack_from("!I", message, 28)[0] for message in messages]


def test_the_bytes_of_a_group():
    """As OpenFlow 1.5.1 (section 7.3.4.3) and Netronome's selection method have it."""
    first = (SetField(Field.REG2, 0, 0xF), Resubmit(Table.SPREAD))
    second = (SetField(Field.REG2, 1, 0xF), Resubmit(Table.SPREAD))
    actions = [encode_list(first), encode_list(second)]
    buckets = b"".join(
        struct.pack("!HHI", 16 + len(each), len(each), number)
        + each
        + struct.pack("!HHHH", 0, 8, 100, 0)
        for number, each in enumerate(actions)
    )
    method = struct.pack("!HHII4x16sQ", 0xFFFF, 40, 0x154D, 1, b"dp_hash", 5)
    head = struct.pack("!HBBIHHI", 0x8000, 1, 0, 9, len(buckets), 0, 0xFFFFFFFF)
    inner = head + buckets + method
    length = 8 + len(inner)
    expected = (
        struct.pack("!BBHIIHH", 6, 34, 16 + length, 1, 1, 0, 3)
        + struct.pack("!BBHI", 6, 15, length, 1)
        + inner
    )
    assert group_message(SelectGroup(9, 5, (first, second))) == expected


def test_a_flow_brings_the_groups_that_it_leads_to_what_is_named_before_who_names_it():
    assert groups_for([]) == []
    assert groups_for([flow(1), flow(2)]) == []
    assert ids(groups_for([balancing(1, PLAIN), flow(2), balancing(3, PLAIN)])) == [PLAIN]
    assert ids(groups_for([balancing(1, OUTER)])) == [INNER, OUTER]
    assert ids(groups_for([balancing(1, INNER), balancing(2, OUTER)])) == [INNER, OUTER]
    assert groups_for([balancing(1, 77)]) == []
    everything = ids(groups_for(balancing(n, n) for n in BY_ID))
    assert sorted(everything) == sorted(BY_ID)
    for place, number in enumerate(everything):
        assert NAMED[number] <= set(everything[:place])


def test_a_new_switch_gets_groups_with_its_flows():
    play = Play(Wanted([flow(1), balancing(2, OUTER)]))
    play.settle()
    play.assert_right()
    assert play.switch.group_writes == [INNER, OUTER]
    assert play.switch.groups[OUTER] == group_message(BY_ID[OUTER])[16:]
    assert len(play.switch.commits) == 1
    (acknowledged,) = play.heard(Acknowledged)
    assert acknowledged.written == 3, "flows and the stamp"


def test_what_needs_no_group_brings_none():
    play = settled(Wanted([flow(1), balancing(2, PLAIN)]))
    play.switch.group_writes.clear()
    play.change(adds=[flow(3)], deletes=[balancing(2, PLAIN)])
    play.settle()
    play.assert_right()
    assert play.switch.group_writes == []
    assert set(play.switch.groups) == {PLAIN}, "a group stays when its last flow goes"
    play.change(adds=[balancing(4, PLAIN)])
    play.settle()
    play.assert_right()
    assert play.switch.group_writes == [PLAIN], "it may be another one's, or none, by now"


def test_groups_deleted_by_hand_come_back_with_their_flows():
    play = settled(Wanted([flow(1), balancing(2, PLAIN), balancing(3, OUTER)]))
    play.switch.delete_groups()
    assert len(play.switch.flows) == 2
    for _ in range(int(TIMING.audit)):
        play.wait(TIMING.quiet)
        play.settle()
    play.assert_right()
    assert set(play.switch.groups) == {PLAIN, INNER, OUTER}
    assert play.heard(Compared)[0].missing == 2


def test_a_switch_that_lost_its_groups_meanwhile_gets_both():
    wanted = Wanted([flow(1), balancing(2, PLAIN)])
    play = settled(wanted)
    play.switch.delete_groups()
    again = Play(wanted, play.switch)
    again.settle()
    again.assert_right()
    assert set(again.switch.groups) == {PLAIN}


def test_a_known_switch_gets_no_group_again():
    wanted = Wanted([flow(1), balancing(2, PLAIN)])
    play = settled(wanted)
    play.switch.group_writes.clear()
    again = Play(wanted, play.switch)
    again.settle()
    assert again.heard(Synchronised)
    assert again.switch.group_writes == []


def test_a_flow_that_names_an_unknown_group_is_refused_and_harms_no_other():
    play = settled(Wanted([flow(1)]))
    before = dict(play.switch.flows)
    play.change(adds=[flow(2), balancing(3, 77)])
    play.settle()
    assert play.switch.flows == before
    (failed,) = play.heard(WriteFailed)
    assert failed.flow is not None
    assert failed.flow.cookie == OURS | 3


def test_a_refused_group_leaves_nothing_of_its_bundle():
    play = settled(Wanted([flow(1)]))
    play.switch.refuse_groups = True
    play.change(adds=[flow(2), balancing(3, PLAIN)])
    play.settle()
    assert play.switch.content == raw([flow(1)], Wanted([flow(1)]).digest)
    assert play.switch.groups == {}
    (failed,) = play.heard(WriteFailed)
    assert failed.flow is None
    play.switch.refuse_groups = False
    play.wait(failed.retry_in)
    play.settle()
    play.assert_right()
