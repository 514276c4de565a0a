"""The reflector against a server that misbehaves in every way, in any order.

Whatever happens in between: in the end the consumer knows exactly what the server has; and on
the way it was never told of a state that the server was not in, nor of one older than it knew.
"""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from reflector_line import Line

ACTIONS = sorted(name.removeprefix("do_") for name in vars(Line) if name.startswith("do_"))
COMMON = ["write", "write", "delete", "deliver", "deliver", "deliver"]
STEPS = st.lists(
    st.tuples(st.sampled_from(ACTIONS + COMMON * 2), st.integers(0, 40)), min_size=5, max_size=60
)


@settings(max_examples=800, deadline=None)
@given(STEPS, st.integers(0, 3))
@example([("write", 0), ("delete", 0), ("deliver", 1), ("repeat", 0)], 0)
@example([("deliver", 1), ("write", 0), ("deliver", 9), ("delete", 0), ("repeat", 0)], 0)
def test_any_course_of_events_ends_with_the_server_s_state(steps, seed):
    way = Line(seed=seed)
    for action, number in steps:
        way.act(action, number)
    way.settle()
    assert way.consumer.view == way.api.at(way.api.version)
    assert not way.consumer.stale


@settings(max_examples=150, deadline=None)
@given(STEPS, st.sampled_from(["gone_list", "gone_watch", "gone_event"]))
def test_410_at_every_point(steps, where):
    """The same course, with everything forgotten before every single step."""
    way = Line()
    for action, number in steps:
        way.api.compact()
        if where == "gone_event":
            way.do_error_event(0)
        elif where == "gone_watch" and way.watching:
            way.tell(way.reflector.ended(way.now))
        way.act(action, number)
    way.settle()
    assert way.consumer.view == way.api.at(way.api.version)
