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
So once the main loop has turned, a round is over as soon as the leader sleeps. The kernel tells
what a thread sleeps in.

With the userspace datapath rounds are not enough. A round reads the cache's own table while it
takes entries out of it; the table shrinks, others change places, and those that were cached since
the round before may be missed. And where an entry has to be changed, it is looked for by what it
matches and not by its name: a wider one that matches the same packet may be changed in its place,
and both stay wrong for good (dpif-netdev of Open vSwitch 3.1: dpctl/mod-flow shows it). So the
whole cache is thrown away there, and made anew by the packets that come.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from ovsnet.cni.control import Control, ControlError, datapaths
from ovsnet.cni.threads import Threads

_REQUESTS_A_TURN = 10
"""How many requests of one connection ovs-vswitchd answers in one turn of its main loop."""

_KERNEL = "system@"
_LOOK_AGAIN = 0.001
_ROUND_SECONDS = 30.0
"""No round takes longer, whatever is cached: beyond 2 s ovs-vswitchd begins to cache less."""

_IN_FLIGHT_SECONDS = 0.05
"""More than a thread takes to cache what it has made of up to 64 packets."""


class Commands(Protocol):
    """Has ovs-vswitchd carry out commands; `Control` does. Raises ControlError."""

    def ask(self, command: str, *arguments: str) -> str:
        """What one command prints."""

    def ask_all(self, commands: Sequence[tuple[str, ...]]) -> list[str]:
        """What several commands print that are sent in one go."""


class Seen(Protocol):
    """What ovs-vswitchd's threads do; `Threads` tells it."""

    @property
    def visible(self) -> bool:
        """Whether that can be seen."""

    @property
    def polls_ports(self) -> bool:
        """Whether there are threads that forward packets and never sleep."""

    def leader_rests(self) -> bool:
        """Whether the leader of the revalidators sleeps after a round."""

    def busy_handlers(self) -> frozenset[Path]:
        """The threads that deal with packets of which the cache knows nothing, and do so now."""


@contextlib.contextmanager
def connected(rundir: Path, proc: Path = Path("/proc")) -> Iterator[Revalidation]:
    """The revalidation of the ovs-vswitchd that runs, while the context lasts.

    Raises:
        ControlError: none does.
    """
    with Control(rundir) as control:
        yield Revalidation(control, Threads(proc, control.pid))


class Revalidation:
    """The revalidation of one ovs-vswitchd; for one thread."""

    def __init__(
        self,
        control: Commands,
        threads: Seen,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._control = control
        self._threads = threads
        self._clock = clock
        self._sleep = sleep

    def finish(self) -> None:
        """Return when every change made before the call shows in what happens to packets.

        Raises:
            ControlError: ovs-vswitchd does not answer, or has datapaths of several kinds, whose
                revalidators cannot be told apart.
        """
        found = datapaths(self._control.ask("upcall/show"))
        if len(found) > 1:
            raise ControlError(
                f"ovs-vswitchd has datapaths of several kinds ({', '.join(found)}): when a"
                " change is in effect can be known with one kind only"
            )
        kernel = any(d.startswith(_KERNEL) for d in found)
        self._turn()
        if not self._threads.visible:
            self._sleep(_IN_FLIGHT_SECONDS)
        elif self._threads.polls_ports or kernel:
            self._handlers_have_rested()
        if kernel:
            self._a_round_is_over()
            # It passes over what has been cached since the round before it.
            self._control.ask("revalidator/wait")
        else:
            # An entry that a revalidator has in hand is passed over: hence twice.
            for _ in range(2):
                self._a_round_is_over()
                self._control.ask("revalidator/purge")
        # A packet that the main thread was just forwarding as before is out by its next answer.
        self._control.ask("version")

    def _turn(self) -> None:
        """Return when the main thread has begun another turn of its loop."""
        self._control.ask_all([("version",)] * (_REQUESTS_A_TURN + 1))

    def _a_round_is_over(self) -> None:
        """Return after a round; where the threads are not seen, one that may have begun before."""
        if self._threads.visible:
            self._leader_rests()
        else:
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
