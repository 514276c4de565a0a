"""The stamp as the switch tells it, among other flows and in every order."""

from __future__ import annotations

import struct

import msgspec
import pytest
from flow_monitoring import (
    ABBREVIATED,
    ADDED,
    INITIAL,
    MODIFIED,
    PAUSED,
    REMOVED,
    RESUMED,
    ToldSwitch,
    pause,
    reply,
    stamp_update,
    update,
)

from ovsnet.cni.flowupdates import hello, monitor_request, updates
from ovsnet.cni.stampwatch import STAMP, Change, Stamp, StampWatch, change_of
from ovsnet.flows.flow import Flow, Output
from ovsnet.flows.stamp import stamp_flow
from ovsnet.flows.terms import in_port
from ovsnet.names import Table


def told(*parts: bytes) -> list[Change]:
    changes = map(change_of, updates(reply(*parts)))
    return [change for change in changes if change is not None]


@pytest.mark.parametrize("event", [INITIAL, ADDED, MODIFIED])
def test_a_stamp_with_its_number_as_the_controller_writes_it(event: int) -> None:
    assert told(stamp_update(event, 0xABCDEF, 7)) == [Change(Stamp(0xABCDEF, 7))]
    most = (1 << 32) - 1
    assert told(stamp_update(event, 1, most)) == [Change(Stamp(1, most))]


def test_a_stamp_without_a_number() -> None:
    assert told(stamp_update(ADDED, 5)) == [Change(Stamp(5, 0))]


def test_a_stamp_that_is_removed() -> None:
    changes = told(stamp_update(ADDED, 5, 1), stamp_update(REMOVED, 5, 1))
    assert changes == [Change(Stamp(5, 1)), Change(None)]


@pytest.mark.parametrize("event", [ADDED, REMOVED])
def test_other_flows_are_none_of_it(event: int) -> None:
    stamp = stamp_flow(5, 1)
    others = (
        msgspec.structs.replace(stamp, priority=3),
        msgspec.structs.replace(stamp, match=(in_port(1),)),
        msgspec.structs.replace(stamp, table=Table.OUTPUT),
    )
    assert told(*(update(event, other, 5) for other in others)) == []


def test_actions_that_are_no_number() -> None:
    flow = Flow(Table.STAMP, 0, (), (Output(7),))
    assert told(update(ADDED, flow, 5)) == [Change(Stamp(5, 0))]


def test_what_is_no_flow_is_passed_over() -> None:
    abbreviated = struct.pack("!HHI", 8, ABBREVIATED, 9)
    parts = abbreviated, pause(PAUSED), stamp_update(ADDED, 5, 1), pause(RESUMED)
    told_of = [update for update in updates(reply(*parts)) if update.match]
    assert list(map(change_of, told_of)) == [Change(Stamp(5, 1))]


def test_the_stamp_is_known_as_soon_as_the_switch_is_watched(told_switch: ToldSwitch) -> None:
    told_switch.serve(stamp_update(INITIAL, 5, 1))
    with StampWatch(told_switch.path) as watch:
        assert watch.stamp == Stamp(5, 1)
        asked = hello() + monitor_request([STAMP])
        assert told_switch.heard(len(asked)) == asked


def test_a_switch_without_a_stamp_is_waited_for_until_it_has_one(told_switch: ToldSwitch) -> None:
    told_switch.serve()
    with StampWatch(told_switch.path) as watch:
        assert watch.newest() is None
        told_switch.tell(stamp_update(ADDED, 5, 1))
        watch.wait(20)
        assert watch.newest() == Stamp(5, 1)


def test_of_many_changes_the_newest_is_told(told_switch: ToldSwitch) -> None:
    told_switch.serve(stamp_update(INITIAL, 5, 1))
    with StampWatch(told_switch.path) as watch:
        told_switch.tell(*(stamp_update(ADDED, 5 + n, n) for n in range(2, 40)))
        told_switch.tell(stamp_update(ADDED, 99, 40))
        assert watch.newest() == Stamp(99, 40)
        assert watch.newest() == Stamp(99, 40)
