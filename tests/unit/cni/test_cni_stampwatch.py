"""The stamp as the switch tells it: the bytes, and the connection that they come over."""

from __future__ import annotations

import socket
import struct
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsnet.cni import stampwatch
from ovsnet.cni.stampwatch import Stamp, StampWatch, Update, WatchError, messages, updates
from ovsnet.controller.openflow.actions import encode_instructions
from ovsnet.flows.flow import Output
from ovsnet.flows.stamp import stamp_flow
from ovsnet.names import Table

INITIAL, ADDED, REMOVED, MODIFIED, ABBREVIATED, PAUSED, RESUMED = range(7)
EMPTY_MATCH = bytes.fromhex("0001000400000000")
IN_PORT = bytes.fromhex("0001000c8000000400000001") + bytes(4)


def update(event, digest=0, serial=0, *, priority=0, match=EMPTY_MATCH, instructions=None):
    """A flow update as Open vSwitch sends it (ofp_flow_update_full)."""
    if instructions is None:
        instructions = encode_instructions(stamp_flow(digest, serial).actions)
    fixed = struct.pack("!BBHHH4xQ", Table.STAMP, 0, 0, 0, priority, digest)
    body = fixed + match + instructions
    return struct.pack("!HH", len(body) + 4, event) + body


def reply(*parts, kind=16):
    return struct.pack("!HH4x", kind, 0) + b"".join(parts)


def message(kind, body, version=6, xid=0):
    return struct.pack("!BBHI", version, kind, len(body) + 8, xid) + body


def told(*parts):
    return list(updates(reply(*parts)))


@pytest.mark.parametrize("event", [INITIAL, ADDED, MODIFIED])
def test_a_stamp_with_its_number_as_the_controller_writes_it(event):
    assert told(update(event, 0xABCDEF, 7)) == [Update(Stamp(0xABCDEF, 7))]
    assert told(update(event, 1, (1 << 32) - 1)) == [Update(Stamp(1, (1 << 32) - 1))]


def test_a_stamp_without_a_number():
    assert told(update(ADDED, 5)) == [Update(Stamp(5, 0))]


def test_a_stamp_that_is_removed():
    assert told(update(ADDED, 5, 1), update(REMOVED, 5, 1)) == [Update(Stamp(5, 1)), Update(None)]


def test_other_flows_in_its_table_are_none_of_it():
    for event in (ADDED, REMOVED):
        assert told(update(event, 5, priority=3)) == []
        assert told(update(event, 5, match=IN_PORT)) == []


def test_actions_that_are_no_number():
    instructions = encode_instructions((Output(7),))
    assert told(update(ADDED, 5, instructions=instructions)) == [Update(Stamp(5, 0))]


def test_what_is_no_flow_is_passed_over():
    abbreviated = struct.pack("!HHI", 8, ABBREVIATED, 9)
    paused, resumed = (struct.pack("!HH4x", 8, event) for event in (PAUSED, RESUMED))
    parts = abbreviated, paused, update(ADDED, 5, 1), resumed
    assert told(*parts) == [Update(Stamp(5, 1))]
    assert list(updates(reply(update(ADDED, 5, 1), kind=1))) == []
    assert list(updates(b"")) == []


@pytest.mark.parametrize(
    "part",
    [b"\0", struct.pack("!HH", 0, ADDED), struct.pack("!HH", 4, ADDED), b"\0\x20\0\x01" + bytes(4)],
)
def test_lengths_that_cannot_be(part):
    with pytest.raises(WatchError):
        told(part)


@given(st.binary(max_size=120))
def test_any_bytes_end_in_updates_or_in_words(body):
    for whole in (body, reply(body)):
        try:
            list(updates(whole))
            list(messages(bytearray(whole)))
        except WatchError:
            pass


