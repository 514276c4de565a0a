"""Waiting until all is in effect, with a controller that lags, goes away and comes back."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from ovsnet.cli.controller import UnreachableError
from ovsnet.cli.waiting import PATIENCE, NotInEffectError, Waiting
from ovsnet.controller.status import NodeStatus, Revision, Status, WatchState, WatchStatus

FIRST, SECOND = datetime(2025, 1, 31, 12, tzinfo=UTC), datetime(2025, 1, 31, 13, tzinfo=UTC)


def node(name, *revision, session="steady"):
    return NodeStatus(name, session, "00" * 8, 120, Revision(*revision))


def document(*nodes, started=FIRST, ready=True, watches=None):
    watches = watches or (watch("Pod"), watch("NetworkPolicy"))
    return Status("1", 0, started, ready, watches, nodes or (node("n1", 4, 4, 4),))


def watch(kind, version=10, refreshed=0, state=WatchState.CURRENT, reason=""):
    return WatchStatus(kind, state, 3, reason=reason, version=version, refreshed=refreshed)


def refreshed(base, number):
    watches = tuple(msgspec.structs.replace(w, refreshed=number) for w in base.watches)
    return msgspec.structs.replace(base, watches=watches)


class Controller:
    """Says one thing after the other, the last one again and again; time passes when one sleeps."""

    def __init__(self, *said, numbers=(1,)):
        self.said = list(said)
        self.numbers = list(numbers)
        self.asked = []
        self.now = 100.0

    def status(self):
        self.asked.append("status")
        found = self.said.pop(0) if len(self.said) > 1 else self.said[0]
        if isinstance(found, Exception):
            raise found
        return found

    def refresh(self):
        self.asked.append("refresh")
        number = self.numbers.pop(0)
        if isinstance(number, Exception):
            raise number
        return number

    def sleep(self, seconds):
        assert seconds > 0
        self.now += seconds


def wait(controller, seconds=60.0, versions=None):
    told = []
    waiting = Waiting(
        controller, versions or {}, told.append, lambda: controller.now, controller.sleep
    )
    return waiting.run(seconds), told


def test_all_is_in_effect_and_was_read_afresh():
    well = document()
    controller = Controller(well, refreshed(well, 1))
    assert wait(controller) == (refreshed(well, 1), [])
    assert controller.asked == ["status", "refresh", "status"]


def test_what_the_controller_has_not_heard_of_yet_is_waited_for():
    """All is in effect that it knows, but it has not listed afresh since it was asked."""
    well = document()
    half = msgspec.structs.replace(
        well, watches=(watch("Pod", refreshed=1), watch("NetworkPolicy", refreshed=0))
    )
    late = msgspec.structs.replace(refreshed(well, 1), nodes=(node("n1", 5, 4, 4),))
    done = msgspec.structs.replace(refreshed(well, 1), nodes=(node("n1", 5, 5, 5),))
    controller = Controller(well, well, half, late, done)
    assert wait(controller)[0] == done


@pytest.mark.parametrize(
    ("nodes", "missing"),
    [
        ((node("n1", 4, 3, 3),), "n1 has settled revision 3 (acknowledged 3) of 4"),
        ((node("n1", 4, 4, 3),), "n1 has settled revision 3 (acknowledged 4) of 4"),
        ((node("n1", 4, 4),), "n1 has settled revision none (acknowledged 4) of 4"),
        ((node("n1", 4),), "n1 has settled revision none (acknowledged none) of 4"),
        ((node("n1", 4, 3, 4),), "n1 has settled revision 4 (acknowledged 3) of 4"),
    ],
)
def test_every_step_on_the_way_is_waited_for(nodes, missing):
    with pytest.raises(NotInEffectError) as caught:
        wait(Controller(refreshed(document(*nodes), 1)), 3)
    assert caught.value.missing == (missing,)


def test_a_switch_that_is_not_connected_is_waited_for_a_while():
    lost = refreshed(document(node("n1", 4, 4, 4), node("n2", 4, session="none")), 1)
    back = refreshed(document(node("n1", 4, 4, 4), node("n2", 4, 4, 4)), 1)
    assert wait(Controller(*[lost] * 9, back))[0] == back
    for_good = Controller(lost)
    assert wait(for_good)[0] == lost
    assert for_good.now == pytest.approx(100 + PATIENCE, abs=0.1)


def test_while_none_is_connected_nothing_is_in_effect():
    """A controller that has just started, say."""
    none = refreshed(document(node("n1", 4, session="none")), 1)
    with pytest.raises(NotInEffectError) as caught:
        wait(Controller(none), 3)
    assert caught.value.missing == ("n1: its switch is not connected",)


def test_a_watch_that_is_broken_is_waited_for():
    watches = (watch("Pod", refreshed=1), watch("NetworkPolicy", 10, 1, WatchState.STALE, "cut"))
    with pytest.raises(NotInEffectError) as caught:
        wait(Controller(document(watches=watches)), 3)
    assert caught.value.missing == ("there is no news of NetworkPolicy objects: cut",)


def test_a_controller_that_has_read_nothing_yet():
    with pytest.raises(NotInEffectError, match="has not yet read the cluster's objects"):
        wait(Controller(document(ready=False)), 3)


def test_versions_are_waited_for_without_fresh_lists():
    versions = 10, 10, 11, 12
    at = [document(watches=(watch("Pod", 10), watch("NetworkPolicy", n))) for n in versions]
    controller = Controller(*at)
    assert wait(controller, versions={"NetworkPolicy": 12})[0] == at[-1]
    assert controller.asked == ["status"] * 4


def test_a_version_that_does_not_come():
    with pytest.raises(NotInEffectError) as caught:
        wait(Controller(document()), 3, {"Pod": 10, "NetworkPolicy": 12, "Gateway": 1})
    assert caught.value.missing == (
        "NetworkPolicy objects are known up to version 10, which is before 12",
        "Gateway objects are not watched",
    )


def test_the_time_is_kept_and_what_is_missing_told_about_every_second():
    controller = Controller(document(node("n1", 4, 3), node("n2", 4)))
    with pytest.raises(NotInEffectError):
        told = wait(controller, 5.5)[1]
    assert controller.now == pytest.approx(105.5)
    told = []
    waiting = Waiting(controller, {"Pod": 1}, told.append, lambda: controller.now, controller.sleep)
    with pytest.raises(NotInEffectError):
        waiting.run(5.5)
    assert 4 <= len(told) <= 5
    assert all(len(missing) == 2 for missing in told)


def test_no_time_at_all_is_one_look():
    controller = Controller(document(node("n1", 4, 3)))
    with pytest.raises(NotInEffectError):
        wait(controller, 0, {"Pod": 1})
    assert controller.asked == ["status"] * 2


AWAY = UnreachableError("cannot reach the controller")


def test_a_controller_that_is_not_there_is_not_waited_for():
    with pytest.raises(UnreachableError):
        wait(Controller(AWAY))


def test_a_controller_that_starts_anew_is_asked_again_for_fresh_lists():
    """Its numbers begin anew: those of before would be taken for done."""
    before, after = document(), document(started=SECOND)
    controller = Controller(
        before, before, AWAY, AWAY, refreshed(after, 0), after, refreshed(after, 1), numbers=(5, 1)
    )
    found, _ = wait(controller)
    assert found == refreshed(after, 1)
    assert controller.asked.count("refresh") == 2


def test_one_that_starts_anew_between_the_question_and_the_answer():
    before, after = document(), document(started=SECOND)
    controller = Controller(before, after, after, refreshed(after, 1), numbers=(5, 1))
    assert wait(controller)[0] == refreshed(after, 1)
    assert controller.asked.count("refresh") == 2


def test_one_that_goes_away_as_it_is_asked_for_lists_is_asked_again_when_it_is_back():
    before, after = document(), document(started=SECOND)
    controller = Controller(
        before, before, after, after, refreshed(after, 1), numbers=(5, AWAY, AWAY, 1)
    )
    controller.said[1:1] = [document(node("n1", 4, 3))]
    assert wait(controller)[0] == refreshed(after, 1)
    assert controller.asked.count("refresh") == 4


def test_one_that_cannot_be_asked_for_lists_is_none():
    with pytest.raises(UnreachableError):
        wait(Controller(document(), numbers=(AWAY,)))


def test_one_that_does_not_come_back_is_said_to_be_away():
    controller = Controller(document(), document(), AWAY)
    with pytest.raises(UnreachableError):
        wait(controller, 3)
