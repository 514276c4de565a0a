"""Flows as a switch tells of them: the bytes, and the connection that they come over."""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path

import pytest
from flow_monitoring import (
    ADDED,
    ECHO_REPLY,
    ECHO_REQUEST,
    INITIAL,
    MORE,
    MULTIPART_REPLY,
    PAUSED,
    REMOVED,
    RESUMED,
    ToldSwitch,
    message,
    pause,
    reply,
    stamp_update,
    update,
)
from hypothesis import given
from hypothesis import strategies as st

from ovsnet.cni import flowmonitor
from ovsnet.cni.flowmonitor import FlowMonitor
from ovsnet.cni.flowupdates import (
    MONITOR_XID,
    Event,
    FlowUpdate,
    Kind,
    Watched,
    WatchError,
    hello,
    messages,
    monitor_request,
    oxm_match,
    updates,
)
from ovsnet.controller.openflow.actions import encode_instructions
from ovsnet.controller.openflow.oxm import encode_match
from ovsnet.flows.flow import Flow, Goto, match
from ovsnet.flows.terms import in_port
from ovsnet.names import Table

WATCHED = (Watched(Table.STAMP),)
ASKED = hello() + monitor_request(WATCHED)


@pytest.fixture(autouse=True)
def little_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nobody hears by chance what it does not wait for."""
    monkeypatch.setattr(flowmonitor, "_RECEIVE_BYTES", 8)


class Heard(FlowMonitor):
    """Remembers the digests of all stamps that it is told of."""

    def __init__(self, path: Path) -> None:
        self.digests: list[int] = []
        super().__init__(path, WATCHED)

    def told(self, update: FlowUpdate) -> None:
        self.digests.append(update.cookie)


def stamped(*digests: int) -> list[bytes]:
    return [stamp_update(ADDED, digest) for digest in digests]


@pytest.mark.parametrize("event", [Event.INITIAL, Event.ADDED, Event.REMOVED, Event.MODIFIED])
@pytest.mark.parametrize("condition", [(), (in_port(3),)])
def test_a_flow_with_all_that_is_told_of_it(event: Event, condition: tuple) -> None:
    flow = Flow(Table.SERVICE, 7, match(*condition), (Goto(Table.ROUTE),))
    expected = FlowUpdate(
        event,
        Table.SERVICE,
        7,
        99,
        encode_match(flow.match),
        encode_instructions(flow.actions),
    )
    assert list(updates(reply(update(event, flow, 99)))) == [expected]


def test_an_empty_match() -> None:
    assert oxm_match() == encode_match(())


def test_a_switch_that_pauses_and_one_that_is_something_else() -> None:
    told = list(updates(reply(pause(PAUSED), *stamped(5), pause(RESUMED))))
    assert [each.event for each in told] == [Event.PAUSED, Event.ADDED, Event.RESUMED]
    assert list(updates(reply(*stamped(5), kind=1))) == []
    assert list(updates(b"")) == []


@pytest.mark.parametrize(
    "part",
    [
        b"\0",
        struct.pack("!HH", 0, ADDED),
        struct.pack("!HH", 4, ADDED),
        b"\0\x20\0\x01" + bytes(4),
        struct.pack("!HH", 28, ADDED) + bytes(24),
        struct.pack("!HH20xHH", 28, ADDED, 1, 9),
    ],
)
def test_lengths_that_cannot_be(part: bytes) -> None:
    with pytest.raises(WatchError):
        list(updates(reply(part)))


@given(st.binary(max_size=120))
def test_any_bytes_end_in_updates_or_in_words(body: bytes) -> None:
    for whole in (body, reply(body)):
        try:
            list(updates(whole))
            list(messages(bytearray(whole)))
        except WatchError:
            pass


def test_what_is_there_may_come_in_several_messages(told_switch: ToldSwitch) -> None:
    first, second = (
        message(MULTIPART_REPLY, reply(*parts, flags=flags), xid=MONITOR_XID)
        for parts, flags in ((stamped(1, 2), MORE), (stamped(3), 0))
    )
    told_switch.answer(message(0, b""), first, second)
    with Heard(told_switch.path) as monitor:
        assert monitor.digests == [1, 2, 3]
        assert told_switch.heard(len(ASKED)) == ASKED


def test_a_change_while_that_comes_is_no_end_of_it(told_switch: ToldSwitch) -> None:
    told_switch.answer(
        message(0, b""),
        message(MULTIPART_REPLY, reply(*stamped(1), flags=MORE), xid=MONITOR_XID),
        message(MULTIPART_REPLY, reply(*stamped(2))),
        message(MULTIPART_REPLY, reply(*stamped(3)), xid=MONITOR_XID),
    )
    with Heard(told_switch.path) as monitor:
        assert monitor.digests == [1, 2, 3]


def test_a_message_in_pieces(told_switch: ToldSwitch) -> None:
    told_switch.serve()
    with Heard(told_switch.path) as monitor:
        whole = message(MULTIPART_REPLY, reply(*stamped(5)))
        for at in range(len(whole)):
            monitor.catch_up()
            assert monitor.digests == []
            told_switch.say(whole[at : at + 1])
        monitor.catch_up()
        assert monitor.digests == [5]


def test_a_bell_ends_the_wait(told_switch: ToldSwitch) -> None:
    told_switch.serve()
    reader, writer = os.pipe()
    try:
        with Heard(told_switch.path) as monitor:
            os.write(writer, b"!")
            monitor.wait(None, reader)
            assert monitor.digests == []
            told_switch.tell(*stamped(5))
            while not monitor.digests:
                monitor.wait(20, reader)
            assert monitor.digests == [5]
    finally:
        os.close(reader)
        os.close(writer)


def test_a_wait_ends_by_itself(told_switch: ToldSwitch) -> None:
    told_switch.serve()
    with Heard(told_switch.path) as monitor:
        monitor.wait(0.0001)
        assert monitor.digests == []


class Answering(threading.Thread):
    """The switch's side of `synchronise`: says something, answers, says something else."""

    def __init__(self, switch: ToldSwitch, before: bytes, after: bytes) -> None:
        super().__init__()
        self._switch, self._before, self._after = switch, before, after
        self.start()

    def run(self) -> None:
        request = self._switch.heard(8)
        xid = int.from_bytes(request[4:], "big")
        assert request == message(ECHO_REQUEST, b"", xid=xid)
        self._switch.say(self._before, message(ECHO_REPLY, b"", xid=xid), self._after)


