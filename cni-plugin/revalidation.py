"""Knows when what the switch does with packets accords with its flow tables.

A switch answers packets from a cache. After a change of the tables its revalidator threads go
through the cache and correct it, up to 0.1 s later for 15,000 cached flows; until then packets are
dealt with as before. `Revalidation.finish` returns when that is over for every change that was
made before it was called.

ovs-vswitchd works like this (ofproto-dpif-upcall.c): the main thread takes changes, and raises a
sequence number in the next turn of its loop. The leader of the revalidators notes the number,
leads the others through the whole cache, and then sleeps until the number is another one or half
a second has passed. `revalidator/wait` answers when a round ends, which may be one that began
before the change; and when the round that matters is over already, it answers half a second
later. What is certain is this: a leader that sleeps after its round has seen the newest number.
So once the main loop has turned, the cache is right as soon as the leader sleeps. The kernel tells
what a thread sleeps in.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from ovsnet.cni.control import Control, ControlError
from ovsnet.cni.threads import Threads

_REQUESTS_A_TURN = 10
"""How many requests of one connection ovs-vswitchd answers in one turn of its main loop."""

_KERNEL = "system@"
_LOOK_AGAIN = 0.001
_ROUND_SECONDS = 30.0
"""No round takes longer, whatever is cached: beyond 2 s ovs-vswitchd begins to cache less."""

_IN_FLIGHT_SECONDS = 0.05
"""More than a thread takes to cache what it has made of up to 64 packets."""


class Revalidation:
    """One connection to ovs-vswitchd. A context manager; for one thread."""

    def __init__(
        self,
        rundir: Path,
        proc: Path = Path("/proc"),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Connect.

        Raises:
            ControlError: ovs-vswitchd does not run.
        """
        self._control = Control(rundir)
        self._threads = Threads(proc, self._control.pid)
        self._clock = clock
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._control.__exit__(kind, error, trace)

    def finish(self) -> None:
        """Return when every change made before the call shows in what happens to packets.

        Raises:
            ControlError: ovs-vswitchd does not answer, or has datapaths of several kinds, whose
                revalidators cannot be told apart.
        """
        datapaths = _datapaths(self._control.ask("upcall/show"))
        if len(datapaths) > 1:
            raise ControlError(
                f"ovs-vswitchd has datapaths of several kinds ({', '.join(datapaths)}): when a"
                " change is in effect can be known with one kind only"
            )
        self._turn()
        if not self._threads.visible:
            self._sleep(_IN_FLIGHT_SECONDS)
            self._rounds(2)
        elif self._threads.polls_ports or any(d.startswith(_KERNEL) for d in datapaths):
            self._handlers_have_rested()
            self._leader_rests()
            self._rounds(1)
        else:
            self._leader_rests()
        # A packet that the main thread was just forwarding as before is out by its next answer.
        self._control.ask("version")

    def _turn(self) -> None:
        """Return when the main thread has begun another turn of its loop."""
        self._control.ask_all([("version",)] * (_REQUESTS_A_TURN + 1))

    def _rounds(self, number: int) -> None:
        """Return after so many ends of rounds, the first of which may have begun before."""
        for _ in range(number):
            self._control.ask("revalidator/wait")

    def _leader_rests(self) -> None:
        until = self._clock() + _ROUND_SECONDS
        while not self._threads.leader_rests():
            if self._clock() > until:
                raise ControlError(
                    f"ovs-vswitchd has not finished revalidating within {_ROUND_SECONDS:g} s"
                )
            self._sleep(_LOOK_AGAIN)

    def _handlers_have_rested(self) -> None:
        """Return when no thread is left with a packet that it took up before the change."""
        until = self._clock() + _IN_FLIGHT_SECONDS
        busy = self._threads.busy_handlers()
        while busy and self._clock() < until:
            self._sleep(_LOOK_AGAIN)
            busy &= self._threads.busy_handlers()


def _datapaths(shown: str) -> list[str]:
    """The datapaths that have revalidators, from what upcall/show prints."""
    return [line.rstrip(":") for line in shown.splitlines() if line[:1].strip()]