class Switch:
    """The other end: a management socket, and what is said over it when the test says so."""

    def __init__(self, path):
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._listener.settimeout(20)
        self.connection = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()
        if self.connection is not None:
            self.connection.close()

    def serve(self, *parts):
        """Accept a connection in a thread, greet, and tell what there is."""

        def run():
            self.connection, _ = self._listener.accept()
            self.connection.settimeout(20)
            self.say(message(0, b""), message(19, reply(*parts)))

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def say(self, *whole):
        self.connection.sendall(b"".join(whole))

    def heard(self, octets):
        data = b""
        while len(data) < octets:
            data += self.connection.recv(octets - len(data))
        return data


@pytest.fixture
def switch(tmp_path):
    with Switch(tmp_path / "br-int.mgmt") as found:
        yield found


def test_it_knows_the_stamp_as_soon_as_it_is_connected(switch):
    switch.serve(update(INITIAL, 5, 1))
    with StampWatch(switch.path) as watch:
        assert watch.stamp == Stamp(5, 1)
        asked = stampwatch.hello() + stampwatch.monitor_request(Table.STAMP)
        assert switch.heard(len(asked)) == asked


def test_a_switch_without_a_stamp_is_waited_for_until_it_has_one(switch):
    switch.serve()
    with StampWatch(switch.path) as watch:
        assert watch.newest() is None
        switch.say(message(19, reply(update(ADDED, 5, 1))))
        watch.wait(20)
        assert watch.newest() == Stamp(5, 1)


def test_of_many_changes_the_newest_is_told(switch):
    switch.serve(update(INITIAL, 5, 1))
    with StampWatch(switch.path) as watch:
        parts = [update(ADDED, 5 + n, n) for n in range(2, 40)]
        switch.say(message(19, reply(*parts)), message(19, reply(update(ADDED, 99, 40))))
        assert watch.newest() == Stamp(99, 40)
        assert watch.newest() == Stamp(99, 40)


def test_a_message_in_pieces(switch):
    switch.serve()
    with StampWatch(switch.path) as watch:
        whole = message(19, reply(update(ADDED, 5, 1)))
        for at in range(len(whole)):
            assert watch.newest() is None
            switch.say(whole[at : at + 1])
        assert watch.newest() == Stamp(5, 1)


def test_a_sign_of_life_that_the_switch_asks_for(switch):
    switch.serve()
    with StampWatch(switch.path) as watch:
        asked = stampwatch.hello() + stampwatch.monitor_request(Table.STAMP)
        switch.heard(len(asked))
        switch.say(message(2, b"are you there", xid=77))
        watch.newest()
        assert switch.heard(21) == message(3, b"are you there", xid=77)


def test_a_switch_that_hangs_up(switch):
    switch.serve()
    with StampWatch(switch.path) as watch:
        switch.connection.close()
        with pytest.raises(WatchError, match=r"hung up|is gone"):
            watch.wait(20)


def test_one_who_waits_is_cut_off_from_another_thread(switch):
    switch.serve()
    with StampWatch(switch.path) as watch:
        threading.Timer(0.05, watch.cut).start()
        with pytest.raises(WatchError):
            watch.wait(20)


def test_a_bridge_that_is_not_there(tmp_path):
    with pytest.raises(WatchError, match=r"br-int\.mgmt: No such file"):
        StampWatch(tmp_path / "br-int.mgmt")


@pytest.mark.parametrize("version", [1, 6])
def test_a_switch_that_will_not_be_watched_says_so(switch, version):
    def refuse():
        switch.connection, _ = switch._listener.accept()
        switch.say(message(0, b"", 4), message(1, b"\0\x01\0\x02", version))

    thread = threading.Thread(target=refuse)
    thread.start()
    with pytest.raises(WatchError, match=r"error 00010002.*OpenFlow15"):
        StampWatch(switch.path)
    thread.join()


def test_another_version_of_openflow(switch):
    def speak():
        switch.connection, _ = switch._listener.accept()
        switch.say(message(19, reply(), version=4))

    thread = threading.Thread(target=speak)
    thread.start()
    with pytest.raises(WatchError, match="version 0x4"):
        StampWatch(switch.path)
    thread.join()
