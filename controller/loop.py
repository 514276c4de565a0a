"""The controller's one thread that thinks: takes events from a queue, has the brain answer them,
carries the commands out, and shows everybody what happened.

Watches and connections have threads of their own, which only put events into the queue. So the
brain needs no locks, and what others read of it is a snapshot that this thread made.
"""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol, TypeAlias

from ovsnet import logs
from ovsnet.api.events import Event as ApiEvent
from ovsnet.controller.brain import Brain
from ovsnet.controller.notices import Close, Send
from ovsnet.controller.openflow.events import Event as SwitchEvent
from ovsnet.controller.results import Result

_LONGEST_WAIT = 1.0


class Switches(Protocol):
    """Where commands go; `OpenFlowServer` is one."""

    def send(self, connection: int, data: bytes) -> None:
        """Send bytes to a switch."""

    def end(self, connection: int, reason: str) -> None:
        """End a connection."""


class Watcher(Protocol):
    """Sees what happens; `ovsnet.controller.observer.Observer` is one."""

    def __call__(self, result: Result) -> None:
        """Something happened."""

    def refresh(self) -> None:
        """Some time has passed."""


Question: TypeAlias = Callable[[float], list[Result]]
"""Something that the brain is asked at a time, and what comes of it."""


class _FromApi:
    __slots__ = ("event",)

    def __init__(self, event: ApiEvent) -> None:
        self.event = event


class _FromSwitch:
    __slots__ = ("event",)

    def __init__(self, event: SwitchEvent) -> None:
        self.event = event


class _Asked:
    __slots__ = ("question",)

    def __init__(self, question: Question) -> None:
        self.question = question


class _Quiet(Enum):
    QUIET = auto()


_Item: TypeAlias = _FromApi | _FromSwitch | _Asked | Callable[[], None] | None


class Loop:
    """Runs a brain. The watchers are called with every result, in the loop's thread, in order.

    `term` says whether the brain is to lead, and under which term; without it nothing changes. It
    is asked before every event, so that nothing is written after it has said no.
    """

    def __init__(
        self,
        brain: Brain,
        clock: Callable[[], float],
        *watchers: Watcher,
        term: Callable[[], int | None] | None = None,
    ) -> None:
        self._brain = brain
        self._clock = clock
        self._watchers = watchers
        self._term = term or (lambda: brain.term)
        self._queue: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._log = logs.get("controller")

    @property
    def depth(self) -> int:
        """How many events wait."""
        return self._queue.qsize()

    def heard(self, event: ApiEvent) -> None:
        """Take in an event of the API server; from any thread."""
        self._queue.put(_FromApi(event))

    def seen(self, event: SwitchEvent) -> None:
        """Take in an event of a switch; from any thread."""
        self._queue.put(_FromSwitch(event))

    def call(self, work: Callable[[], None]) -> None:
        """Have `work` done in the loop's thread, between events; from any thread."""
        self._queue.put(work)

    def ask(self, question: Question) -> None:
        """Put a question to the brain, and carry out what comes of it; from any thread."""
        self._queue.put(_Asked(question))

    def stop(self) -> None:
        """Make `run` return, once it has dealt with what came before; from any thread."""
        self._queue.put(None)

    def run(self, switches: Switches) -> None:
        """Answer events until `stop`.

        A fault while answering one is logged and does not end the loop. What it left undone is
        found by comparing every switch's flows with the desired ones, which it brings forward.
        """
        ticked = self._clock()
        while True:
            # A tick comes when nothing waits, or when events have come without a pause for long.
            item = self._next(ticked)
            if item is None:
                return
            self._take_the_lead_or_not(switches)
            if item is not _Quiet.QUIET:
                self._answer(item, switches)
            if item is _Quiet.QUIET or self._clock() - ticked >= _LONGEST_WAIT:
                ticked = self._clock()
                self._carry_out(switches, lambda: self._brain.tick(self._clock()))
                for watcher in self._watchers:
                    watcher.refresh()

    def _take_the_lead_or_not(self, switches: Switches) -> None:
        term = self._term()
        if term == self._brain.term:
            return
        if term is None:
            self._carry_out(switches, lambda: self._brain.stand_by(self._clock()))
        else:
            self._carry_out(switches, lambda: self._brain.lead(term, self._clock()))

    def _next(self, ticked: float) -> _Item | _Quiet:
        """The next item, or `QUIET` if there is none before the brain is due."""
        with contextlib.suppress(queue.Empty):
            return self._queue.get_nowait()
        latest = min(self._brain.due, ticked + _LONGEST_WAIT)
        try:
            return self._queue.get(timeout=max(0.0, latest - self._clock()))
        except queue.Empty:
            return _Quiet.QUIET

    def _answer(
        self, item: _FromApi | _FromSwitch | _Asked | Callable[[], None], switches: Switches
    ) -> None:
        now = self._clock()
        if isinstance(item, _FromApi):
            heard = item.event
            self._carry_out(switches, lambda: self._brain.heard(heard, now))
        elif isinstance(item, _FromSwitch):
            seen = item.event
            self._carry_out(switches, lambda: self._brain.seen(seen, now))
        elif isinstance(item, _Asked):
            question = item.question
            self._carry_out(switches, lambda: question(now))
        else:
            item()

    def _carry_out(self, switches: Switches, answer: Callable[[], list[Result]]) -> None:
        try:
            for result in answer():
                match result:
                    case Send(connection, data):
                        switches.send(connection, data)
                    case Close(connection, reason):
                        switches.end(connection, reason)
                for watcher in self._watchers:
                    watcher(result)
        except Exception:
            self._log.exception("an event could not be dealt with")
            self._brain.distrust(self._clock())
