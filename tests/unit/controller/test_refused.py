"""Refused ports: each is told of once, when it has been refused for a while."""

from ovsnet.controller.belief import Port, Reason, Refusal
from ovsnet.controller.refused import RefusedPort, RefusedPorts

GRACE = 2.0


def refused(number: int) -> RefusedPort:
    port = Port(number, f"pod-{number}", "0e:58:0a:00:00:05")
    return "node-1", Refusal(port, Reason.NO_SUCH_POD)


ONE, OTHER = refused(1), refused(2)


def test_each_is_told_of_once_after_a_while() -> None:
    ports = RefusedPorts(GRACE)
    assert ports.due == float("inf")
    ports.are([ONE], 10.0)
    ports.are([ONE, OTHER], 11.0)
    assert ports.since == {ONE: 10.0, OTHER: 11.0}
    assert ports.due == 12.0
    assert ports.overdue(11.9) == []
    assert ports.overdue(12.0) == [ONE]
    assert ports.due == 13.0
    assert ports.overdue(13.0) == [OTHER]
    assert ports.due == float("inf")
    assert ports.overdue(99.0) == []


def test_one_that_is_believed_in_time_is_never_told_of() -> None:
    ports = RefusedPorts(GRACE)
    ports.are([ONE], 10.0)
    ports.are([], 11.0)
    assert ports.due == float("inf")
    assert ports.overdue(99.0) == []


def test_one_that_is_refused_anew_is_told_of_anew_and_not_at_once() -> None:
    ports = RefusedPorts(GRACE)
    ports.are([ONE], 10.0)
    assert ports.overdue(12.0) == [ONE]
    ports.are([], 13.0)
    ports.are([ONE], 20.0)
    assert ports.overdue(21.9) == []
    assert ports.overdue(22.0) == [ONE]


def test_who_hears_next_is_told_of_all_there_are() -> None:
    ports = RefusedPorts(GRACE)
    ports.are([ONE], 10.0)
    assert ports.overdue(12.0) == [ONE]
    ports.tell_again()
    assert ports.due == 12.0
    assert ports.overdue(13.0) == [ONE]
