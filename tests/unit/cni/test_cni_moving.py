"""Which connections are ended and when, in any order of changes, packets, and failures."""

from __future__ import annotations

import contextlib
import math
import random
import select
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest
from flow_monitoring import ADDED, REMOVED, reply, stamp_update, update
from hypothesis import given
from hypothesis import strategies as st

from ovsnet.cni.control import ControlError
from ovsnet.cni.flowupdates import Kind, WatchError, updates
from ovsnet.cni.leads import Leads
from ovsnet.cni.moving import Agenda, Bell, Moving
from ovsnet.cni.servedudp import ServedUdp, deletion
from ovsnet.cni.stampwatch import Stamp
from ovsnet.flows import service
from ovsnet.flows.flow import Flow
from ovsnet.flows.service import EndpointSet, Target, mark_of
from ovsnet.model import Protocol

ENDPOINTS = 4
CLIENTS = 6


class OverError(Exception):
    """The play is over."""


def endpoint_set(number: int) -> EndpointSet:
    return EndpointSet(number + 1, 4, Protocol.UDP)


def target(number: int) -> Target:
    return Target(ip_address("10.244.1.0") + number, 53)


def mark(number: int) -> int:
    return mark_of(endpoint_set(number), target(number))


def flow(number: int) -> Flow:
    (found,) = service.balance(endpoint_set(number), (target(number),))
    return found


def connection(client: int, number: int) -> ServedUdp:
    return ServedUdp(
        "10.244.2.9", 1000 + client, "10.96.0.10", 53, str(target(number).address), 53, mark(number)
    )


@dataclass
class Switch:
    """A switch whose flows change, whose cache lags behind, and which tracks connections.

    Endpoints, clients: by their numbers. `step` is called wherever something may happen beside.
    """

    flows: set[int] = field(default_factory=set)
    cached: set[int] = field(default_factory=set)
    """Endpoints that packets may be sent to yet, though flows no longer lead there."""
    tracked: dict[int, int] = field(default_factory=dict)
    serial: int = 0
    untold: list[bytes] = field(default_factory=list)
    leads: Leads = field(default_factory=Leads)
    step: Callable[[], None] = lambda: None
    looks: int = 0
    ended: list[int] = field(default_factory=list)
    absent: set[int] = field(default_factory=set)
    """Endpoints to which no flow led at some time since the tracker was read last."""
    refuses: str = ""
    chance: random.Random | None = None
    """Of what has not been told yet some is told; otherwise all."""

    def change(self, *, add: Sequence[int] = (), remove: Sequence[int] = ()) -> None:
        """One bundle: other flows, and the stamp."""
        for number in remove:
            if number in self.flows:
                self.flows.remove(number)
                self.cached.add(number)
                self.absent.add(number)
                self.untold.append(update(REMOVED, flow(number)))
        for number in add:
            if number not in self.flows:
                self.flows.add(number)
                self.untold.append(update(ADDED, flow(number)))
        self.stamp()

    def stamp(self) -> None:
        self.serial += 1
        self.untold.append(stamp_update(ADDED, self.serial % 3, self.serial))

    def wipe(self) -> None:
        """Somebody removes all flows."""
        self.change(remove=list(self.flows))
        self.untold[-1] = stamp_update(REMOVED, self.serial % 3, self.serial)

    @property
    def newest(self) -> Stamp:
        return Stamp(self.serial % 3, self.serial)

    def send(self, client: int, number: int) -> None:
        """A client's packet: to its endpoint, or to this one if it has none and may."""
        if client not in self.tracked and number in self.flows | self.cached:
            self.tracked[client] = number

    # --- what the thread sees ---

    def catch_up(self) -> None:
        self.step()
        whole = len(self.untold)
        self.tell(self.chance.randint(0, whole) if self.chance else whole)

    def synchronise(self) -> None:
        self.step()
        self.tell(len(self.untold))
        self.step()

    def tell(self, number: int) -> None:
        """So many of the changes that have not been told yet."""
        for each in updates(reply(*self.untold[:number])):
            self.leads.told(each)
        del self.untold[:number]

    def wait(self, seconds: float | None, bell: int) -> None:
        raise OverError

    def connections(self) -> list[ServedUdp]:
        self.step()
        self.looks += 1
        self.absent = set(range(ENDPOINTS)) - self.flows
        found = [connection(client, number) for client, number in self.tracked.items()]
        self.step()
        return found

    def order(self, kind: Kind, bodies: Sequence[bytes]) -> None:
        if self.refuses:
            raise WatchError(self.refuses)
        assert kind is Kind.EXPERIMENTER
        for body in bodies:
            for client, number in list(self.tracked.items()):
                if deletion(connection(client, number)) == body:
                    self.ended.append(client)
                    assert number in self.absent, "a connection to an endpoint that is there"
                    del self.tracked[client]
        self.step()