def said(*parts: bytes) -> bytes:
    return message(MULTIPART_REPLY, reply(*parts))


@pytest.fixture
def monitor(told_switch: ToldSwitch):
    told_switch.serve(stamp_update(INITIAL, 1))
    with Heard(told_switch.path) as found:
        told_switch.heard(len(ASKED))
        yield found


def test_what_took_effect_before_is_told_when_they_are_in_step(
    told_switch: ToldSwitch, monitor: Heard
) -> None:
    for digest in (2, 3, 4):
        answering = Answering(told_switch, said(*stamped(digest)), b"")
        monitor.synchronise()
        answering.join()
        assert monitor.digests[-1] == digest


def test_an_answer_to_an_earlier_question_is_none(told_switch: ToldSwitch, monitor: Heard) -> None:
    earlier = message(ECHO_REPLY, b"", xid=MONITOR_XID)
    answering = Answering(told_switch, earlier + said(*stamped(2)), b"")
    monitor.synchronise()
    answering.join()
    assert monitor.digests == [1, 2]


def test_a_pause_is_waited_out(told_switch: ToldSwitch, monitor: Heard) -> None:
    """What was added in it is told at its end, which may come after the answer."""
    before = said(pause(PAUSED), stamp_update(REMOVED, 1))
    after = said(*stamped(2), pause(RESUMED))
    answering = Answering(told_switch, before, after)
    monitor.synchronise()
    answering.join()
    assert monitor.digests == [1, 1, 2]


def test_a_pause_that_is_over_is_not_waited_for(told_switch: ToldSwitch, monitor: Heard) -> None:
    answering = Answering(told_switch, said(pause(PAUSED), *stamped(2), pause(RESUMED)), b"")
    monitor.synchronise()
    answering.join()
    assert monitor.digests == [1, 2]


def test_messages_are_carried_out_when_that_is_said(
    told_switch: ToldSwitch, monitor: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flowmonitor, "_AT_ONCE", 2)
    bodies = [b"first", b"second", b"third", b"fourth", b"fifth"]
    heard: list[bytes] = []

    def switch() -> None:
        while len(heard) < 8:
            kind, length, xid = struct.unpack("!xBHI", told_switch.heard(8))
            heard.append(told_switch.heard(length - 8))
            if kind == ECHO_REQUEST:
                told_switch.say(message(ECHO_REPLY, b"", xid=xid))
            else:
                assert kind == Kind.EXPERIMENTER

    thread = threading.Thread(target=switch)
    thread.start()
    monitor.order(Kind.EXPERIMENTER, bodies)
    thread.join()
    assert heard == [b"first", b"second", b"", b"third", b"fourth", b"", b"fifth", b""]


def test_a_message_that_is_refused(told_switch: ToldSwitch, monitor: Heard) -> None:
    told_switch.say(message(1, b"\0\x01\0\x03", xid=1))
    with pytest.raises(WatchError, match=r"refuses a message \(error 00010003\).* 3\.1"):
        monitor.order(Kind.EXPERIMENTER, [b"unheard of"])


def test_a_switch_that_hangs_up_instead_of_an_answer(
    told_switch: ToldSwitch, monitor: Heard
) -> None:
    told_switch.connection.close()
    with pytest.raises(WatchError, match=r"hung up|is gone"):
        monitor.synchronise()


def test_a_sign_of_life_that_the_switch_asks_for(told_switch: ToldSwitch, monitor: Heard) -> None:
    told_switch.say(message(ECHO_REQUEST, b"are you there", xid=77))
    monitor.catch_up()
    assert told_switch.heard(21) == message(ECHO_REPLY, b"are you there", xid=77)


def test_a_switch_that_hangs_up(told_switch: ToldSwitch, monitor: Heard) -> None:
    told_switch.connection.close()
    with pytest.raises(WatchError, match=r"hung up|is gone"):
        monitor.wait(20)


def test_one_who_waits_is_cut_off_from_another_thread(monitor: Heard) -> None:
    threading.Timer(0.05, monitor.cut).start()
    with pytest.raises(WatchError):
        monitor.wait(20)


def test_a_bridge_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WatchError, match=r"br-int\.mgmt: No such file"):
        Heard(tmp_path / "br-int.mgmt")


@pytest.mark.parametrize("version", [1, 6])
def test_a_switch_that_will_not_be_watched_says_so(told_switch: ToldSwitch, version: int) -> None:
    told_switch.answer(message(0, b"", 4), message(1, b"\0\x01\0\x02", version))
    with pytest.raises(WatchError, match=r"error 00010002.*OpenFlow15"):
        Heard(told_switch.path)


def test_another_version_of_openflow(told_switch: ToldSwitch) -> None:
    told_switch.answer(message(MULTIPART_REPLY, reply(), version=4))
    with pytest.raises(WatchError, match="version 0x4"):
        Heard(told_switch.path)
