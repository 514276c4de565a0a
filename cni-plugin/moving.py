"""Ends UDP connections to endpoints that are gone, so that the next packet gets another endpoint.

The tracker remembers which endpoint a client of a service has. A TCP connection ends when its
endpoint does; a client that sends UDP would go on for as long as it sends often enough. So what the
tracker has of such connections is deleted when flows no longer lead to the endpoint.

The tracker is looked through when there is somewhere that flows lead no more; and once more when
the flows are in effect, for until then packets may be dealt with as before, and tracked. A look
reads the tracker first and the flows afterwards. In this order whatever stands in the tracker and
in no flow was committed by a flow that has been removed, and never by one that is yet to be heard
of.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from io import FileIO
from typing import Protocol

from ovsnet import logs
from ovsnet.cni.control import ControlError
from ovsnet.cni.flowupdates import Kind, WatchError
from ovsnet.cni.leads import Leads
from ovsnet.cni.servedudp import ServedUdp, deletion, stale
from ovsnet.cni.stampwatch import Stamp

_log = logs.get("moving")

_CONNECT_AGAIN = 0.5
_ASK_AGAIN = 5.0
"""Seconds after which a switch is asked again that runs and does not tell what it tracks."""

_FROM_TIME_TO_TIME = 300.0
"""Seconds after which the tracker is looked through though nothing has changed."""

_RESTS = 4
"""So many times as long as a look took none is taken: the switch does little else meanwhile."""

_NAMED = 10
"""So many endpoints at most are named in one line of the log."""


class Flows(Protocol):
    """The flows of UDP services, as the switch tells of them; `LeadWatch` is one.

    Raises WatchError.
    """

    @property
    def leads(self) -> Leads:
        """Where they lead, as far as the switch has told."""

    def catch_up(self) -> None:
        """Take in everything that the switch has said up to now."""

    def synchronise(self) -> None:
        """Return when everything is told that took effect before the call."""

    def wait(self, seconds: float | None, bell: int) -> None:
        """Return when the switch has said something, when the bell rings, or after so long."""

    def order(self, kind: Kind, bodies: Sequence[bytes]) -> None:
        """Have messages carried out, and return when they are."""


class Tracking(Protocol):
    """What the switch tracks; `Tracker` knows. Raises ControlError."""

    def connections(self) -> Sequence[ServedUdp]:
        """All UDP connections to services."""


class Agenda:
    """When the tracker is to be looked through, in seconds of a clock. First at once."""

    def __init__(self) -> None:
        self._ended: float | None = None
        self._rested = 0.0
        self._settled: Stamp | None = None
        self._in_effect = False

    def due(self, settled: Stamp | None, *, withdrawn: bool, serves: bool) -> float:
        """When to look next, if leads have been `withdrawn` since the last look or have not, and
        these flows are in effect. Without services there is nothing to look for.
        """
        if self._ended is None:
            return 0.0
        news = settled is not None and settled != self._settled
        if withdrawn or (news and not self._in_effect):
            return self._rested
        return self._ended + _FROM_TIME_TO_TIME if serves else math.inf

    def looked(self, began: float, ended: float, found: Stamp, settled: Stamp | None) -> None:
        """A look has `found` these flows, while others, or the same, were known to be in effect."""
        self._rested = ended + (ended - began) * _RESTS
        self._ended = ended
        self._settled = settled
        self._in_effect = found == settled


class Bell:
    """Rings for one who waits for descriptors (eventfd(2))."""

    def __init__(self) -> None:
        eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._file = FileIO(eventfd, "r+")

    @property
    def descriptor(self) -> int:
        """There is something to read from it while the bell rings."""
        return self._file.fileno()

    def ring(self) -> None:
        """Ring until it is hushed. From any thread."""
        self._file.write((1).to_bytes(8, sys.byteorder))

    def hush(self) -> None:
        """Ring no more."""
        self._file.read(8)

    def close(self) -> None:
        """Nobody rings or waits any more."""
        self._file.close()


class Moving:
    """The thread that ends these connections."""

    def __init__(
        self,
        flows: Callable[[], AbstractContextManager[Flows]],
        tracker: Callable[[], AbstractContextManager[Tracking]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_flows = flows
        self._open_tracker = tracker
        self._clock = clock
        self._settled: Stamp | None = None
        self._reason = ""
        self._bell = Bell()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="moving", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after what is under way. `settled` is not called any more."""
        self._stopping.set()
        self._bell.ring()
        self._thread.join()
        self._bell.close()

    def settled(self, stamp: Stamp | None) -> None:
        """These flows are in effect; None: it is not known which. From any thread, at once."""
        self._settled = stamp
        self._bell.ring()

    def _run(self) -> None:
        while not self._stopping.is_set():
            pause = _ASK_AGAIN
            try:
                self.follow()
            except WatchError as error:
                self._failed(str(error))
                pause = _CONNECT_AGAIN
            except ControlError as error:
                self._failed(str(error))
            except Exception as error:
                # Whatever it is, the next connection may do better.
                _log.exception("ending UDP connections failed")
                self._failed(f"{type(error).__name__}: {error}")
            self._stopping.wait(pause)

    def _failed(self, reason: str) -> None:
        if not self._stopping.is_set() and reason != self._reason:
            _log.warning("UDP connections may stay with endpoints that are gone", reason=reason)
        self._reason = reason

    def follow(self) -> None:
        """Look whenever it is time, for as long as the switch runs, or until `stop`.

        Raises:
            WatchError, ControlError: it does not run, or no longer, or refuses something.
        """
        with self._open_flows() as flows, self._open_tracker() as tracker:
            agenda = Agenda()
            while True:
                # Before the question: a ring by which `stop` ends the wait must not be hushed
                # between the two.
                self._bell.hush()
                if self._stopping.is_set():
                    return
                flows.catch_up()
                due = self._due(agenda, flows.leads)
                now = self._clock()
                if due <= now:
                    self._look(agenda, flows, tracker)
                else:
                    flows.wait(None if due == math.inf else due - now, self._bell.descriptor)

    def _due(self, agenda: Agenda, leads: Leads) -> float:
        # Without a stamp the flows are not all there: the controller has not written them yet, or
        # somebody has removed them. The kernel's tracker outlives that.
        if leads.stamp is None:
            return math.inf
        return agenda.due(self._settled, withdrawn=bool(leads.withdrawn()), serves=leads.serves)

    def _look(self, agenda: Agenda, flows: Flows, tracker: Tracking) -> None:
        leads = flows.leads
        began, settled, withdrawn = self._clock(), self._settled, leads.withdrawn()
        connections = tracker.connections()
        flows.synchronise()
        if leads.stamp is None:
            return
        found = stale(connections, leads.stands)
        if found:
            flows.order(Kind.EXPERIMENTER, [deletion(connection) for connection in found])
            self._tell(found)
        leads.forget(withdrawn)
        agenda.looked(began, self._clock(), leads.stamp, settled)
        if self._reason:
            _log.info("UDP connections leave endpoints that are gone again")
            self._reason = ""

    def _tell(self, ended: Sequence[ServedUdp]) -> None:
        endpoints = sorted({connection.target for connection in ended})
        more = {"more": len(endpoints) - _NAMED} if len(endpoints) > _NAMED else {}
        _log.info(
            "UDP connections ended: their endpoints are gone",
            number=len(ended),
            endpoints=endpoints[:_NAMED],
            **more,
        )