def moving(switch: Switch, clock: Callable[[], float] = lambda: 0.0) -> Moving:
    def opened() -> contextlib.nullcontext[Switch]:
        return contextlib.nullcontext(switch)

    return Moving(opened, opened, clock)


def play(switch: Switch, *steps: Callable[[], None], found: Moving | None = None) -> Moving:
    """Let the thread follow the switch; a step is taken whenever it has nothing to do."""
    left = list(steps)

    def wait(seconds: float | None, bell: int) -> None:
        assert not select.select([bell], [], [], 0)[0], "it would not wait"
        if not left:
            raise OverError
        left.pop(0)()

    switch.wait = wait  # type: ignore[method-assign]
    found = found or moving(switch)
    with pytest.raises(OverError):
        found.follow()
    return found


@pytest.fixture
def switch() -> Switch:
    """Two clients with an endpoint each."""
    made = Switch()
    made.change(add=[0, 1])
    made.tracked = {0: 0, 1: 1}
    made.tell(len(made.untold))
    return made


def test_the_clients_of_an_endpoint_that_goes_are_ended_and_no_others(switch: Switch) -> None:
    play(switch, lambda: switch.change(remove=[0]))
    assert switch.ended == [0]
    assert switch.tracked == {1: 1}


def test_what_nobody_has_ended_before_the_start_is_ended(switch: Switch) -> None:
    switch.tracked = {0: 3, 1: 1}
    play(switch)
    assert switch.tracked == {1: 1}


def test_without_a_change_of_endpoints_nothing_is_looked_through(switch: Switch) -> None:
    found = moving(switch)
    play(
        switch,
        lambda: found.settled(switch.newest),
        *[switch.stamp, lambda: found.settled(switch.newest)] * 5,
        lambda: switch.change(add=[2]),
        lambda: found.settled(switch.newest),
        found=found,
    )
    assert switch.looks == 2, "at the start, and when what was there then was in effect"


def test_what_is_tracked_until_the_flows_are_in_effect_is_ended_then(switch: Switch) -> None:
    found = moving(switch)

    def settle() -> None:
        switch.cached.clear()
        found.settled(switch.newest)

    play(
        switch,
        lambda: switch.change(remove=[0]),
        lambda: switch.send(2, 0),
        settle,
        found=found,
    )
    assert switch.ended == [0, 2]
    assert switch.tracked == {1: 1}


def test_flows_in_effect_that_are_not_the_newest_are_no_end_of_it(switch: Switch) -> None:
    found = moving(switch)
    older = Stamp(7, 7)
    play(
        switch,
        lambda: switch.change(remove=[0]),
        lambda: switch.send(2, 0),
        lambda: found.settled(older),
        lambda: switch.send(3, 0),
        lambda: found.settled(switch.newest),
        switch.stamp,
        lambda: found.settled(switch.newest),
        found=found,
    )
    assert switch.tracked == {1: 1}
    assert switch.looks == 4, "at the start, at the change, and twice for what was in effect"


def test_a_switch_that_is_gone_has_nothing_in_effect(switch: Switch) -> None:
    found = moving(switch)
    play(switch, lambda: found.settled(None), lambda: found.settled(None), found=found)
    assert switch.looks == 1


def test_without_a_stamp_the_flows_are_not_all_there(switch: Switch) -> None:
    """They are written anew, and with them everything is as before."""
    play(switch, switch.wipe, lambda: None, lambda: switch.change(add=[0, 1]))
    assert switch.ended == []
    assert switch.tracked == {0: 0, 1: 1}


def test_flows_that_come_back_without_an_endpoint(switch: Switch) -> None:
    play(switch, switch.wipe, lambda: None, lambda: switch.change(add=[1]))
    assert switch.tracked == {1: 1}


def test_flows_that_are_removed_while_it_looks(switch: Switch) -> None:
    def wipe() -> None:
        if switch.looks == 1:
            switch.step = lambda: None
            switch.wipe()

    switch.step = wipe
    play(switch, lambda: switch.change(add=[0, 1]))
    assert switch.ended == []
    assert switch.looks == 2


def test_an_endpoint_that_comes_while_it_looks_keeps_its_clients(switch: Switch) -> None:
    """Its client has come after the first flows were told, and before the tracker was read."""

    def come() -> None:
        if switch.looks == 0 and 2 not in switch.flows:
            switch.change(add=[2])
            switch.send(2, 2)

    switch.step = come
    play(switch)
    assert switch.tracked == {0: 0, 1: 1, 2: 2}


