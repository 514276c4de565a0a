"""When a change is in effect: a model of ovs-vswitchd's threads, in any order that they may run in.

The model does what ofproto-dpif-upcall.c, ofproto-dpif.c and unixctl.c do, as far as it matters
here. Its steps are taken in random order, and between any two of them the agent may come.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovsnet.cni.control import ControlError
from ovsnet.cni.revalidation import Revalidation

SHOWN = "netdev@ovs-netdev:\n  flows         : (current 6)\n\n  5: (keys 6)\n"
KERNEL = SHOWN.replace("netdev@ovs-netdev", "system@ovs-system")
TIMER, PAUSE = 0.5, 0.005


@dataclass
class Entry:
    """What is cached, or may be: the version of the tables that made it, the sequence number known
    then, whether it is there, has been met in a round, and looks right to rounds though it is not.
    """

    made: int
    sequence: int
    there: bool = True
    met: bool = False
    stuck: bool = False


class Switch:
    """Flow tables of some version, and a cache of entries, each made by some version of them.

    The main thread adds to it what it has looked up, and with the kernel's datapath a handler does
    what it has looked up some time before.
    """

    def __init__(self, chance: random.Random, shown: str = SHOWN, *, visible: bool = True) -> None:
        self.chance = chance
        self.shown = shown
        self.visible = visible
        self.polls_ports = False
        self.now = 0.0
        self.tables = 0
        self.sequence = 0
        self.rounds = 0
        self.cache = [Entry(0, 0) for _ in range(chance.choice((3, 100)))]
        self.room = float(len(self.cache))
        self.leader_at = "resting"
        self.need = False
        self.to_commit = 0
        self.in_hand: tuple[int, int] | None = None
        self._requests: deque[tuple[int, str]] = deque()
        self._waits: list[tuple[int, int]] = []
        self._answers: dict[int, str] = {}
        self._asked = 0
        self._main = self._main_thread()
        self._leader = self._leader_thread()
        self._handler = self._handler_thread()

    # The threads: every `yield` is a place where another one may go on.

    def _main_thread(self) -> Iterator[None]:
        while True:
            done = [number for number, seen in self._waits if seen != self.rounds]
            self._waits = [w for w in self._waits if w[0] not in done]
            self._answers |= dict.fromkeys(done, "")
            yield
            if self.shown == SHOWN and self.chance.random() < 0.2:
                self._put(*self._made_now())
            if self.need:
                self.need = False
                self.sequence += 1
            yield
            if self.to_commit:
                self.tables, self.to_commit, self.need = self.tables + 1, self.to_commit - 1, True
            for _ in range(10):
                if self._requests and not self._waits:
                    self._carry_out(*self._requests.popleft())
                yield

    def _made_now(self) -> tuple[int, int]:
        return self.tables, self.sequence

    def _flows(self) -> int:
        return sum(entry.there for entry in self.cache)

    def _shrinks(self) -> bool:
        """Whether what is cached has become so little that its table is made smaller."""
        if self._flows() > self.room / 2:
            self.room = max(self.room, self._flows())
            return False
        self.room /= 2
        return True

    def _put(self, made: int, sequence: int) -> None:
        place = self.chance.randrange(len(self.cache))
        # A handler makes what it caches operational, which is as good as to have been met.
        self.cache[place] = Entry(made, sequence, met=self.shown == KERNEL)

    def _carry_out(self, number: int, command: str) -> None:
        match command:
            case "revalidator/purge":
                # What a revalidator has in hand is passed over.
                held = self.chance.choice(self.cache) if self.leader_at == "working" else None
                for entry in self.cache:
                    entry.there = entry.there and entry is held
                self._answers[number] = ""
            case "revalidator/wait":
                self._waits.append((number, self.rounds))
            case "upcall/show":
                self._answers[number] = self.shown
            case _:
                self._answers[number] = "ovs-vswitchd (Open vSwitch) 3.1.0"

    def _leader_thread(self) -> Iterator[None]:
        while True:
            noted, began = self.sequence, self.now
            self.leader_at = "working"
            yield
            known = self.sequence
            shrunk = False
            for entry in list(self.cache):
                # What has changed places may be missed, and is not swept if it is new.
                missed = shrunk and not entry.met and self.chance.random() < 0.5
                if entry.there and not missed and not entry.stuck:
                    # The change of an entry may have gone to another one.
                    entry.stuck = self.shown == SHOWN and self.chance.random() < 0.02
                    if not entry.stuck and entry.sequence != known and entry.made != self.tables:
                        entry.there = False
                        shrunk = self._shrinks() or shrunk
                    entry.sequence, entry.met = known, True
                yield
            self.rounds += 1
            yield
            self.leader_at = "resting"
            while self.sequence == noted and self.now < began + TIMER:
                yield
            self.leader_at = "putting off"
            while self.now < began + PAUSE:
                yield

    def _handler_thread(self) -> Iterator[None]:
        while True:
            self.in_hand = None
            yield
            if self.shown == KERNEL and self.chance.random() < 0.5:
                self.in_hand = self._made_now()
                yield
                yield
                self._put(*self.in_hand)

    def burst(self) -> None:
        """Packets come of which none has been seen before."""
        self.cache = [Entry(*self._made_now()) for _ in self.cache]
        self.room = max(self.room, len(self.cache))

    def step(self) -> None:
        self.now += self.chance.choice((0.00001, 0.0001, 0.002))
        threads = [self._main, self._leader, self._handler]
        next(self.chance.choices(threads, (5, 5, 1))[0])

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.step()

    def commit(self) -> int:
        """A bundle arrives; returns the version that the tables have afterwards."""
        wanted = self.tables + self.to_commit + 1
        self.to_commit += 1
        while self.tables < wanted:
            self.step()
        return wanted

    # What the agent sees of it.

    def ask(self, command: str, *arguments: str) -> str:
        return self.ask_all([(command, *arguments)])[0]

    def ask_all(self, commands: Sequence[tuple[str, ...]]) -> list[str]:
        numbers = []
        for command, *_ in commands:
            self._asked += 1
            numbers.append(self._asked)
            self._requests.append((self._asked, command))
        while not all(number in self._answers for number in numbers):
            self.step()
        return [self._answers.pop(number) for number in numbers]

    def leader_rests(self) -> bool:
        return self.leader_at == "resting" and not self._pending()

    def _pending(self) -> bool:
        """The leader has been woken, and is not shown as asleep, though it has not gone on yet."""
        return self.leader_at == "resting" and self._noted_differs

    @property
    def _noted_differs(self) -> bool:
        frame = self._leader.gi_frame  # type: ignore[attr-defined]
        return bool(frame.f_locals["noted"] != self.sequence)

    def busy_handlers(self) -> frozenset[Path]:
        return frozenset() if self.in_hand is None else frozenset({Path("handler")})

    def stale(self, version: int) -> list[int]:
        return [entry.made for entry in self.cache if entry.there and entry.made < version]


def finish(switch: Switch) -> None:
    Revalidation(switch, switch, lambda: switch.now, switch.run).finish()


def scene(seed: int, shown: str = SHOWN, *, visible: bool = True) -> Switch:
    chance = random.Random(seed)
    switch = Switch(chance, shown, visible=visible)
    switch.run(chance.uniform(0, 0.7))
    for _ in range(chance.choice((0, 0, 1, 2))):
        switch.commit()
        switch.run(chance.choice((0, 0.0001, 0.003)))
    if shown == SHOWN and chance.random() < 0.5:
        switch.burst()
    return switch


@settings(max_examples=300)
@given(seed=st.integers(0, 1 << 32), shown=st.sampled_from((SHOWN, KERNEL)), visible=st.booleans())
def test_once_it_returns_nothing_is_done_as_before_the_change(seed, shown, visible):
    switch = scene(seed, shown, visible=visible)
    version = switch.commit()
    switch.to_commit = switch.chance.choice((0, 0, 0, 3))
    finish(switch)
    assert switch.stale(version) == []
    switch.run(0.2)
    assert switch.stale(version) == []


def caught(finished) -> int:
    """In how many of 300 scenes there is something left of before the change."""
    found = 0
    for seed in range(300):
        switch = scene(seed)
        version = switch.commit()
        finished(switch)
        found += bool(switch.stale(version))
    return found


def test_the_model_tells_what_is_not_enough():
    """One wait, a look at the leader before the main loop has turned, one round and two come too
    early; and while a revalidator works, a purge may pass over something.
    """

    def look(switch):
        while not switch.leader_rests():
            switch.step()

    def one_round(switch):
        switch.ask_all([("version",)] * 11)
        look(switch)

    def two_rounds(switch):
        one_round(switch)
        switch.ask_all([("revalidator/wait",)] * 2)

    def one_purge(switch):
        one_round(switch)
        switch.run(switch.chance.uniform(0, 0.6))
        switch.ask("revalidator/purge")

    assert caught(lambda switch: None) > 200
    assert caught(lambda switch: switch.ask("revalidator/wait")) > 3
    assert caught(look) > 3
    assert caught(one_round) > 3
    assert caught(two_rounds) > 3
    assert caught(one_purge) > 0
    assert caught(finish) == 0


def test_where_the_threads_are_seen_it_does_not_wait_for_the_next_round():
    took = []
    for seed in range(100):
        switch = scene(seed)
        switch.commit()
        began = switch.now
        finish(switch)
        took.append(switch.now - began)
    assert sorted(took)[50] < TIMER / 2


def test_datapaths_of_two_kinds_are_not_told_apart():
    switch = scene(1, SHOWN + KERNEL)
    with pytest.raises(ControlError, match=r"netdev@ovs-netdev, system@ovs-system"):
        finish(switch)


def test_a_leader_that_never_rests_is_given_up():
    switch = scene(1)
    switch.leader_rests = lambda: False  # type: ignore[method-assign]
    with pytest.raises(ControlError, match="within 30 s"):
        finish(switch)


class Script:
    """Answers at once, and writes down in which order it was asked what."""

    def __init__(self, shown: str, *, visible: bool, handlers: Sequence[str] = ("",)) -> None:
        self.shown = shown
        self.visible = visible
        self.polls_ports = False
        self.handlers = deque(handlers)
        self.asked: list[str] = []

    def ask(self, command: str, *arguments: str) -> str:
        self.asked.append(command)
        return self.shown

    def ask_all(self, commands: Sequence[tuple[str, ...]]) -> list[str]:
        self.asked.append("turn")
        return [""] * len(commands)

    def leader_rests(self) -> bool:
        self.asked.append("leader")
        return True

    def busy_handlers(self) -> frozenset[Path]:
        self.asked.append("handlers")
        names = self.handlers.popleft() if len(self.handlers) > 1 else self.handlers[0]
        return frozenset(map(Path, names))

    def sleep(self, seconds: float) -> None:
        self.asked.append("sleep" if seconds > 0.01 else "look again")

    def finish(self, now: Iterator[float]) -> list[str]:
        Revalidation(self, self, lambda: next(now), self.sleep).finish()
        return self.asked[1:-1]


def test_packets_in_hand_are_cached_before_the_round_that_counts_begins():
    again = ["look again", "handlers"]
    script = Script(KERNEL, visible=True, handlers=("ab", "a", "ab", "b"))
    asked = script.finish(iter([0.0] * 99))
    assert asked == ["turn", "handlers", *again, *again, *again, "leader", "revalidator/wait"]


def test_a_handler_that_always_has_new_packets_is_not_waited_for_for_ever():
    script = Script(KERNEL, visible=True, handlers=("a",))
    assert script.finish(n / 100 for n in range(99))[-2:] == ["leader", "revalidator/wait"]


def test_unseen_threads_get_time_for_what_they_have_in_hand_and_rounds():
    begun = ["turn", "sleep"]
    two = ["revalidator/wait", "revalidator/wait"]
    assert Script(KERNEL, visible=False).finish(iter([0.0])) == begun + two
    emptied = ["revalidator/wait", "revalidator/purge"] * 2
    assert Script(SHOWN, visible=False).finish(iter([0.0])) == begun + emptied


def test_the_cache_of_the_userspace_datapath_is_thrown_away():
    script = Script(SHOWN, visible=True)
    emptied = ["leader", "revalidator/purge"] * 2
    assert script.finish(iter([0.0] * 9)) == ["turn", *emptied]
    script = Script(SHOWN, visible=True)
    script.polls_ports = True
    assert script.finish(iter([0.0] * 9)) == ["turn", "handlers", *emptied]
