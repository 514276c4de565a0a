"""The thread that ends connections: it outlives switches that fail it, and ends when it is to."""

from __future__ import annotations

import contextlib
import select
import threading
from collections.abc import Iterator

import pytest
from moving_play import Switch

from ovsnet.cni.control import ControlError
from ovsnet.cni.flowupdates import WatchError
from ovsnet.cni.moving import Bell, Moving
from ovsnet.cni.servedudp import ServedUdp


class Runs:
    """A thread on switches that come and go: each is one run. Set when there are no more."""

    def __init__(self, *switches: Switch) -> None:
        self.left = list(switches)
        self.done = threading.Event()
        self.moving = Moving(self.flows, self.tracker)

    @contextlib.contextmanager
    def flows(self) -> Iterator[Switch]:
        if not self.left:
            self.done.set()
            raise WatchError("there is no switch")
        self.now = self.left.pop(0)
        yield self.now

    @contextlib.contextmanager
    def tracker(self) -> Iterator[Switch]:
        yield self.now

    def run(self) -> None:
        self.moving.start()
        assert self.done.wait(20)
        self.moving.stop()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_CONNECT_AGAIN", "_ASK_AGAIN"):
        monkeypatch.setattr(f"ovsnet.cni.moving.{name}", 0.001)


def hangs_up(switch: Switch) -> Switch:
    def wait(seconds: float | None, bell: int) -> None:
        raise WatchError("the switch has hung up")

    switch.wait = wait  # type: ignore[method-assign]
    return switch


def one_stale() -> Switch:
    made = Switch()
    made.change(add=[1])
    made.tell(len(made.untold))
    made.tracked = {0: 0, 1: 1}
    return hangs_up(made)


def test_what_fails_is_told_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    first, second, third = one_stale(), one_stale(), one_stale()
    first.refuses = second.refuses = "refused"
    Runs(first, second, third).run()
    assert first.tracked == second.tracked == {0: 0, 1: 1}
    assert third.tracked == {1: 1}
    assert caplog.messages[:3] == [
        "UDP connections may stay with endpoints that are gone",
        "UDP connections ended: their endpoints are gone",
        "UDP connections leave endpoints that are gone again",
    ]


@pytest.mark.parametrize("error", [ControlError("gone"), ZeroDivisionError()])
def test_whatever_fails_the_next_run_is_looked_through(error: Exception) -> None:
    broken, whole = one_stale(), one_stale()

    def connections() -> list[ServedUdp]:
        raise error

    broken.connections = connections  # type: ignore[method-assign]
    Runs(broken, whole).run()
    assert whole.tracked == {1: 1}


def test_it_ends_while_it_waits_for_the_switch() -> None:
    silent = Switch()
    waiting = threading.Event()

    def wait(seconds: float | None, bell: int) -> None:
        waiting.set()
        select.select([bell], [], [])

    silent.wait = wait  # type: ignore[method-assign]
    runs = Runs(silent)
    runs.moving.start()
    assert waiting.wait(20)
    runs.moving.stop()


def test_it_ends_though_the_ring_for_its_end_is_hushed(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = Switch()
    waited = []

    def wait(seconds: float | None, bell: int) -> None:
        waited.append(select.select([bell], [], [], 1)[0])

    silent.wait = wait  # type: ignore[method-assign]
    runs = Runs(silent)
    stopper = threading.Thread(target=runs.moving.stop)
    rung = threading.Event()
    ring, hush = Bell.ring, Bell.hush

    def heard(bell: Bell) -> None:
        ring(bell)
        rung.set()

    def late(bell: Bell) -> None:
        if stopper.ident is None:
            stopper.start()
            assert rung.wait(20)
        hush(bell)

    monkeypatch.setattr(Bell, "ring", heard)
    monkeypatch.setattr(Bell, "hush", late)
    runs.moving.start()
    assert rung.wait(20)
    stopper.join()
    assert waited == []