def test_an_endpoint_that_goes_while_it_looks_is_looked_for_again(switch: Switch) -> None:
    """A client has come after the tracker was read."""

    def go() -> None:
        if switch.looks == 1:
            switch.step = lambda: None
            switch.send(2, 0)
            switch.change(remove=[0])

    switch.step = go
    play(switch, lambda: None)
    assert switch.tracked == {1: 1}


def test_a_switch_without_udp_services_is_looked_through_once() -> None:
    made = Switch()
    made.stamp()
    now = [0.0]
    found = moving(made, lambda: now[0])
    play(made, *[lambda: now.append(now.pop() + 1000)] * 5, found=found)
    assert made.looks == 1


def test_one_with_them_is_looked_through_from_time_to_time(switch: Switch) -> None:
    """Whatever has come into the tracker past all of this."""
    now = [0.0]
    found = moving(switch, lambda: now[0])
    play(
        switch,
        lambda: switch.tracked.update({2: 3}),
        lambda: now.append(now.pop() + 1000),
        found=found,
    )
    assert switch.tracked == {0: 0, 1: 1}
    assert switch.looks == 2


class TestAgenda:
    STAMP, NEXT = Stamp(1, 1), Stamp(2, 2)

    def looked(self, found: Stamp, settled: Stamp | None) -> Agenda:
        agenda = Agenda()
        assert agenda.due(None, withdrawn=False, serves=False) == 0.0
        agenda.looked(100.0, 102.0, found, settled)
        return agenda

    def test_it_rests_after_a_look_in_proportion_to_it(self) -> None:
        agenda = self.looked(self.STAMP, None)
        assert agenda.due(None, withdrawn=True, serves=True) == 110.0
        assert agenda.due(self.STAMP, withdrawn=False, serves=True) == 110.0

    def test_with_nothing_new_it_looks_from_time_to_time_where_there_are_services(self) -> None:
        for settled in (None, self.STAMP):
            agenda = self.looked(self.STAMP, settled)
            assert agenda.due(settled, withdrawn=False, serves=True) == 402.0
            assert agenda.due(settled, withdrawn=False, serves=False) == math.inf

    def test_once_what_it_found_was_in_effect_later_flows_do_not_matter(self) -> None:
        agenda = self.looked(self.STAMP, self.STAMP)
        assert agenda.due(self.NEXT, withdrawn=False, serves=True) == 402.0
        assert agenda.due(self.NEXT, withdrawn=True, serves=True) == 110.0


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


@given(seed=st.integers(0, 1 << 32))
def test_in_any_order_only_what_is_stale_is_ended_and_all_of_it_in_the_end(seed: int) -> None:
    """Bundles, packets, and the agent's other thread, which learns what is in effect, come between
    any two things that this thread does.
    """
    chance = random.Random(seed)
    switch = Switch()
    switch.change(add=[n for n in range(ENDPOINTS) if chance.random() < 0.5])
    switch.tracked = {n: chance.randrange(ENDPOINTS) for n in range(chance.randint(0, CLIENTS))}
    time = 0.0
    steps = chance.randint(0, 60)
    settling: list[tuple[Stamp, set[int]]] = []
    in_effect: list[Stamp] = []

    def clock() -> float:
        nonlocal time
        time += chance.random() * 0.01
        return time

    found = moving(switch, clock)

    def step() -> None:
        nonlocal steps
        if not steps:
            return
        steps -= 1
        kind = chance.random()
        if kind < 0.3:
            some = [n for n in range(ENDPOINTS) if chance.random() < 0.3]
            switch.change(add=some, remove=[n for n in range(ENDPOINTS) if n not in some])
        elif kind < 0.4:
            switch.stamp()
        elif kind < 0.7:
            switch.send(chance.randrange(CLIENTS), chance.randrange(ENDPOINTS))
        elif kind < 0.85 and not settling:
            settling.append((switch.newest, switch.cached - switch.flows))
        elif settling:
            settle()

    def settle() -> None:
        stamp, old = settling.pop()
        switch.cached -= old
        in_effect.append(stamp)
        found.settled(stamp)

    def wait(seconds: float | None, bell: int) -> None:
        nonlocal time
        if seconds is not None and seconds < 60:
            time += seconds
        elif steps or switch.untold:
            step()
        elif settling:
            settle()
        elif switch.newest not in in_effect:
            settling.append((switch.newest, set(switch.cached)))
        else:
            raise OverError
        switch.tell(len(switch.untold))

    switch.step, switch.chance = step, chance
    switch.wait = wait  # type: ignore[method-assign]
    with pytest.raises(OverError):
        found.follow()
    assert set(switch.tracked.values()) <= switch.flows
