"""Who has to go when too many connections have not shown who they are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ovsnet.controller.trust.newcomers import Newcomers


def test_the_oldest_of_the_most_crowded_address_goes():
    room = Newcomers(4)
    assert [room.enter(n, a) for n, a in enumerate("abba")] == [None] * 4
    assert room.enter(4, "b") == 1
    assert room.enter(5, "c") in {0, 2}


def test_one_who_opens_many_pushes_out_their_own():
    room = Newcomers(10)
    room.enter("good", "192.0.2.1")
    for n in range(1000):
        assert room.enter(n, "192.0.2.9") != "good"


def test_who_has_left_makes_place():
    room = Newcomers(1)
    room.enter(1, "a")
    room.leave(1)
    assert room.enter(2, "a") is None
    room.leave(7)
    assert room.enter(3, "a") == 2


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.sampled_from("abc"))))
def test_there_are_never_more_than_there_may_be_and_none_is_put_out_twice(steps):
    room, inside = Newcomers(3), {}
    for number, (leaves, which, address) in enumerate(steps):
        if leaves:
            room.leave(which)
            inside.pop(which, None)
            continue
        key = number + 10
        gone = room.enter(key, address)
        inside[key] = address
        if gone is not None:
            crowd = list(inside.values())
            assert crowd.count(inside.pop(gone)) == max(map(crowd.count, crowd))
        assert len(inside) <= 3
